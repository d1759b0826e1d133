#!/bin/bash
# image-root.sh FOLDER PACKAGE…: lays out, in the folder, the root of an image with what these packages of this machine hold
# and the libraries that it is linked to. Nothing is fetched.
set -euo pipefail
root=$1
shift
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{etc/containers,root,tmp,var/tmp,run,proc,sys,dev,workspace}
chmod 1777 "$root/tmp" "$root/var/tmp"
for folder in bin sbin lib lib64; do
  ln -s "usr/$folder" "$root/$folder"
done

for package; do
  dpkg --listfiles "$package"
done | grep -v -E '^/usr/share/(doc|man|locale|info|bash-completion|lintian|bug|zsh|fish|perl5)|^/\.$' >"$root/listed"
while IFS= read -r file; do
  if [ -f "$file" ]; then
    printf '%s\n' "$file"
  fi
done <"$root/listed" >"$root/files"
printf '%s\n' /bin/sh /usr/share/containers/* >>"$root/files"
# Most of them are linked to nothing, and ldd calls that a failure.
{ xargs -d '\n' -a "$root/files" ldd 2>/dev/null || true; } | grep -o '/[^ :]*' | grep '\.so' | sort -u >"$root/libraries"
sort -u "$root/files" "$root/libraries" >"$root/listed"
# A link's target comes with it.
{
  cat "$root/listed"
  xargs -d '\n' -a "$root/listed" readlink -f
} | sort -u | sed 's,^/,,' >"$root/files"
tar -C / -c --no-recursion -T "$root/files" | tar -C "$root" -x --keep-directory-symlink
rm "$root/listed" "$root/files" "$root/libraries"

printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$root/etc/containers/policy.json"
# With a file there STORAGE_DRIVER counts; without one this version of buildah chooses for itself.
printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
  >"$root/etc/containers/storage.conf"

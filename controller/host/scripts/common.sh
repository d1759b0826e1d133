# shellcheck shell=sh
# What every script begins with. Set before it, each as a quoted word: marker, instance, and what the script names.
#
# The scripts come over standard input, which may break off anywhere: all of them only define functions, and the last line
# of the last one starts.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
# Sshd compares with the host's own local time, whatever the admin's session says.
unset TZ CDPATH ENV
umask 077

mark="multi-platform-controller instance=$instance taskrun="

# answer JSON
answer() {
  printf '\n%s%s\n' "$marker" "$1"
}

# fail KIND TEXT [LEFT]: the text may hold anything; LEFT is true where something of the account may be there.
fail() {
  text=$(printf '%s' "$2" | tr '\n' ' ' | tr -cd ' -~' | tr -d '\\"' | cut -c -500)
  answer "{\"error\":\"$1\",\"text\":\"$text\",\"left\":${3-false}}"
  exit 0
}

need_root() {
  while read -r key user _; do
    [ "$key" != Uid: ] || break
  done </proc/self/status
  [ "$user" = 0 ] || fail not-root "user id $user"
}

# need COMMAND...
need() {
  for command in "$@"; do
    command -v "$command" >/dev/null || fail missing-command "$command"
  done
}

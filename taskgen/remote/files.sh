# What travels to the host and back.

# shellcheck disable=SC2034,SC2154 # other parts of the script set what this one uses, and use what it sets
# carry MODE FOLDER PATH [PATTERN…]: PATH lies in FOLDER on the host. Mode rw comes back, ro does not. What a PATTERN says,
# seen from PATH, stays out: it is carried by itself.
carry() {
  local pattern
  [ -e "$3" ] || return 0
  modes+=("$1") folders+=("$2") paths+=("$3")
  for pattern in "${@:4}"; do
    excludes+=("$2" "$pattern")
  done
}

# Registries' credentials lie where Tekton puts them, unless the Task itself mounts something there. Sets auth_file to where
# they will be on the host, and first to what brings them.
carry_credentials() {
  local i credentials=${HOME:-/root}/.docker
  first='' auth_file=''
  for i in "${!paths[@]}"; do
    [[ $credentials/ = "${paths[i]}"/* ]] || continue
    if [ -z "$first" ] || [ "${#paths[i]}" -gt "${#paths[first]}" ]; then
      first=$i
    fi
  done
  if [ -z "$first" ] && [ -e "$credentials" ]; then
    first=${#paths[@]}
    carry ro readonly/docker "$credentials"
  fi
  [ -z "$first" ] || auth_file=$folder/${folders[first]}${credentials#"${paths[first]}"}/config.json
}

# Times to the nanosecond: what was changed within a second of its making has changed all the same. No owners: on the host
# everything belongs to the account, which is root in the container; here to whoever this step runs as.
copy() {
  rsync --recursive --links --perms --times --modify-window=-1 --protect-args \
    "${compression[@]}" --rsh="ssh -F $private/config" "$@"
}

# Options for copying the folder, as $options.
set_options() {
  local i=$1 n
  options=()
  for ((n = 0; n < ${#excludes[@]}; n += 2)); do
    [ "${excludes[n]}" != "${folders[i]}" ] || options+=(--exclude="${excludes[n + 1]}")
  done
  # Wherever the key lies, it does not travel.
  if [[ $private = "${paths[i]}"/* ]]; then
    options+=(--exclude="${private#"${paths[i]}"}")
  fi
}

send() {
  local i=$1 slash='' result=0 options
  [ ! -d "${paths[i]}" ] || slash=/
  set_options "$i"
  options+=("${paths[i]}$slash" "build-host:$folder/${folders[i]}$slash")
  insist copy "${options[@]}" || result=$?
  [ "$result" != 23 ] || unreadable "${paths[i]}" >"$private/unreadable"
  if [ "$result" = 23 ] && [ -s "$private/unreadable" ]; then
    say "what cannot be read in ${paths[i]} is left out" >&2
    result=0
    insist copy --from0 --exclude-from="$private/unreadable" "${options[@]}" || result=$?
  fi
  # 24: a file went while it was being copied.
  case $result in
    0 | 24) ;;
    *) fail "cannot copy ${paths[i]} to $host (rsync exit code $result)" ;;
  esac
}

# Patterns for what this step cannot read here, such as lost+found on a claim: there it does without it, too.
unreadable() (
  shopt -s globstar dotglob nullglob
  for entry in "$1"/**; do
    if [ ! -L "$entry" ] && ! { [ -r "$entry" ] && { [ ! -d "$entry" ] || [ -x "$entry" ]; }; }; then
      printf '%s\0' "${entry#"$1"}"
    fi
  done | sed -z 's/[*?[]/[&]/g; s/\\/[\\\\]/g'
)

# What the step's script changed counts as well where it failed in the end, as it does in a local step.
fetch_everything() {
  local i
  remove_removed
  for i in "${!paths[@]}"; do
    [ "${modes[i]}" != rw ] || fetch "$i"
  done
}

# Times of folders stay here: nobody but a folder's owner may set them, and /workspace and /tekton/results are root's, whoever
# the step runs as.
fetch() {
  local i=$1 slash='' result=0 options prepare='' there
  [ ! -d "${paths[i]}" ] || slash=/
  there=$folder/${folders[i]}
  set_options "$i"
  # Nor may anybody else set its mode: it comes with the one that it has here.
  if [ "$EUID" != 0 ] && [ ! -O "${paths[i]}" ]; then
    prepare="podman unshare chmod$(quoted "$(stat --format %a "${paths[i]}")" "$there") && "
  fi
  # In the account's user namespace the files of all users of the container can be read.
  insist copy --omit-dir-times "${options[@]}" --rsync-path="${prepare}podman unshare rsync" "build-host:$there$slash" \
    "${paths[i]}$slash" || result=$?
  [ "$result" = 0 ] || not_fetched "cannot copy ${paths[i]} from $host (rsync exit code $result)"
}

# After a script that failed its exit code is what matters.
not_fetched() {
  [ "$code" != 0 ] || fail "$@"
  say "$@" >&2
}

# For find on the host: all that comes back.
find_arguments() {
  local i n prune=()
  for ((n = 0; n < ${#excludes[@]}; n += 2)); do
    prune+=(-path "${excludes[n]}${excludes[n + 1]}" -prune -o)
  done
  for i in "${!paths[@]}"; do
    [ "${modes[i]}" != rw ] || printf '%s\0' "${folders[i]}"
  done
  printf '%s\0' -mindepth 1 "${prune[@]}" -print0
}

# Just what the step's script removed; others may have added something here meanwhile.
remove_removed() {
  local list removed i n path
  mapfile -d '' -t list < <(find_arguments)
  if ! insist on_host sh "$folder/scripts/host" removed "${list[@]}" >"$private/removed"; then
    not_fetched "cannot list what was removed on $host"
    return 0
  fi
  mapfile -d '' -t removed <"$private/removed"
  for ((n = ${#removed[@]} - 1; n >= 0; n--)); do
    for i in "${!folders[@]}"; do
      [[ ${removed[n]} = "${folders[i]}"/* ]] || continue
      path=${paths[i]}/${removed[n]#"${folders[i]}/"}
      if [ -d "$path" ] && [ ! -L "$path" ]; then
        rmdir "$path" 2>/dev/null || true
      else
        rm -f "$path" || not_fetched "cannot remove $path, as the step's script did on $host"
      fi
    done
  done
}

# The cluster's side of a remote step: brings what the step's own script needs to the build host, runs it there in the
# step's own image, and brings back what it changed. taskgen puts this in front of that script; docs/taskgen.md says more.

# shellcheck disable=SC2154 # what this leaves open, taskgen writes behind it
set -euo pipefail
# A replacement is just text: bash 5.2 would give "&" in it a meaning.
shopt -u patsub_replacement 2>/dev/null || true

say() {
  TZ=UTC0 printf '[%(%FT%TZ)T] remote: %s\n' -1 "$*"
}

fail() {
  say "error: $*" >&2
  exit 1
}

# Each argument as one word of a POSIX shell, whatever is in it.
quoted() {
  local word escape="'\\''"
  for word; do
    printf " '%s'" "${word//\'/$escape}"
  done
}

fail_without_host() {
  if [ -e /ssh/error ]; then
    cat /ssh/error >&2
    echo >&2
    exit 1
  fi
  [ -e /ssh/host ] || fail 'the Secret mounted at /ssh names no host'
}

is_localhost() {
  [ "$(cat /ssh/host)" = localhost ]
}

platform_suffix() {
  [ "${IMAGE_APPEND_PLATFORM:-}" != true ] || printf '%s' "-${PLATFORM//[^a-zA-Z0-9]/-}"
}

# The step's own script is the rest of this file. Without "#!" it gets the first lines that Tekton would give it.
own_script() {
  local marker='# ---- The step.s own script, unchanged ----'
  if ! [[ $(sed "1,/^$marker\$/d" "$0" | head -c 4096) =~ ^[[:space:]]*'#!' ]]; then
    printf '#!/bin/sh\nset -e\n'
  fi
  sed "1,/^$marker\$/d" "$0"
}

# Until the step's own script runs right here, no variable may be set: it could be one that the script has in its
# environment.
append_platform() {
  for _; do
    export "$1=${!1}$(platform_suffix)"
    shift
  done
}

# run_here script|command ARGUMENT…
run_here() {
  say 'the host is localhost: the step runs right here'
  if [ "$1" = script ]; then
    set -- "$(mktemp -d)/script" "${@:2}"
    # shellcheck disable=SC2064 # the path as it is now
    trap "rm -rf$(quoted "${1%/script}")" EXIT
    own_script >"$1"
    chmod 0755 "$1"
  else
    shift
  fi
  "$@"
  exit
}

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

# run_on_host script|command ARGUMENT…
run_on_host() {
  local tool
  umask 077
  # In memory where there is any to write to.
  private=$(mktemp -d -p /dev/shm taskgen.XXXXXX 2>/dev/null || mktemp -d -p /tmp taskgen.XXXXXX)
  layout='' running='' built_image=''
  trap clean_up EXIT
  trap cancel HUP INT TERM
  for tool in ssh rsync ${storage:+buildah}; do
    command -v "$tool" >/dev/null || fail "this step's image has no $tool, which a remote step needs"
  done
  prepare_ssh
  carry_credentials
  say "connecting to $host"
  connect
  prepare_folder
  say "copying to $host"
  send_everything "$@"
  say "running on $host"
  run
  say "copying from $host"
  fetch_everything
  if [ "$code" != 0 ]; then
    say "error: the step's script ended with exit code $code on $host" >&2
    exit "$code"
  fi
  [ -z "$storage" ] || fetch_image
  say 'done'
}

clean_up() {
  ssh -F "$private/config" -O exit build-host 2>/dev/null || true
  rm -rf "$private" ${layout:+"$layout"}
}

# The container ends when its connection does, whoever ends that. Asking for it is faster.
cancel() {
  trap '' HUP INT TERM
  say "cancelled: ending the step on $host" >&2
  [ -z "$running" ] || kill "$running" 2>/dev/null || true
  timeout 10 ssh -F "$private/config" build-host "podman kill remote-step" >/dev/null 2>&1 || true
  say 'error: the step was cancelled' >&2
  exit 143
}

# Sets host and folder.
prepare_ssh() {
  local checking=accept-new
  host=$(cat /ssh/host)
  [[ $host =~ ^[[:alnum:]_.-]+@[[:alnum:]_.:%-]+$ ]] || fail 'the host in the Secret is not user@address'
  folder=$(cat /ssh/user-dir)/remote-step
  if [ -e /ssh/otp ]; then
    curl --silent --show-error --fail --cacert /ssh/otp-ca -XPOST -d @/ssh/otp "$(cat /ssh/otp-server)" \
      >"$private/key" || fail 'cannot get the key from the server of one-time passwords'
  else
    cat /ssh/id_rsa >"$private/key"
  fi
  # OpenSSH reads no key without a newline at its end.
  echo >>"$private/key"
  chmod 0400 "$private/key"
  : >"$private/known_hosts"
  if [ -s /ssh/known_hosts ]; then
    cat /ssh/known_hosts >"$private/known_hosts"
    checking=yes
  fi
  cat >"$private/config" <<CONFIG
Host build-host
  HostName ${host##*@}
  Port $(if [ -e /ssh/port ]; then cat /ssh/port; else echo 22; fi)
  User ${host%@*}
  IdentityFile $private/key
  IdentitiesOnly yes
  UserKnownHostsFile $private/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking $checking
  BatchMode yes
  LogLevel ERROR
  ConnectTimeout 30
  ServerAliveInterval 15
  ServerAliveCountMax 4
  ControlPath $private/control
CONFIG
}

# One connection carries everything that follows.
connect() {
  local pause
  for pause in 1 2 4 8 0; do
    rm -f "$private/control"
    if ssh -F "$private/config" -fNM build-host >/dev/null 2>"$private/ssh.log"; then
      return
    fi
    sleep "$pause"
  done
  fail "cannot connect to $host: $(tail -n 1 "$private/ssh.log")"
}

# on_host COMMAND ARGUMENT…
on_host() {
  ssh -F "$private/config" build-host "$(quoted "$@")"
}

# A TaskRun that is tried again finds the same account: nothing of the former try may be left.
prepare_folder() {
  # shellcheck disable=SC2016 # for the host's shell
  insist on_host sh -c '
    umask 077
    for tool in podman rsync; do
      command -v "$tool" >/dev/null || { echo "the host has no $tool" >&2; exit 1; }
    done
    if [ -e "$1" ]; then
      podman rm --force remote-step >/dev/null 2>&1
      podman unshare rm -rf "$1"
    fi
    mkdir -p "$1/workspaces" "$1/volumes" "$1/readonly" "$1/image"
  ' sh "$folder" || fail "cannot prepare $folder on $host"
}

# Again when it was the connection that failed (ssh: 255; rsync: 12, 30, 35). Never for the step's script.
insist() {
  local pause result
  for pause in 1 4 0; do
    "$@" && return
    result=$?
    case $result in
      12 | 30 | 35 | 255) ;;
      *) return "$result" ;;
    esac
    sleep "$pause"
    ssh -F "$private/config" -O check build-host 2>/dev/null || connect
  done
  return "$result"
}

# Times to the nanosecond: what was changed within a second of its making has changed all the same. No owners: on the host
# everything belongs to the account, which is root in the container; here to whoever this step runs as.
copy() {
  rsync --recursive --links --perms --times --modify-window=-1 --compress --protect-args \
    --rsh="ssh -F $private/config" "$@"
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

send_everything() {
  local i pull
  write_scripts "$@"
  insist copy "$private/scripts/" "build-host:$folder/scripts/" || fail "cannot copy the step's script to $host"
  [ -z "$first" ] || send "$first"
  on_host sh "$folder/scripts/host" pull "$BUILDER_IMAGE" "$auth_file" >"$private/pull.log" 2>&1 &
  pull=$!
  for i in "${!paths[@]}"; do
    [ "$i" = "$first" ] || send "$i"
  done
  if ! wait "$pull"; then
    cat "$private/pull.log" >&2
    fail "cannot get the image $BUILDER_IMAGE on $host"
  fi
}

write_scripts() {
  local entry name form=$1 suffix
  shift
  suffix=$(platform_suffix)
  mkdir "$private/scripts"
  host_script >"$private/scripts/host"
  container_script >"$private/scripts/container"
  if [ "$form" = script ]; then
    own_script >"$private/scripts/step"
    chmod 0755 "$private/scripts/step"
    set -- /tekton/scripts/step "$@"
  fi
  printf 'set --%s\n' "$(quoted "$@")" >"$private/scripts/arguments"
  # Values as they were when this script began, whatever it uses variables of these names for.
  while IFS= read -r -d '' entry; do
    name=${entry%%=*}
    [[ " HOME ${env_names[*]} " = *" $name "* ]] || continue
    if [[ " ${image_names[*]} " = *" $name "* ]]; then
      entry+=$suffix
    fi
    if [ -n "$storage" ] && [ "$name" = "${image_names[0]}" ]; then
      built_image=${entry#*=}
    fi
    printf 'export%s\n' "$(quoted "$entry")"
  done <"/proc/$$/environ" >"$private/scripts/environment"
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
  insist copy "${options[@]}" "${paths[i]}$slash" "build-host:$folder/${folders[i]}$slash" || result=$?
  # 24: a file went while it was being copied.
  case $result in
    0 | 24) ;;
    *) fail "cannot copy ${paths[i]} to $host (rsync exit code $result)" ;;
  esac
}

# Sets code.
run() {
  local i mounts=() list alive
  for i in "${!paths[@]}"; do
    mounts+=(--volume "$folder/${folders[i]}:${paths[i]}:${modes[i]},Z")
  done
  if [ -n "$storage" ]; then
    mounts+=(--volume "$storage" --volume "$folder/image:/tekton/image:Z")
  fi
  if [ "${PRIVILEGED_NESTED:-}" = true ]; then
    mounts+=(--privileged --volume /var/tmp)
  fi
  mapfile -d '' -t list < <(find_arguments)
  insist on_host sh "$folder/scripts/host" note "${list[@]}" || fail "cannot list the copied files on $host"

  # The input stays open for as long as this process lives, or the connection does.
  exec {alive}<> <(:)
  code=0
  on_host sh "$folder/scripts/host" run "${podman_options[@]}" "${mounts[@]}" \
    --volume "$folder/scripts:/tekton/scripts:ro,Z" --workdir "$PWD" --entrypoint /bin/sh \
    "$BUILDER_IMAGE" /tekton/scripts/container ${built_image:+"$built_image"} <&"$alive" &
  running=$!
  wait "$running" || code=$?
  running=''
  # The connection's failure, or the script's own exit code: the host has noted which.
  if [ "$code" = 255 ]; then
    code=$(on_host cat "$folder/code") || fail "lost the connection to $host while the step's script ran"
  fi
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

# What the step's script changed counts as well where it failed in the end, as it does in a local step.
fetch_everything() {
  local i
  remove_removed
  for i in "${!paths[@]}"; do
    [ "${modes[i]}" != rw ] || fetch "$i"
  done
}

fetch() {
  local i=$1 slash='' result=0 options
  [ ! -d "${paths[i]}" ] || slash=/
  set_options "$i"
  # In the account's user namespace the files of all users of the container can be read.
  insist copy "${options[@]}" --rsync-path='podman unshare rsync' "build-host:$folder/${folders[i]}$slash" \
    "${paths[i]}$slash" || result=$?
  [ "$result" = 0 ] || not_fetched "cannot copy ${paths[i]} from $host (rsync exit code $result)"
}

# After a script that failed its exit code is what matters.
not_fetched() {
  [ "$code" != 0 ] || fail "$@"
  say "$@" >&2
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
        rm -f "$path"
      fi
    done
  done
}

# The layers that the storage here has already are not copied: they have their digests for names.
fetch_image() {
  local image layer id known=()
  say "bringing $built_image into the storage here"
  for image in $(buildah images --quiet); do
    for layer in $(buildah inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$image"); do
      known+=(--exclude="/${layer#*:}")
    done
  done
  layout=$(mktemp -d -p "$storage" taskgen.XXXXXX)
  insist copy "${known[@]}" "build-host:$folder/image/" "$layout/" || fail "cannot copy the image from $host"
  id=$(buildah pull --quiet "dir:$layout") || fail "cannot put the image into the storage here"
  buildah tag "$id" "$built_image"
}

# The course of a remote step.

# shellcheck disable=SC2034,SC2154 # other parts of the script set what this one uses, and use what it sets
# run_on_host script|command ARGUMENT…
run_on_host() {
  local tool
  # In memory where there is any to write to.
  private=$(mktemp -d -p /dev/shm taskgen.XXXXXX 2>/dev/null || mktemp -d -p /tmp taskgen.XXXXXX)
  host='the host' layout='' running='' built_image='' compression=()
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

# A TaskRun that is tried again finds the same account: nothing of the former try may be left.
prepare_folder() {
  local version
  # shellcheck disable=SC2016 # for the host's shell
  version=$(insist on_host sh -c '
    for tool in podman rsync; do
      command -v "$tool" >/dev/null || { echo "the host has no $tool" >&2; exit 1; }
    done
    if [ -e "$1" ]; then
      podman rm --force remote-step >/dev/null 2>&1
      podman unshare rm -rf "$1"
    fi
    mkdir -p -m 0700 "$1"
    mkdir "$1/workspaces" "$1/volumes" "$1/readonly" "$1/image"
    rsync --version
  ' sh "$folder") || fail "cannot prepare $folder on $host"
  # The one compression that costs less time than a fast network takes for what it saves (docs/taskgen.md).
  if [[ $version = *lz4* && $(rsync --version) = *lz4* ]]; then
    compression=(--compress --compress-choice=lz4)
  fi
}

send_everything() {
  local i pull result=0
  write_scripts "$@"
  insist copy "$private/scripts/" "build-host:$folder/scripts/" || fail "cannot copy the step's script to $host"
  [ -z "$first" ] || send "$first"
  pull_image &
  pull=$!
  for i in "${!paths[@]}"; do
    [ "$i" = "$first" ] || send "$i"
  done
  wait "$pull" || result=$?
  if [ "$result" = 255 ]; then
    result=0
    insist pull_image || result=$?
  fi
  if [ "$result" != 0 ]; then
    cat "$private/pull.log" >&2
    fail "cannot get the image $BUILDER_IMAGE on $host"
  fi
}

pull_image() {
  on_host sh "$folder/scripts/host" pull "$BUILDER_IMAGE" "$auth_file" >"$private/pull.log" 2>&1
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
  printf 'mkdir -p%s && cd%s && set --%s\n' "$(quoted "$PWD")" "$(quoted "$PWD")" "$(quoted "$@")" \
    >"$private/scripts/arguments"
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
    --volume "$folder/scripts:/tekton/scripts:ro,Z" --entrypoint /bin/sh \
    "$BUILDER_IMAGE" /tekton/scripts/container ${built_image:+"$built_image"} <&"$alive" &
  running=$!
  wait "$running" || code=$?
  running=''
  # The connection's failure, or the script's own exit code: the host has noted which.
  if [ "$code" = 255 ]; then
    code=$(on_host cat "$folder/code") || fail "lost the connection to $host while the step's script ran"
  fi
}

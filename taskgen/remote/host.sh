#!/bin/sh
# The build host's side of a remote step (docs/taskgen.md). Runs as the account that is there for this TaskRun alone.
#   host pull IMAGE AUTH_FILE
#   host note FIND_ARGUMENT…     remembers what there is
#   host run PODMAN_ARGUMENT…    ends as the container does; ends the container when the input ends
#   host removed FIND_ARGUMENT…  prints what there was and is no more, each path ended by a NUL
set -eu
cd "${0%/scripts/host}"

pull() {
  [ ! -e "$2" ] || export REGISTRY_AUTH_FILE="$2"
  for pause in 1 4 0; do
    ! podman image exists "$1" || return 0
    ! podman pull --quiet "$1" || return 0
    sleep "$pause"
  done
  return 1
}

# A script may leave files that only its container's users can see.
list() {
  podman unshare find "$@" | LC_ALL=C sort -z
}

run() {
  exec 3<&0 </dev/null
  # Of the environment of podman nothing is for the container, and of the host's secrets neither (RHEL mounts its
  # subscription into every container).
  podman run --name remote-step --rm --pull never --user 0 --http-proxy=false --tmpfs /run/secrets "$@" 3<&- &
  podman=$!
  {
    while read -r _ <&3; do :; done
    touch cut
    until podman kill remote-step || ! kill -0 "$podman"; do sleep 1; done
  } >/dev/null 2>&1 &
  watch=$!
  code=0
  wait "$podman" || code=$?
  kill "$watch" 2>/dev/null || true
  [ -e cut ] || echo "$code" >code
  # In the account's user namespace folders that it may not write to can be emptied.
  podman unshare rm -rf readonly scripts/environment scripts/arguments || true
  return "$code"
}

command=$1
shift
case $command in
  pull) pull "$@" ;;
  note) list "$@" >noted ;;
  run) run "$@" ;;
  removed)
    list "$@" >left
    LC_ALL=C comm -z -23 noted left
    ;;
esac

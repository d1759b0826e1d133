# The cluster's side of a remote step: brings what the step's own script needs to the build host, runs it there in the
# step's own image, and brings back what it changed. taskgen puts this in front of that script; docs/taskgen.md says more.

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

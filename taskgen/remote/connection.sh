# How the cluster's side of a remote step reaches the host.

# shellcheck disable=SC2034,SC2154 # other parts of the script set what this one uses, and use what it sets
# Sets host and folder.
prepare_ssh() {
  local checking=accept-new port
  host=$(cat /ssh/host)
  port=$(if [ -e /ssh/port ]; then cat /ssh/port; else echo 22; fi)
  folder=$(cat /ssh/user-dir)/remote-step
  [[ $host =~ ^[[:alnum:]_.-]+@[[:alnum:]_.:%-]+$ && $port =~ ^[0-9]+$ && $folder =~ ^/[^:]+$ ]] ||
    fail 'the Secret mounted at /ssh does not say where the host is'
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
  Port $port
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
  for pause in 1 4 0; do
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

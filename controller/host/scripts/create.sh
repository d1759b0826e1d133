# shellcheck shell=sh disable=SC2154
# Besides instance: account, taskrun, public_key, expires (seconds since 1970), max_processes and cpu_minutes (may be empty).

add_entry() {
  # Useradd gives subordinate ids only where these are there. Rootless containers need them, and read these files themselves.
  for file in /etc/subuid /etc/subgid; do
    [ -e "$file" ] || (umask 022 && : >"$file") || return
  done
  shell=/bin/bash
  [ -x "$shell" ] || shell=/bin/sh
  # The entry expires as well: its owner may write other keys, without an end, beside ours. In whole days of UTC: the day after.
  # "*": no password. Sshd keeps accounts with "!" out altogether where it works without PAM.
  useradd --no-create-home --user-group --home-dir "$home" --comment "$mark$taskrun" --shell "$shell" \
    --password '*' --expiredate "$((expires / 86400 + 1))" "$account"
}

# All of it is there before the account owns it: nobody can turn a path elsewhere meanwhile.
add_home() {
  mkdir "$home" "$home/.ssh" || return
  # Without a zone: older OpenSSH knows only local time.
  until=$(date -d "@$expires" +%Y%m%d%H%M%S) || return
  printf 'expiry-time="%s" %s\n' "$until" "$public_key" >"$home/.ssh/authorized_keys" || return
  chown -R "$account:$account" "$home" || return
  [ ! -e /sys/fs/selinux/enforce ] || ! command -v restorecon >/dev/null || restorecon -RF "$home"
}

add_limits() {
  [ -n "$max_processes$cpu_minutes" ] || return 0
  {
    [ -z "$max_processes" ] || printf '%s - nproc %s\n' "$account" "$max_processes"
    [ -z "$cpu_minutes" ] || printf '%s - cpu %s\n' "$account" "$cpu_minutes"
  } >"/etc/security/limits.d/$account.conf"
}

give_up() {
  why="$1 $(diagnose)"
  look_up
  left=
  if [ "$found" = ours ]; then
    trust_entry
    erase_account
  fi
  [ -n "$left" ] || erase_traces
  [ -z "$left" ] || fail failed "$why; still there: $left" true
  fail failed "$why"
}

create() {
  need_root
  need awk chown date find flock grep groupdel head ipcrm mkdir prlimit rm setpriv sleep timeout umount useradd userdel usermod
  default_base
  expect_base
  clear_the_way
  home=$base/$account
  problem=$(add_entry 2>&1) || give_up "$problem"
  problem=$({ add_limits && add_home; } 2>&1) || give_up "$problem"
  answer "{\"ok\":true,\"home\":\"$home\"}"
}

create </dev/null

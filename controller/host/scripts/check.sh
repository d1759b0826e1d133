# shellcheck shell=sh disable=SC2154

check() {
  need_root
  need awk chown cut date find flock getent grep groupdel head ipcrm mkdir prlimit rm setpriv sleep timeout tr umount useradd \
    userdel usermod
  # Removing an account relies on what it finds, so it must know all that it is asked.
  find / -maxdepth 0 -ignore_readdir_race -xdev -mindepth 1 -prune -uid +1 -execdir true '{}' + -quit >/dev/null 2>&1 ||
    fail missing-command 'find of GNU findutils'
  default_base
  expect_base
  problem=$(diagnose)
  [ -z "$problem" ] || fail failed "$problem"
  answer "{\"ok\":true,\"now\":$(date +%s)}"
}

check </dev/null

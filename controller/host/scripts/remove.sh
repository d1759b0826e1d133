# shellcheck shell=sh disable=SC2154
# Besides instance: account.

remove() {
  need_root
  need awk find flock grep groupdel ipcrm prlimit rm setpriv sleep timeout umount useradd userdel usermod
  lock_account
  default_base
  look_up
  case $found in
    foreign) fail foreign-account "$account" ;;
    ours)
      trust_entry
      erase_account
      [ -z "$left" ] || fail left "$left" true
      ;;
  esac
  erase_traces
  [ -z "$left" ] || fail left "$left" true
  answer '{"ok":true}'
}

remove </dev/null

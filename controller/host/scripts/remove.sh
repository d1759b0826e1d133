# shellcheck shell=sh disable=SC2154
# Besides instance: account.

remove() {
  need_root
  need awk find flock grep groupdel ipcrm prlimit rm setpriv sleep timeout umount useradd userdel usermod
  default_base
  clear_the_way
  answer '{"ok":true}'
}

remove </dev/null

# shellcheck shell=sh
# What every script begins with. Set before it, each as a quoted word: marker, instance, and what the script names.
#
# The scripts come over standard input, which may break off anywhere: all of them only define functions, and the last line
# of the last one starts.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
# Sshd compares with the host's own local time, whatever the admin's session says.
unset TZ CDPATH ENV
umask 077

mark="multi-platform-controller instance=$instance taskrun="

# answer JSON
answer() {
  printf '\n%s%s\n' "$marker" "$1"
}

# fail KIND TEXT [LEFT]: the text may hold anything; LEFT is true where something of the account may be there.
fail() {
  text=$(printf '%s' "$2" | tr '\n' ' ' | tr -cd ' -~' | tr -d '\\"' | cut -c -500)
  answer "{\"error\":\"$1\",\"text\":\"$text\",\"left\":${3-false}}"
  exit 0
}

need_root() {
  [ "$(id -u)" = 0 ] || fail not-root "$(id)"
}

# need COMMAND...
need() {
  for command in "$@"; do
    command -v "$command" >/dev/null || fail missing-command "$command"
  done
}

# Nothing else happens to this account meanwhile, however many connections ask. The lock goes with the script's process.
lock_account() {
  locks=/run/multi-platform-controller
  [ -d "$locks" ] || mkdir -m 0700 "$locks" 2>/dev/null
  bucket=${account%"${account#u-??}"}
  command exec 9>"$locks/$bucket.lock" || fail failed "cannot make a lock file in $locks"
  flock -w 10 9 || fail busy "$account"
}

# Sets found to none, ours or foreign, and where there is an account uid and home.
look_up() {
  found=none
  IFS=: read -r uid mates gecos home <<LINE
$(awk -F: -v name="$account" '
    { mates[$3] = mates[$3] " " $1 }
    $1 == name { uid = $3; rest = $5 ":" $6; there = 1 }
    END { if (there) print uid ":" mates[uid] ":" rest }' /etc/passwd)
LINE
  [ -n "$uid" ] || return 0
  found=foreign
  case $gecos in
    "$mark"*) found=ours ;;
  esac
}

# Refuses what no account of ours can look like, before anything is killed or deleted by these values.
trust_entry() {
  case $home in
    */../* | */./* | *//* | *[!A-Za-z0-9._/-]*) fail foreign-account "home $home" ;;
    /*/"$account") ;;
    *) fail foreign-account "home $home" ;;
  esac
  case $uid in
    *[!0-9]*) fail foreign-account "uid $uid" ;;
  esac
  [ "$uid" -ge 500 ] || fail foreign-account "uid $uid"
  [ "$mates" = " $account" ] || fail foreign-account "uid $uid is shared:$mates"
}

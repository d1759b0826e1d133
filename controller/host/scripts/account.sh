# shellcheck shell=sh disable=SC2154
# What every script that changes an account begins with.

# Nothing else happens to this account meanwhile, however many connections ask. The lock goes with the script's process.
lock_account() {
  locks=/run/multi-platform-controller
  [ -d "$locks" ] || mkdir -m 0700 "$locks" 2>/dev/null
  bucket=${account%"${account#u-??}"}
  command exec 9>"$locks/$bucket.lock" || fail failed "cannot make a lock file in $locks"
  flock -w 10 9 || fail busy "$account"
}

# Sets found to none, ours or foreign; where there is an account also uid, home, mates (all accounts with that number) and
# ranges: "first:last" of each range of subordinate ids.
look_up() {
  set -- /etc/passwd
  [ ! -e /etc/subuid ] || set -- "$@" /etc/subuid
  IFS=: read -r uid mates gecos home ranges <<LINE
$(awk -F: -v name="$account" '
    FILENAME == "/etc/passwd" { mates[$3] = mates[$3] " " $1 }
    FILENAME == "/etc/passwd" && $1 == name { there = 1; uid = $3; rest = $5 ":" $6 }
    FILENAME == "/etc/subuid" && there && ($1 == name || $1 == uid) && $2 ~ /^[0-9]+$/ && $2 >= 500 && $3 ~ /^[1-9][0-9]*$/ {
      ranges = ranges sprintf("%.0f:%.0f ", $2, $2 + $3 - 1)
    }
    END { if (there) print uid ":" mates[uid] ":" rest ":" ranges }' "$@")
LINE
  found=none
  [ -n "$uid" ] || return 0
  found=foreign
  case $gecos in
    "$mark"*) found=ours ;;
  esac
}

# Refuses what no account of ours can look like, before anything is killed or deleted by these values.
trust_entry() {
  case $home in
    */../* | */./* | *//* | *[!A-Za-z0-9._/-]*) fail foreign-account "$account has the home $home" ;;
    /*/"$account") ;;
    *) fail foreign-account "$account has the home $home" ;;
  esac
  case $uid in
    *[!0-9]*) fail foreign-account "$account has the user id $uid" ;;
  esac
  [ "$uid" -ge 500 ] || fail foreign-account "$account has the user id $uid"
  [ "$mates" = " $account" ] || fail foreign-account "user id $uid is shared by$mates"
}

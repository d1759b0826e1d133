# shellcheck shell=sh disable=SC2154
# erase_account takes away an account and all that it has. It expects account, uid and home, checked, and the lock.

# Sets ranges to "first:last" of each subordinate range, user ids and group ids.
find_ranges() {
  ranges=$(awk -F: -v name="$account" -v uid="$uid" '
    ($1 == name || $1 == uid) && $2 ~ /^[0-9]+$/ && $2 >= 500 && $3 ~ /^[1-9][0-9]*$/ { printf "%.0f:%.0f ", $2, $2 + $3 - 1 }
    ' /etc/subuid 2>/dev/null)
}

# No new login. That it also works on a full disk is not sure: it is tried again when the files are gone.
shut_out() {
  shell=/usr/sbin/nologin
  [ -x "$shell" ] || shell=/bin/false
  problem=$(usermod --lock --expiredate 1 --shell "$shell" "$account" 2>&1)
}

# Sets pids and objects (arguments for ipcrm) to what runs under the account's user ids.
look_at_kernel() {
  pids='' objects=''
  while read -r what id; do
    case $what in
      pid) pids="$pids $id" ;;
      -[mqs]) objects="$objects $what $id" ;;
    esac
  done <<LINES
$(grep -sHE '^(State|Uid):' /proc/[0-9]*/status | awk -v uid="$uid" -v ranges="$ranges" '
    function is_ours(id,    i) {
      if (id == uid) return 1
      for (i = 1; i <= count; i++) if (id >= first[i] && id <= last[i]) return 1
      return 0
    }
    BEGIN {
      count = split(ranges, parts, " ")
      for (i = 1; i <= count; i++) { split(parts[i], ends, ":"); first[i] = ends[1] + 0; last[i] = ends[2] + 0 }
    }
    FILENAME == "/proc/sysvipc/shm" { if (FNR > 1 && (is_ours($8) || is_ours($10))) print "-m", $2; next }
    FILENAME == "/proc/sysvipc/msg" { if (FNR > 1 && (is_ours($8) || is_ours($10))) print "-q", $2; next }
    FILENAME == "/proc/sysvipc/sem" { if (FNR > 1 && (is_ours($5) || is_ours($7))) print "-s", $2; next }
    $1 ~ /:State:$/ { is_dead = ($2 == "Z" || $2 == "X"); next }
    !is_dead && (is_ours($2) || is_ours($3) || is_ours($4) || is_ours($5)) {
      split($1, path, "/")
      print "pid", path[3]
    }' - /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem 2>/dev/null)
LINES
}

# Until none is left, 20 rounds and some seconds at most.
end_processes() {
  round=0
  while look_at_kernel && [ -n "$pids" ] && [ "$round" -lt 20 ]; do
    round=$((round + 1))
    [ "$round" -lt 4 ] || sleep 0.2
    # All at once and without a race, where systemd gave the account a control group.
    group=/sys/fs/cgroup/user.slice/user-$uid.slice/cgroup.kill
    [ ! -w "$group" ] || echo 1 >"$group"
    # To -1, as the account: the kernel lets nothing fork between two of its signals. With root's group still, the account
    # cannot trace this helper (ptrace(2)); it may stop it, so there is a limit.
    timeout -s KILL 3 prlimit --nproc=unlimited --core=0 -- \
      setpriv --reuid="$uid" --clear-groups -- /bin/sh -c 'kill -9 -1' >/dev/null 2>&1 9>&-
    # What that may not reach: subordinate ids outside of the account's own user namespaces.
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null
    sleep 0.01
  done
}

# A mount inside the home would be emptied with it. The account itself can only have made FUSE mounts; they are taken away
# with its own rights, since their path may be turned elsewhere at any time.
unmount_all() {
  while read -r kind mount; do
    [ -n "$mount" ] || continue
    # The dot keeps line feeds at the end.
    mount=$(printf '%b.' "$mount")
    mount=${mount%.}
    case $kind in
      home) umount -l -- "$mount" ;;
      own)
        for tool in fusermount3 fusermount; do
          setpriv --reuid="$uid" --clear-groups -- "$tool" -u -z -- "$mount" && break
        done
        ;;
    esac >/dev/null 2>&1
  done <<LINES
$(mounts)
LINES
}

# Prints "home", "own" or "other" and the mount point, in octal where it is not plain, for each mount of the account.
mounts() {
  grep -sF -e " $home" -e "user_id=$uid," /proc/self/mountinfo | awk -v home="$home" -v uid="$uid" '
    {
      for (i = 7; $i != "-"; i++);
      is_own = $(i + 1) ~ /^fuse/ && ("," $(i + 3) ",") ~ (",user_id=" uid ",")
      kind = $5 == home ? "home" : is_own ? "own" : index($5, home "/") == 1 ? "other" : ""
      gsub(/\\/, "\\0", $5)
      if (kind != "") line[++count] = kind " " $5
    }
    END { for (; count > 0; count--) print line[count] }'
}

# Prints the folders outside of its home where an account can have files.
shared_folders() {
  for folder in /tmp /var/tmp /dev/shm /dev/mqueue /run/lock /run/screen /var/crash \
    /var/spool/cron /var/spool/at /var/mail /var/spool/mail; do
    [ ! -d "$folder" ] || echo "$folder"
  done
}

# find_files ACTION...: with -execdir, find stands in the folder of what it found, so that nobody can turn the path elsewhere.
find_files() {
  set -- \) -prune "$@"
  for range in $ranges; do
    set -- -o -uid "+$((${range%:*} - 1))" -uid "-$((${range#*:} + 1))" "$@"
  done
  # shellcheck disable=SC2046
  find $(shared_folders) -xdev -mindepth 1 \( -uid "$uid" "$@" 2>/dev/null
}

# With systemd, the runtime folder of the account is a mount that systemd has to take away itself, or it would be missing when
# the number is used again.
end_session() {
  linger=/var/lib/systemd/linger/$account
  [ ! -e "$linger" ] || rm -f "$linger"
  if [ -e "/run/systemd/users/$uid" ] && command -v loginctl >/dev/null; then
    timeout 10 loginctl terminate-user "$uid" >/dev/null 2>&1
    tries=0
    while [ -d "/run/user/$uid" ] && [ "$tries" -lt 50 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
  fi
  [ -d "/run/user/$uid" ] || return 0
  umount -l "/run/user/$uid" 2>/dev/null
  rm -rf --one-file-system "/run/user/$uid"
}

delete_files() {
  unmount_all
  end_session
  remaining=$(mounts)
  if [ -z "$remaining" ]; then
    problem=$(rm -rf --one-file-system -- "$home" "/etc/security/limits.d/$account.conf" "/run/faillock/$account" \
      "/var/lib/sudo/lectured/$account" "/run/sudo/ts/$account" 2>&1)
  fi
  find_files -execdir rm -rf --one-file-system -- '{}' +
  # shellcheck disable=SC2086
  [ -z "$objects" ] || ipcrm $objects >/dev/null 2>&1
}

# Prints what is there still, a few of each kind.
remains() {
  look_at_kernel
  for pid in $pids; do
    read -r name 2>/dev/null <"/proc/$pid/comm" && echo "process $pid ($name)"
  done | head -n 3
  [ -z "$objects" ] || echo "IPC objects$objects"
  [ -z "$remaining" ] || echo "mount ${remaining#* }" | head -n 1
  if [ -e "$home" ] || [ -L "$home" ]; then echo "$home ($problem)"; fi
  find_files -print | head -n 3
}

# The entry carries the mark: it goes last, so that whatever was cut short is found again.
delete_entry() {
  problem=$(userdel --force "$account" 2>&1)
  ! grep -qs "^$account:" /etc/group || groupdel "$account" 2>/dev/null
  look_up
  [ "$found" = none ] || echo "account ($problem)"
}

# Prints what could not be taken away; nothing where all is gone.
erase_account() {
  find_ranges
  shut_out || was_open=yes
  end_processes
  delete_files
  if [ -n "${was_open-}" ]; then
    shut_out
    end_processes
  fi
  left=$(remains)
  [ -n "$left" ] || left=$(delete_entry)
  # A login that was let in before the account was shut may have begun only now.
  [ -n "$left" ] || { end_processes && left=$(remains); }
}

# Sets base to the folder where useradd puts homes.
default_base() {
  base=/home
  [ ! -r /etc/default/useradd ] || while IFS='=' read -r key value; do
    [ "$key" != HOME ] || base=$value
  done </etc/default/useradd
}

# What is left of an account that is in /etc/passwd no more: somebody ran userdel by hand, or the machine died within it.
erase_traces() {
  left=
  orphan=$base/$account
  if { [ -e "$orphan" ] || [ -L "$orphan" ]; } && ! getent passwd "$account" >/dev/null; then
    problem=$(rm -rf --one-file-system -- "$orphan" "/etc/security/limits.d/$account.conf" 2>&1) || left="$orphan ($problem)"
  fi
  grep -qs "^$account:" /etc/group /etc/gshadow /etc/shadow /etc/subuid /etc/subgid || return 0
  # Shadow's own tools hold the locks of these files: they take the lines away together with an account.
  ! grep -qs "^$account:" /etc/group || groupdel "$account" 2>/dev/null
  problem=$({ useradd -M -N --comment "${mark}unknown" "$account" && userdel --force "$account"; } 2>&1) ||
    left="lines in files of accounts ($problem)"
}

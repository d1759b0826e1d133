# shellcheck shell=sh disable=SC2154
# erase_account takes away an account of ours and all that it has; what could not be taken away is in left. It expects the
# lock, base, and what look_up sets. clear_the_way sees to the lock and to look_up.

# report TEXT
report() {
  left="$left${left:+, }$1"
}

# No new login.
shut_out() {
  shell=/usr/sbin/nologin
  [ -x "$shell" ] || shell=/bin/false
  usermod --lock --expiredate 1 --shell "$shell" "$account" >/dev/null 2>&1
}

# Sets what the account has in the kernel: pids; objects, arguments for ipcrm; mounts, a line for each with "home" (on top of
# it), "own" (made by the account) or "other" and the mount point, in octal where it is not plain.
look_at_kernel() {
  pids='' objects='' mounts=''
  while read -r what it; do
    case $what in
      pid) pids="$pids $it" ;;
      -[mqs]) objects="$objects $what $it" ;;
      home | own | other) mounts="$what $it
$mounts" ;;
    esac
  done <<LINES
$(grep -sHE '^(State|Uid):' /proc/[0-9]*/status | awk -v home="$home" -v uid="$uid" -v ranges="$ranges" '
    function is_ours(id,    i) {
      if (id == uid) return 1
      for (i = 1; i <= count; i++) if (id >= first[i] && id <= last[i]) return 1
      return 0
    }
    BEGIN {
      count = split(ranges, parts, " ")
      for (i = 1; i <= count; i++) { split(parts[i], ends, ":"); first[i] = ends[1] + 0; last[i] = ends[2] + 0 }
    }
    FILENAME == "/proc/self/mountinfo" {
      for (i = 7; i < NF && $i != "-"; i++);
      is_own = $(i + 1) ~ /^fuse/ && ("," $(i + 3) ",") ~ (",user_id=" uid ",")
      kind = $5 == home ? "home" : is_own ? "own" : index($5, home "/") == 1 ? "other" : ""
      path = $5
      gsub(/\\/, "\\0", path)
      if (kind != "") print kind, path
      next
    }
    FILENAME == "/proc/sysvipc/shm" { if (FNR > 1 && (is_ours($8) || is_ours($10))) print "-m", $2; next }
    FILENAME == "/proc/sysvipc/msg" { if (FNR > 1 && (is_ours($8) || is_ours($10))) print "-q", $2; next }
    FILENAME == "/proc/sysvipc/sem" { if (FNR > 1 && (is_ours($5) || is_ours($7))) print "-s", $2; next }
    $1 ~ /:State:$/ { is_dead = ($2 == "Z" || $2 == "X"); next }
    !is_dead && (is_ours($2) || is_ours($3) || is_ours($4) || is_ours($5)) {
      split($1, path_parts, "/")
      print "pid", path_parts[3]
    }' - /proc/self/mountinfo /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg 2>/dev/null)
LINES
}

# Until none is left, or 20 times.
end_processes() {
  round=0
  look_at_kernel
  while [ -n "$pids" ] && [ "$round" -lt 20 ]; do
    round=$((round + 1))
    # Who becomes a user that has as many processes as we may have starts no program (setuid(2)). Not every root may change it.
    [ "$round" -gt 1 ] || prlimit --pid $$ --nproc=unlimited 2>/dev/null
    [ "$round" -lt 4 ] || sleep 0.2
    # All at once and without a race, where systemd gave the account a control group.
    group=/sys/fs/cgroup/user.slice/user-$uid.slice/cgroup.kill
    [ ! -w "$group" ] || echo 1 >"$group"
    # To -1, as the account: the kernel lets nothing fork between two of its signals. With root's group still, the account
    # cannot trace this helper (ptrace(2)); it may stop it, so there is a limit.
    timeout -s KILL 3 setpriv --reuid="$uid" --clear-groups -- /bin/sh -c 'kill -9 -1' >/dev/null 2>&1 9>&-
    # What that may not reach: subordinate ids outside of the account's own user namespaces. Looked up anew: what was a process
    # of the account may have become somebody else's meanwhile.
    look_at_kernel
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -9 $pids 2>/dev/null
    sleep 0.01
    look_at_kernel
  done
  count=0
  for pid in $pids; do
    count=$((count + 1))
    [ "$count" -le 3 ] || break
    name=
    read -r name 2>/dev/null <"/proc/$pid/comm"
    report "process $pid ($name)"
  done
}

# A mount inside the home would be emptied with it. The account itself can only have made FUSE mounts; they are taken away
# with its own rights, since it, or a friend of it, may have turned their paths elsewhere.
unmount_all() {
  [ -n "$mounts" ] || return 0
  while read -r kind mount; do
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
${mounts%?}
LINES
  look_at_kernel
  [ -z "$mounts" ] || report "a mount at ${mounts#* }"
}

# With systemd, the account's runtime folder is a mount that systemd has to take away itself: it would be missing when the
# user id is used again.
end_session() {
  linger=/var/lib/systemd/linger/$account
  [ ! -e "$linger" ] || rm -f "$linger"
  runtime=/run/user/$uid
  if [ -e "/run/systemd/users/$uid" ] && command -v loginctl >/dev/null; then
    timeout 10 loginctl terminate-user "$uid" >/dev/null 2>&1
    tries=0
    while [ -d "$runtime" ] && [ "$tries" -lt 50 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
  fi
  [ -d "$runtime" ] || return 0
  umount -l "$runtime" 2>/dev/null
  problem=$(rm -rf --one-file-system "$runtime" 2>&1) || report "$runtime ($problem)"
}

# find_files ACTION...: what the account has outside of its home, where everybody may have something. Replaces the shell: to
# be called in a subshell.
find_files() {
  set -- \) -prune "$@"
  for range in $ranges; do
    set -- -o -uid "+$((${range%:*} - 1))" -uid "-$((${range#*:} + 1))" "$@"
  done
  # Others' files may vanish while it looks.
  set -- -ignore_readdir_race -xdev -mindepth 1 \( -uid "$uid" "$@"
  for folder in /tmp /var/tmp /dev/shm /dev/mqueue /run/lock /run/screen /var/crash /var/mail /var/spool/mail \
    /var/spool/cron /var/spool/at; do
    [ ! -d "$folder" ] || [ -L "$folder" ] || set -- "$folder" "$@"
  done
  exec find "$@" 2>/dev/null
}

delete_files() {
  # On its way, rm follows no link and enters no other file system.
  problem=$(rm -rf --one-file-system -- "$home" "/etc/security/limits.d/$account.conf" "/run/faillock/$account" \
    "/var/lib/sudo/lectured/$account" "/run/sudo/ts/$account" 2>&1) || report "$home ($problem)"
  tries=0
  # Find says that it failed for anything that it could not look into, say, a file system that somebody else has mounted.
  while file=$(find_files -print -quit); [ -n "$file" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 3 ]; then
      report "$file"
      break
    fi
    # With -execdir, find stands in the folder of what it found: nobody can turn the path elsewhere meanwhile.
    (find_files -execdir rm -rf --one-file-system -- '{}' +)
  done
}

clear_account() {
  left=
  end_processes
  if [ -n "$objects" ]; then
    # shellcheck disable=SC2086
    ipcrm $objects >/dev/null 2>&1 || report "IPC objects$objects"
  fi
  unmount_all
  [ -n "$left" ] || end_session
  [ -n "$left" ] || delete_files
}

erase_account() {
  shut_out || was_open=yes
  clear_account
  if [ -n "${was_open-}" ]; then
    # A full disk is not full any more.
    shut_out
    clear_account
  fi
  [ -z "$left" ] || return 0
  # The entry carries the mark: it goes last, so that whatever is cut short before is found again.
  problem=$(userdel --force "$account" 2>&1) || report "account ($problem $(diagnose))"
  [ -z "$left" ] || return 0
  # A login that was let in before the account was shut may have begun only now.
  look_at_kernel
  [ -z "$pids$objects" ] || clear_account
}

has_lines() {
  grep -qs "^$account:" /etc/passwd /etc/group /etc/gshadow /etc/shadow /etc/subuid /etc/subgid
}

# What is left of an account that is in /etc/passwd no more: somebody ran userdel by hand, or the machine died within it.
erase_traces() {
  left=
  orphan=$base/$account
  if { [ -e "$orphan" ] || [ -L "$orphan" ]; } && ! getent passwd "$account" >/dev/null; then
    problem=$(rm -rf --one-file-system -- "$orphan" "/etc/security/limits.d/$account.conf" 2>&1) || report "$orphan ($problem)"
  fi
  has_lines || return 0
  groupdel "$account" 2>/dev/null
  has_lines || return 0
  # Only shadow's own tools hold the locks of these files: they take the lines away together with an account.
  problem=$({ useradd -M -N --comment "${mark}unknown" "$account" && userdel --force "$account"; } 2>&1)
  ! has_lines || report "lines in files of accounts ($problem)"
}

# Takes the lock, and leaves nothing of the account, whatever state it was in; or fails.
clear_the_way() {
  lock_account
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
}

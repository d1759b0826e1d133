# shellcheck shell=sh

# Prints {"account":…,"taskRunUid":…} for each account of ours, with commas between.
entries() {
  MARK=$mark awk -F: '
    $1 ~ /^u-[0-9a-f]+$/ && length($1) == 30 && index($5, ENVIRON["MARK"]) == 1 {
      uid = substr($5, length(ENVIRON["MARK"]) + 1)
      sub(/,.*/, "", uid)
      gsub(/[^A-Za-z0-9._-]/, "", uid)
      printf "%s{\"account\":\"%s\",\"taskRunUid\":\"%s\"}", comma, $1, uid
      comma = ","
    }' /etc/passwd
}

list() {
  need_root
  need awk
  answer "{\"ok\":true,\"accounts\":[$(entries)]}"
}

list </dev/null

# shellcheck shell=sh
# Where accounts are written down, and where their homes are.

# Sets base to the folder where useradd puts homes.
default_base() {
  base=/home
  [ ! -r /etc/default/useradd ] || while IFS='=' read -r key value || [ -n "$key" ]; do
    [ "$key" != HOME ] || base=$value
  done </etc/default/useradd
  while [ "$base" != "${base%/}" ]; do
    base=${base%/}
  done
}

# Refuses homes that could not be removed again: see trust_entry.
expect_base() {
  case $base/ in
    / | [!/]* | */../* | */./* | *//* | *[!A-Za-z0-9._/-]*)
      fail failed "HOME in /etc/default/useradd must be the plain path of a folder, not '$base'"
      ;;
  esac
}

# Prints why nothing can be written: the tools for accounts do not say.
diagnose() {
  for folder in /etc "$base"; do
    probe=$folder/.multi-platform-controller.$$
    head -c 8192 /dev/zero >"$probe"
    rm -f "$probe"
  done 2>&1
}

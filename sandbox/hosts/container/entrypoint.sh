#!/bin/sh
# Prepares the container, says "host-key <public key>" and serves for as long as standard input stays open: the container
# ends with the process that started it, however that ends.
set -eu
# shellcheck source=sandbox/hosts/prepare-host.sh
. "$(dirname "$0")/prepare-host.sh"

mkdir -p /run/sshd
make_admin
configure_sshd
printf 'host-key %s\n' "$(host_key)"
serve &
cat >/dev/null

#!/bin/sh
# The step of the sample TaskRun: logs in to the host that the TaskRun was given.
set -eu

# The controller says here why there is no host.
if [ -f /ssh/error ]; then
  cat /ssh/error
  exit 1
fi

# ssh refuses a key that others can read.
mkdir -p "$HOME/.ssh"
cp /ssh/id_rsa "$HOME/.ssh/host-key"
chmod 0400 "$HOME/.ssh/host-key"
port=22
[ ! -f /ssh/port ] || port=$(cat /ssh/port)

ssh -p "$port" -i "$HOME/.ssh/host-key" -o IdentitiesOnly=yes -o BatchMode=yes \
  -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/ssh/known_hosts \
  "$(cat /ssh/host)" 'echo "Hello from $(hostname). I am $(id -un), at home in $HOME."; sleep 5'

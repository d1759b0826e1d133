#!/bin/sh
# The step of a multi-platform TaskRun: brings /source to the host that it was given, builds and runs it there, and brings
# program and report back.
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
ssh="ssh -p $port -i $HOME/.ssh/host-key -o IdentitiesOnly=yes -o BatchMode=yes"
ssh="$ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/ssh/known_hosts"
# One login for all that follows; it ends with the Pod.
ssh="$ssh -o ControlMaster=auto -o ControlPath=$HOME/.ssh/control -o ControlPersist=yes"
host=$(cat /ssh/host)
folder=$(cat /ssh/user-dir)/source

rsync --archive --copy-links --rsh "$ssh" /source/ "$host:$folder/"
# The variable holds several words, and the folder is one that the controller made: plain letters and digits.
# shellcheck disable=SC2086,SC2029
$ssh "$host" "cd $folder && make >&2 && echo \"\$(id -un) on \$(hostname): \$(./primes 2000000)\" >report"
rsync --archive --rsh "$ssh" "$host:$folder/primes" "$host:$folder/report" /workspace/

test -x /workspace/primes
cat /workspace/report
tr -d '\n' </workspace/report >"$RESULT"

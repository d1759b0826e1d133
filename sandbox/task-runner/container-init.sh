#!/bin/sh
# Gives a container its own view of the machine, in a mount namespace of its own, and becomes its command.
# $1: the container's folder; $2: its name. The runner has put there: upper, work, root (for the overlay), fstab (what to
# mount), prepare (makes the mount points), command (goes on from here).
set -eu

read -r pid _ </proc/self/stat
echo "running $2 $pid" >&3
exec 3>&-

cd "$1"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
# With chroot instead of pivot_root the kernel refuses user namespaces, and with them rootless containers.
cd root
pivot_root . .pod
cd /
mount -t proc -o nosuid,nodev,noexec proc /proc
# shellcheck source=/dev/null
. "/.pod$1/prepare"
mount --all --fstab "/.pod$1/fstab"
# shellcheck source=/dev/null
. "/.pod$1/command"

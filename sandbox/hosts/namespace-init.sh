#!/bin/sh
# Process 1 of a namespace host. It builds the host's own view of the machine, says "up", waits for a line on standard
# input (the network card is there by then), says "host-key <public key>" and keeps sshd running for as long as it lives.
#
# From the environment: MOUNT_POINT (any folder), DISK_MB, HIDE (a folder not to be seen from the host), ADDRESS4, PEER4,
# ADDRESS6, PEER6 (may be empty), and what prepare-host.sh asks for.
set -eu
# shellcheck source=sandbox/hosts/prepare-host.sh
. "$(dirname "$0")/prepare-host.sh"

hostname "$HOST_NAME"

# All that the host writes lands on this one file system: its size is the size of the host's disk.
mount -t tmpfs -o "size=${DISK_MB}m,mode=0700" disk "$MOUNT_POINT"
cd "$MOUNT_POINT"
mkdir upper work root home tmp var-tmp admin-home
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work root root
chmod 0755 upper home
chmod 1777 tmp var-tmp
chmod 0700 admin-home

mount -t proc -o nosuid,nodev,noexec proc root/proc
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs root/sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 root/sys/fs/cgroup
mount -t tmpfs -o nosuid,nodev,mode=0755,size=64m run root/run
mkdir -p root/run/sshd root/run/lock root/run/user root/run/old-root root/run/disk
mount -t tmpfs -o nosuid,mode=0755,size=4m dev root/dev
mkdir root/dev/pts root/dev/shm root/dev/mqueue root/dev/net
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts root/dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777,size=64m shm root/dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue root/dev/mqueue
node() { mknod -m "$2" "root/dev/$1" c "$3" "$4"; }
node null 0666 1 3
node zero 0666 1 5
node full 0666 1 7
node random 0666 1 8
node urandom 0666 1 9
node tty 0666 5 0
node fuse 0666 10 229
node net/tun 0666 10 200
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
ln -s /proc/self/fd/0 root/dev/stdin
ln -s /proc/self/fd/1 root/dev/stdout
ln -s /proc/self/fd/2 root/dev/stderr

# What people of the machine have in their homes and temporary folders is none of the host's business.
mount --bind home root/home
mount --bind tmp root/tmp
mount --bind var-tmp root/var/tmp
mount --bind admin-home root/root
case $HIDE in
  /tmp | /var/tmp) ;;
  *) [ ! -d "root$HIDE" ] || mount -t tmpfs -o ro,mode=0755,size=4k hidden "root$HIDE" ;;
esac
mount --bind . root/run/disk

# With chroot instead of pivot_root the kernel refuses unprivileged user namespaces, and with them rootless containers.
cd root
pivot_root . run/old-root
cd /
umount -l /run/old-root
rmdir /run/old-root
# As systemd does it on a real machine; rootless podman says so where it is not.
mount --make-rshared /

printf '%s\n' "$HOST_NAME" >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "${ADDRESS4:?}" "$HOST_NAME" >/etc/hosts
# No name server: a look-up fails at once instead of waiting for one that cannot be reached from here.
: >/etc/resolv.conf

make_admin
configure_podman
configure_sshd

echo up
read -r _
exec </dev/null

ip link set lo up
# An address stays when the card goes down and comes back.
echo 1 >/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down 2>/dev/null || true
ip link set eth0 up
ip address add "$ADDRESS4" peer "$PEER4" dev eth0
if [ -n "$ADDRESS6" ]; then
  ip address add "$ADDRESS6" dev eth0 nodad
  ip route add "$PEER6" dev eth0
fi

printf 'host-key %s\n' "$(host_key)"
exec >/dev/null

unset MOUNT_POINT DISK_MB HIDE ADDRESS4 PEER4 ADDRESS6 PEER6
serve

#!/bin/sh
# Process 1 of a namespace host. It builds the host's own view of the machine, says "up", waits for a line on standard
# input (the network card is there by then), says "host-key <public key>" and keeps sshd running for as long as it lives.
#
# From the environment: MOUNT_POINT (any folder), DISK_MB, HIDE (a folder not to be seen from the host), HOST_NAME, PORT,
# KEY_TYPES, ADMIN, ADMIN_KEY (public), ADMIN_SHELL, ADMIN_SUDO (yes/no), ADDRESS4, PEER4, ADDRESS6, PEER6 (may be empty).
set -eu

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
  *) mount -t tmpfs -o ro,mode=0755,size=4k hidden "root$HIDE" ;;
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
printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$ADDRESS4" "$HOST_NAME" >/etc/hosts
# No name server: a look-up fails at once instead of waiting for one that cannot be reached from here.
: >/etc/resolv.conf

cat >/usr/local/bin/banner-sh <<'SHELL'
#!/bin/sh
printf '%s\n' '****************************' '*  Authorised use only {}  *' '****************************'
exec /bin/sh "$@"
SHELL
chmod 0755 /usr/local/bin/banner-sh

if [ "$ADMIN" = root ]; then
  admin_home=/root
  usermod -s "$ADMIN_SHELL" root
else
  admin_home=/home/$ADMIN
  useradd --create-home --shell "$ADMIN_SHELL" "$ADMIN"
fi
if [ "$ADMIN_SUDO" = yes ]; then
  printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$ADMIN" >/etc/sudoers.d/sandbox-admin
  chmod 0440 /etc/sudoers.d/sandbox-admin
fi
mkdir -p "$admin_home/.ssh"
printf '%s\n' "$ADMIN_KEY" >"$admin_home/.ssh/authorized_keys"
chmod 0700 "$admin_home/.ssh"
chown -R "$ADMIN:" "$admin_home/.ssh"

# Plain `podman run` works for an account that logged in over SSH: nobody delegates cgroups to it here, and a container has
# the host's network, which reaches nothing but the sandbox.
mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<'CONF'
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
cat >/etc/containers/storage.conf <<'CONF'
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
CONF

rm -f /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/*
key_lines=
for type in $KEY_TYPES; do
  ssh-keygen -q -t "$type" -N '' -C "$HOST_NAME" -f "/etc/ssh/ssh_host_${type}_key"
  key_lines="${key_lines}HostKey /etc/ssh/ssh_host_${type}_key
"
done
cat >/etc/ssh/sshd_config <<CONF
Port $PORT
${key_lines}PidFile /run/sshd.pid
LogLevel VERBOSE
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
CONF

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

printf 'host-key %s\n' "$(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
exec >/dev/null

unset MOUNT_POINT DISK_MB HIDE HOST_NAME PORT KEY_TYPES ADMIN ADMIN_KEY ADMIN_SHELL ADMIN_SUDO
unset ADDRESS4 PEER4 ADDRESS6 PEER6
set +e
while :; do
  /usr/sbin/sshd -D -e
  sleep 0.05
done

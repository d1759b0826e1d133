# What every kind of sandbox host does to become one; for `.` in a script that runs as root on the host.
#
# From the environment: HOST_NAME, PORT, KEY_TYPES (ed25519 or more), ADMIN, ADMIN_KEY (public), ADMIN_SHELL,
# ADMIN_SUDO (yes/no).
# shellcheck shell=sh

make_admin() {
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
}

# Plain `podman run` works for an account that logged in over SSH: nobody delegates cgroups to it here, and a container has
# the host's network, which reaches nothing but the sandbox.
configure_podman() {
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
}

configure_sshd() {
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
}

host_key() {
  cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub
}

# Sshd again and again: it is killed to be given another key, or with everything else.
serve() {
  unset HOST_NAME PORT KEY_TYPES ADMIN ADMIN_KEY ADMIN_SHELL ADMIN_SUDO
  set +e
  while :; do
    /usr/sbin/sshd -D -e
    sleep 0.05
  done
}

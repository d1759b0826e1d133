#!/bin/sh
# Process 1 of a Pod. It says "up <its process id as the machine counts>", then reads lines "<name> <log file>" from standard
# input, runs that container, whose folder the runner has filled before, and says "exit <name> <code>". It speaks on
# descriptor 3. When standard input ends it ends, and with it every process and every file of the Pod.
#
# From the environment: MOUNT_POINT (any folder), CONTAINER_INIT (the script that starts a container).
set -eu

# In memory: keys that are mounted never reach a disk.
mount -t tmpfs -o mode=0700 pod "$MOUNT_POINT"
mkdir "$MOUNT_POINT/volumes" "$MOUNT_POINT/containers"

read -r pid _ </proc/self/stat
echo "up $pid" >&3

while read -r name log; do
  setsid unshare --mount --propagation private \
    /bin/sh "$CONTAINER_INIT" "$MOUNT_POINT/containers/$name" "$name" </dev/null >>"$log" 2>&1 &
  code=0
  wait "$!" || code=$?
  echo "exit $name $code" >&3
done

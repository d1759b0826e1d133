#!/bin/sh
# Stands in for a container runtime: runs a Node.js program as a Pod of the chart would have it. A stand-in for the image's
# root file system too: that is this machine's, all of it read-only. Run by `unshare --mount`:
#   pod-stand-in.sh NODE IMAGE_FOLDER SERVICE_ACCOUNT_FOLDER PROGRAM [ARGUMENT…]
set -eu
node=$1 image=$2 service_account=$3
shift 3

mount -t tmpfs -o mode=755,size=64k tmpfs /run
mkdir -p /run/app /run/secrets/kubernetes.io/serviceaccount
: >/run/node
mount --bind "$node" /run/node
mount --bind "$image" /run/app
mount --bind "$service_account" /run/secrets/kubernetes.io/serviceaccount

while read -r _ _ _ _ point _; do
  case $point in
    /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
    *) mount -o remount,bind,ro "$point" 2>/dev/null || true ;;
  esac
done </proc/self/mountinfo
for folder in / /tmp /run /run/app /var/tmp; do
  if (: >"$folder/probe") 2>/dev/null; then
    echo "pod stand-in: $folder can be written" >&2
    exit 90
  fi
done

cd /run/app
# A change of user takes the tie to the parent off, so the second setpriv ties again.
exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  -- setpriv --pdeathsig KILL -- /run/node "$@"

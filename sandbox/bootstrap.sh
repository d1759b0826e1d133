#!/bin/sh
# Runs a TypeScript file of this project, on a fresh clone too: `sh sandbox/bootstrap.sh FILE [ARGUMENT…]`. Installs the npm
# packages first where they are missing or older than the lockfile; Node 24, which runs TypeScript, is one of them.
set -eu
cd "$(dirname "$0")/.."

# npm writes this file last.
installed=node_modules/.package-lock.json
if [ ! -f "$installed" ] || [ -n "$(find package-lock.json -newer "$installed")" ]; then
  echo 'Installing npm packages, a minute or so the first time…' >&2
  if ! npm ci --loglevel=error --no-audit --no-fund >&2; then
    echo 'npm ci failed: the lines above say why. It needs a package registry (npm config get registry).' >&2
    exit 1
  fi
fi
exec node_modules/.bin/node "$@"

#!/bin/sh
# install.sh FOLDER: installs the packages named in FOLDER/package-lock.json into its node_modules/.
# Needs node >= 20, npm, and a reachable npm registry. It needs no compiler, node headers or prebuilt
# binaries, because each folder's .npmrc disables install scripts.
set -eu
cd "$1"

stamp=node_modules/.installed-lock
if [ -f "$stamp" ] && cmp -s package-lock.json "$stamp"; then
  echo "install.sh: $1 is up to date"
  exit 0
fi

echo "install.sh: npm ci in $1 (from package-lock.json, without install scripts)"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
npm ls --depth=0 --loglevel=error
cp package-lock.json "$stamp"

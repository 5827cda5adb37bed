#!/bin/sh
# Installs the packages named in package-lock.json into node_modules/.
# Needs node >= 20 and npm, and a reachable npm registry; nothing else: no
# package in this tree has an install script or a binary.
set -eu
cd "$(dirname "$0")"

stamp=node_modules/.installed-lock
if [ -f "$stamp" ] && cmp -s package-lock.json "$stamp"; then
  echo "install.sh: node_modules is up to date"
  exit 0
fi

echo "install.sh: npm ci (from package-lock.json, without install scripts)"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
npm ls --depth=0 --loglevel=error
cp package-lock.json "$stamp"

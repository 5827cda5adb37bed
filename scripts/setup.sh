#!/bin/sh
# Installs what the build needs beyond Rust and make, from the system's packages, saying so.
#
# pingora compiles zlib-ng (cmake, a C compiler); the interop tests run Node. Run it again at will:
# what is there already is left alone.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc gcc
need cmake cmake
if [ "${1:-}" = "--with-node" ]; then
    need node nodejs
    need npm npm
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install Rust 1.89 or newer first (https://rustup.rs)" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install:$missing (this script only knows apt-get)" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
fi
echo "setup: installing with apt-get:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing libc6-dev >/dev/null
echo "setup: done"

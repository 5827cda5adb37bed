#!/bin/sh
# Builds bearerd, linked by Zig, for glibc 2.28 or newer (RHEL 8, SLES 15 SP3, Debian 10):
# release.sh [--auditable] RESULT FEATURES…, the features as cargo takes them. With --auditable, the binary
# contains the list of its dependencies.
set -eu

cd "$(dirname "$0")/.."
auditable=""
if [ "$1" = --auditable ]; then
    auditable=auditable
    shift
fi
result="$1"
shift
host="$(rustc -vV | sed -n 's/^host: //p')"
target="${CARGO_TARGET_DIR:-target}"

# Zig strips the names of functions too, which a backtrace needs. GNU's strip leaves them.
CARGO_PROFILE_RELEASE_STRIP=none PATH="$PWD/target/tools/wheels/zig/bin:$PATH" \
    cargo $auditable zigbuild --release --locked --bin bearerd --target "$host.2.28" "$@"
mkdir -p "$(dirname "$result")"
# A process that runs the old file keeps it.
rm -f "$result"
strip --strip-debug -o "$result" "$target/$host/release/bearerd"
ls -l "$result"

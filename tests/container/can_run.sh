#!/bin/sh
# Succeeds if this machine can run containers, and prints the reason if not. It may be a container itself.
set -u

skip() {
    echo "test-container: SKIPPED: $1" >&2
    exit 1
}
[ "$(uname -s)" = Linux ] || skip "containers need Linux"
[ "$(id -u)" -eq 0 ] || skip "it mounts and unmounts, and runs as root only"
PATH="$PATH:$(dirname "$0")/../../target/tools/bin"
for command in podman runc catatonit kubectl; do
    command -v "$command" >/dev/null 2>&1 || skip "there is no $command, and setup could not install it"
done
unshare --mount --net --pid --ipc --uts --fork true 2>/dev/null ||
    skip "the kernel lets this user make no namespaces"

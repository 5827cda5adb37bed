#!/bin/sh
# Runs before a removal or an upgrade. The first argument is dpkg's `remove` or `upgrade`, or rpm's
# number of versions that stay installed.
set -e

case "$1" in
    remove | 0)
        if command -v systemctl >/dev/null 2>&1; then
            systemctl --quiet --no-reload disable \
                bearerd.service bearerd.socket bearerd-cert.timer || true
        fi
        if [ -d /run/systemd/system ]; then
            systemctl stop bearerd-cert.timer bearerd.socket bearerd.service
        fi
        ;;
esac

#!/bin/sh
# Runs after a removal or an upgrade. The client secret in /etc/bearerd stays: the package has not
# made it.
set -e

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

#!/bin/sh
# Runs after an installation or an upgrade. The first argument is dpkg's `configure`, followed by the
# previous version if there was one, or rpm's number of installed versions.
set -e

# Without a running systemd, as in an image, there is nothing to reload.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
case "$1 ${2:-}" in
    "configure " | "1 ")
        echo "bearerd: enter the values of your OAuth client, and start the service:"
        echo "  sudo bearerd init"
        echo "  sudo systemctl enable --now bearerd.socket bearerd.service"
        ;;
    configure* | 2*)
        # Callers wait during the restart if bearerd.socket is active.
        if [ -d /run/systemd/system ]; then
            systemctl try-restart bearerd.service ||
                echo "bearerd: the service does not start; see journalctl -u bearerd" >&2
        fi
        ;;
esac

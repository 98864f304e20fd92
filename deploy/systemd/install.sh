#!/bin/sh
# Install the agent on this node: user, folders, unit. Run as root, from any folder, after
#   python3 -m venv /opt/trainledger && /opt/trainledger/bin/pip install -c constraints.txt ".[agent]"
# Starts nothing; running it again is harmless and keeps /etc/trainledger/agent.env.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

[ "$(id -u)" = 0 ] || { echo "install.sh: needs root" >&2; exit 1; }
[ -x /opt/trainledger/bin/trainledger ] || {
    echo "install.sh: /opt/trainledger/bin/trainledger is missing; the first lines of $0 say how to make it" >&2
    exit 1
}

install -D -m 0644 "$here/sysusers.conf" /usr/lib/sysusers.d/trainledger.conf
install -D -m 0644 "$here/tmpfiles.conf" /usr/lib/tmpfiles.d/trainledger.conf
install -D -m 0644 "$here/trainledger-agent.service" /usr/lib/systemd/system/trainledger-agent.service
systemd-sysusers trainledger.conf
systemd-tmpfiles --create trainledger.conf
if [ ! -e /etc/trainledger/agent.env ]; then
    install -d -m 0755 /etc/trainledger
    (umask 077 && echo "# TRAINLEDGER_KAFKA=broker:9092" >/etc/trainledger/agent.env)
fi
systemctl daemon-reload
echo "installed; set TRAINLEDGER_KAFKA in /etc/trainledger/agent.env, then: systemctl enable --now trainledger-agent"

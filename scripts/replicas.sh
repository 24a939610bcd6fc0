#!/usr/bin/env bash
# Three gateways behind Debian's HAProxy (round robin, no affinity) with a real Redis: a token of
# one is good at all, what one revokes the others refuse, a code is redeemed once in 200 races,
# sessions are served from each, Redis is killed, and then a gateway each 20 s under load.
#
#   scripts/replicas.sh            5 minutes of load, 6 minutes in all
#   scripts/replicas.sh --quick    1 minute of load, 2 minutes in all
#
# ONEMCP_BIN names a binary to use instead of building one. Needs python3, openssl, haproxy and
# redis-server; as root on Debian or Ubuntu the last two are installed. Skipped where they cannot
# be had. One line for each check (ok or FAIL); exit code 1 if anything failed. Logs are in
# .build/replicas.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

seconds=300
case "${1:-}" in
--quick) seconds=60 ;;
"") ;;
*) echo "replicas: unknown argument $1" >&2; exit 64 ;;
esac

missing() {
    command -v haproxy >/dev/null || echo haproxy
    command -v redis-server >/dev/null || echo redis-server
}

if [ -n "$(missing)" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2046 # a list of words
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $(missing) >&2 ||
        echo "replicas: apt-get could not install: $(missing)" >&2
fi
if [ -n "$(missing)" ]; then
    echo "skipped: $(missing | paste -sd ' ') is not installed"
    exit 0
fi

if [ -z "${ONEMCP_BIN:-}" ]; then
    cargo build --locked --quiet
    ONEMCP_BIN=${CARGO_TARGET_DIR:-target}/debug/onemcp
fi
work=.build/replicas
rm -rf "$work"
mkdir -p "$work"
PYTHONDONTWRITEBYTECODE=1 exec timeout $((seconds + 240)) \
    python3 fixtures/replicas/drive.py "$(realpath "$ONEMCP_BIN")" "$(realpath "$work")" "$seconds"

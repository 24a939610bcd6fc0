#!/usr/bin/env bash
# The gateway in little room: control groups with 64 MiB, or few tasks, or half a processor.
#
#   scripts/little.sh [memory] [tasks] [starved]      all by default
#
# memory   ten servers (five processes, five over HTTP), 200 idle clients with an open stream,
#          calls, and 40 clients that send large bodies at the same time, in 64 MiB for all of it
# tasks    64 threads and processes: clients beyond that are told so, health is answered
# starved  12 of them: it starts and says what it had to do without, or ends and says why
#
# The groups (version 1 or 2, whichever can be had) are made below our own and removed. Where none
# can be made the memory of all processes is measured instead, and the rest is skipped.
# ONEMCP_BIN names the gateway; without it one is built. Needs python3. Exit code 1 if anything
# failed. Half a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

case ${1:-} in -*)
    sed -n '2,17s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
if [ -z "${ONEMCP_BIN:-}" ]; then
    ONEMCP_BIN=$(scripts/build-static.sh | tail -n 1)
    ONEMCP_BIN=${ONEMCP_BIN% *}
fi
mkdir -p .build/little
exec timeout 180 python3 fixtures/little/drive.py "$(realpath "$ONEMCP_BIN")" .build/little "$@"

#!/usr/bin/env bash
# What the system refuses: faults of system calls, limits, full disks, clocks (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
# Tracing and mounting: as root, or as the root of a namespace of its own.
if [ "$(id -u)" -ne 0 ]; then
    exec unshare --user --map-root-user --mount "$0"
fi
command -v strace >/dev/null || {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq >&2
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends strace >&2
} || {
    echo "FAIL system note=strace_is_missing"
    exit 1
}
# Rounds through all of them; those of a full run are shuffled.
drive system $([ "$PROOF_MODE" = quick ] && echo 10 || echo 6)

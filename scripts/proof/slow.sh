#!/usr/bin/env bash
# Slow and flooding clients beside a good one (docs/proof.md). Attacks go on for 50 s each.
set -euo pipefail
. "${0%/*}/driver.bash"
if ! command -v slowhttptest >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq -o DPkg::Lock::Timeout=300 update &&
        apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends slowhttptest; } \
        >&2 || { echo "FAIL slow slowhttptest=missing" && exit 1; }
fi
drive slow 50

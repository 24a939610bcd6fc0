#!/usr/bin/env bash
# 500 restarts by command (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive cycles 500

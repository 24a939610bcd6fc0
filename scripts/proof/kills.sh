#!/usr/bin/env bash
# 10000 ends of servers (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive kills 10000

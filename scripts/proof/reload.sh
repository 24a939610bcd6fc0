#!/usr/bin/env bash
# 1000 files under 100 calls a second, three of ten broken (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive reload 1000

#!/usr/bin/env bash
# 200 pairs of SIGKILL at any moment (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive kill 200

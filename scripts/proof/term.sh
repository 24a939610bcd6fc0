#!/usr/bin/env bash
# 200 ends by SIGTERM under load (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive term 200

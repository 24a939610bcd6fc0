#!/usr/bin/env bash
# 60 calls under each of 86 faults of a server (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
drive faults 60

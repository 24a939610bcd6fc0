#!/usr/bin/env bash
# Wrong messages of clients and servers on every way: 2,000 made ones for each, 100,000 at random
# (docs/proof.md); ten times as many in full.
set -euo pipefail
. "${0%/*}/driver.bash"
drive messages 20000

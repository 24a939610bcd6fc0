#!/usr/bin/env bash
# Mixed traffic for two minutes, an hour in soak (docs/proof.md).
set -euo pipefail
. "${0%/*}/driver.bash"
case $PROOF_MODE in
quick) drive soak 1100 ;; # a tenth of it
full) drive soak 480 ;;
soak) drive soak 3600 ;;
esac

#!/usr/bin/env bash
# Lets a client in as a person does, with a real browser: signs in, reads what is asked, allows,
# denies, and uses the token. Judges every page with axe at the width of a desk and of a phone.
#
#   scripts/consent.sh            checks
#   UPDATE=1 scripts/consent.sh   also takes the pictures in docs/captures anew
#
# ONEMCP_BIN names a binary to use instead of building one; CHROMIUM the browser. Needs node with
# npm (and once the npm registry), and Debian's chromium.
# Exit code 1 if anything failed.
set -euo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
drivers=$root/fixtures/consent
work=$root/.build/consent
browser=${CHROMIUM:-/usr/bin/chromium}
install_limit_s=300
run_limit_s=300

[ -x "$browser" ] || { echo "consent: there is no $browser; apt-get install chromium" >&2; exit 1; }
mkdir -p "$work"
if ! cmp -s "$drivers/package-lock.json" "$work/package-lock.json" || [ ! -e "$work/stamp" ]; then
  rm -rf "$work/stamp" "$work/node_modules"
  cp "$drivers/package.json" "$drivers/package-lock.json" "$work"
  (cd "$work" && timeout "$install_limit_s" npm ci --no-audit --no-fund --loglevel=error) >&2
  touch "$work/stamp"
fi
if [ -z "${ONEMCP_BIN:-}" ]; then
  (cd "$root" && cargo build --locked --quiet)
  ONEMCP_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/onemcp
fi
onemcp=$(realpath "$ONEMCP_BIN")
cp "$drivers"/*.mjs "$work"
captures=
[ -z "${UPDATE:-}" ] || captures=$root/docs/captures
cd "$work"
exec timeout "$run_limit_s" node drive.mjs "$onemcp" "$browser" "$captures"

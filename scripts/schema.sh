#!/usr/bin/env bash
# Shows that the JSON Schema of mcp.json is one, and that it judges the examples as the gateway
# does, with a validator that is not ours.
#
#   scripts/schema.sh
#
# ONEMCP_BIN names a binary to use instead of building one. Needs python3 with pip, once the network.
# Exit code 1 if anything failed.
set -euo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.build/schema
pin=jsonschema==4.26.0
install_limit_s=300

mkdir -p "$work"
if [ "$(cat "$work/stamp" 2>/dev/null)" != "$pin" ]; then
  rm -rf "$work/site"
  timeout "$install_limit_s" python3 -m pip install --quiet --disable-pip-version-check \
    --target "$work/site" "$pin" >&2
  echo "$pin" >"$work/stamp"
fi
if [ -z "${ONEMCP_BIN:-}" ]; then
  (cd "$root" && cargo build --locked --quiet)
  ONEMCP_BIN=$root/target/debug/onemcp
fi
"$ONEMCP_BIN" config schema >"$work/mcp.schema.json"
PYTHONPATH=$work/site exec python3 "$root/fixtures/import/validate.py" \
  "$work/mcp.schema.json" "$ONEMCP_BIN" "$root"/fixtures/config/*.json

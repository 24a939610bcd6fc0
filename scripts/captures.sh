#!/usr/bin/env bash
# Takes what `onemcp status --watch` and `onemcp wait` show on a terminal of 80 columns, from a
# real run, into docs/captures. docs/operations.md shows them: UPDATE=1 cargo test --test it docs
#
#   scripts/captures.sh
#
# ONEMCP_BIN names the program; without it one is built. Needs cargo and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

run_limit_s=120

if [ -z "${ONEMCP_BIN:-}" ]; then
    cargo build --quiet
    ONEMCP_BIN=${CARGO_TARGET_DIR:-target}/debug/onemcp
fi
onemcp=$(realpath "$ONEMCP_BIN")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/mcp.json" <<END
{
  "mcpServers": {
    "clock": { "command": "$onemcp", "args": ["demo-server", "clock"] },
    "notes": { "command": "$onemcp", "args": ["demo-server", "notes"] },
    "search": { "command": "sh", "args": ["-c", "sleep 2.5; exec $onemcp demo-server clock"] },
    "calendar": { "command": "sleep", "args": ["1000"] },
    "mail": {
      "command": "sh",
      "args": ["-c", "sleep 0.3; echo 'cannot reach imap.example.org: no route to host' >&2; exit 3"]
    },
    "archive": { "command": "true", "disabled": true }
  },
  "gateway": { "asyncLoading": { "enabled": true } }
}
END

mkdir -p docs/captures
for scene in watch wait; do
    timeout "$run_limit_s" python3 fixtures/captures/terminal.py \
        "$scene" "$onemcp" "$folder" >"$folder/$scene.txt"
    cp "$folder/$scene.txt" "docs/captures/$scene.txt"
done

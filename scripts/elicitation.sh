#!/usr/bin/env bash
# Two users with equal ids and tokens are asked by one shared server: no form may go astray.
#
#   scripts/elicitation.sh [FORMS] [ABANDONED]     default 1000 and 500
#
# Bounds (fixtures/load/elicitation.rs): no form and no answer reaches the wrong user, 990 of
# 1,000 forms complete, an open form delays the other user's call by at most 100 ms, and of every
# abandoned form the server is told; after that nothing is left parked.
#
# ONEMCP_BIN names the gateway; without it one is built. Ends with 1 if a bound is missed. Only
# what this script started is ended, by its id.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

forms=${1:-1000}
abandoned=${2:-500}
listen_limit_s=10
parking_timeout_ms=2000
# Abandoned forms keep their process until they expire: more processes, fewer rounds of that.
crowd_instances=64

work=$PWD/.build/elicitation
rm -rf "$work"
mkdir -p "$work/state" "$work/seen"
gateway=

fail() {
    echo "elicitation: $*" >&2
    [ ! -s "$work/err" ] || tail -n 20 "$work/err" >&2
    exit 1
}

stop_gateway() {
    [ -n "$gateway" ] || return 0
    kill -TERM "$gateway" 2>/dev/null || true
    wait "$gateway" 2>/dev/null || true
}
trap stop_gateway EXIT

build() {
    local folder=${CARGO_TARGET_DIR:-target}
    case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
    cargo build --locked --quiet --example load --example everything
    load=$folder/debug/examples/load
    everything=$folder/debug/examples/everything
    binary=${ONEMCP_BIN:-}
    if [ -z "$binary" ]; then
        cargo build --locked --quiet --release --bin onemcp
        binary=$folder/release/onemcp
    fi
}

# Each process of the second server keeps what it is sent in a file of its own.
write_config() {
    cat <<EOF
{
  "gateway": {"parkingTimeout": $parking_timeout_ms},
  "mcpServers": {
    "asker": {"command": "$everything", "args": ["--era", "legacy"]},
    "crowd": {
      "command": "sh",
      "args": ["-c", "tee -a $work/seen/\$\$ | $everything --era legacy"],
      "maxInstances": $crowd_instances
    }
  }
}
EOF
}

start_gateway() {
    ONE_MCP_STATE_DIR=$work/state "$binary" --config "$work/mcp.json" --port 0 \
        >"$work/out" 2>"$work/err" &
    gateway=$!
    url=
    for _ in $(seq $((listen_limit_s * 10))); do
        url=$(sed -n '1s/.*"url": *"\([^"]*\)".*/\1/p' "$work/out")
        [ -z "$url" ] || return 0
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.1
    done
    fail "the gateway did not report that it listens"
}

build
write_config >"$work/mcp.json"
start_gateway
"$load" elicitation --url "$url/asker" --calls "$forms" --label gateway --row interleaved ||
    fail "a bound was missed"
"$load" elicitation --url "$url/crowd" --calls 0 --abandoned "$abandoned" --seen "$work/seen" \
    --label gateway --row abandoned || fail "a bound was missed"

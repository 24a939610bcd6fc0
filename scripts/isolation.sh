#!/usr/bin/env bash
# 64 clients with equal ids and progress tokens over 8 servers: no answer may go astray.
#
#   scripts/isolation.sh [CALLS]     calls of each client, default 2000 (128,000 in all)
#
# ONEMCP_BIN names the gateway; without it one is built. Ends with 1 if any answer was foreign,
# lost or doubled. Only what this script started is ended, by its id.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

calls=${1:-2000}
clients=64
servers=8
listen_limit_s=10

work=$PWD/.build/isolation
rm -rf "$work"
mkdir -p "$work/state"
gateway=

fail() {
    echo "isolation: $*" >&2
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
    cargo build --locked --quiet --profile fixtures --example load --example echo
    load=$folder/fixtures/examples/load
    echo_server=$folder/fixtures/examples/echo
    binary=${ONEMCP_BIN:-}
    if [ -z "$binary" ]; then
        cargo build --locked --quiet --release --bin onemcp
        binary=$folder/release/onemcp
    fi
}

write_config() {
    local number separator=
    printf '{"mcpServers": {'
    for number in $(seq "$servers"); do
        printf '%s"s%d": {"command": "%s"}' "$separator" "$number" "$echo_server"
        separator=', '
    done
    printf '}}\n'
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
"$load" tools --url "$url" --tools $((servers * 2)) --calls 1 --duration 30 >/dev/null ||
    fail "the servers did not list their tools"
figures=$("$load" isolation --url "$url" --clients "$clients" --servers "$servers" \
    --calls "$calls" --label gateway --row isolation) || fail "the load generator gave up"
echo "$figures"
for count in foreign lost doubled foreign_progress; do
    case $figures in
    *"\"$count\":0"[,}]*) ;;
    *) fail "not zero: $count" ;;
    esac
done

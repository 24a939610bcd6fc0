#!/usr/bin/env bash
# Health probes of a gateway whose connections are all taken while calls run at full speed: each
# must be answered, half of them within 5 ms and 99 of 100 within 50 ms.
#
#   scripts/probes.sh [PROBES]     default 2000
#
# ONEMCP_BIN names the gateway, ONEMCP_LOAD the folder of the load generator and the echo server;
# without them they are built. Ends with 1 if a probe failed or was late. Only what this script
# started is ended, by its id.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

probes=${1:-2000}
connections=4096
callers=64
p50_limit_us=5000
p99_limit_us=50000
listen_limit_s=10

work=$PWD/.build/probes
rm -rf "$work"
mkdir -p "$work/state"
gateway=
calls=

fail() {
    echo "probes: $*" >&2
    [ ! -s "$work/err" ] || tail -n 20 "$work/err" >&2
    exit 1
}

stop_all() {
    for pid in $calls $gateway; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap stop_all EXIT

build() {
    local folder=${CARGO_TARGET_DIR:-target} examples=${ONEMCP_LOAD:-}
    case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
    if [ -z "$examples" ]; then
        cargo build --locked --quiet --profile fixtures --example load --example echo
        examples=$folder/fixtures/examples
    fi
    load=$examples/load
    echo_server=$examples/echo
    binary=${ONEMCP_BIN:-}
    if [ -z "$binary" ]; then
        cargo build --locked --quiet --release --bin onemcp
        binary=$folder/release/onemcp
    fi
}

start_gateway() {
    printf '{"mcpServers":{"s1":{"command":"%s"}}}\n' "$echo_server" >"$work/mcp.json"
    ONE_MCP_STATE_DIR=$work/state "$binary" --config "$work/mcp.json" --port 0 \
        >"$work/out" 2>"$work/err" &
    gateway=$!
    for _ in $(seq $((listen_limit_s * 10))); do
        url=$(sed -n '1s/.*"url": *"\([^"]*\)".*/\1/p' "$work/out")
        [ -z "$url" ] || return 0
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.1
    done
    fail "the gateway did not report that it listens"
}

figure() { # NAME LINE
    sed -n "s/.*\"$1\":\([0-9.]*\|true\|false\)[,}].*/\1/p" <<<"$2"
}

files=$(ulimit -Hn)
if [ "$files" != unlimited ] && [ "$files" -lt $((2 * connections)) ]; then
    echo "probes: skipped, this system allows $files open files and $((2 * connections)) are needed"
    exit 0
fi
ulimit -n "$files"
build
start_gateway
"$load" tools --url "$url" --tools 2 --calls 1 --duration 20 >/dev/null ||
    fail "the server did not list its tools"
# Longer than the probes take; it is ended after them.
"$load" http --url "$url" --clients "$callers" --duration 60 --warmup 1 >"$work/calls" &
calls=$!
for _ in $(seq 100); do
    threads=$(ls "/proc/$gateway/task" | wc -l)
    [ "$threads" -lt "$callers" ] || break
    sleep 0.05
done
line=$("$load" probes --url "$url" --pid "$gateway" --clients "$connections" --calls "$probes" \
    --label gateway --row probes) || fail "the load generator gave up"
kill -0 "$calls" 2>/dev/null || fail "the calls ended before the probes"
echo "$line"
[ "$(figure full "$line")" = true ] || fail "the connections were not all taken"
[ "$(figure errors "$line")" = 0 ] || fail "probes failed"
within() { # NAME LIMIT
    awk -v value="$(figure "$1" "$line")" -v limit="$2" 'BEGIN { exit !(value <= limit) }' ||
        fail "$1 is above $2"
}
within p50_us "$p50_limit_us"
within p99_us "$p99_limit_us"

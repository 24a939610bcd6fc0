#!/usr/bin/env bash
# Runs the official MCP conformance suite against the gateway, or against any server.
#
#   scripts/conformance.sh        builds the gateway and fixtures/everything, starts both, runs
#   scripts/conformance.sh URL    runs against an endpoint that is already there (open, loopback)
#
# Prints one line per requirement set and ends with 1 on any failure or warning.
# Needs cargo, npm and the npm registry (first run only). Settings by environment:
#   ONEMCP_BIN             a gateway to use instead of building one
#   CONFORMANCE_PROFILE    release (default) or dev: which gateway to build
#   CONFORMANCE_INSTANCES  session (default) or shared: how the gateway runs the server
set -euo pipefail
cd "$(dirname "$0")/.."

suite_version=0.2.0-alpha.12
node_version=22
profile=${CONFORMANCE_PROFILE:-release}
instances=${CONFORMANCE_INSTANCES:-session}
start_seconds=30
run_seconds=180

expected=fixtures/conformance/expected-failures.yaml
cache=$PWD/.build/conformance
node=$cache/node_modules/.bin/node
suite=$cache/node_modules/@modelcontextprotocol/conformance
work=$cache/run.$$
gateway_pid=

fail() {
    echo "conformance: $*" >&2
    exit 1
}

# Only what this script started, by its id.
clean_up() {
    if [ -n "$gateway_pid" ] && kill -0 "$gateway_pid" 2>/dev/null; then
        kill -TERM "$gateway_pid" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 "$gateway_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$gateway_pid" 2>/dev/null || true
        wait "$gateway_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_suite() {
    if grep -q "\"version\": \"$suite_version\"" "$suite/package.json" 2>/dev/null &&
        "$node" --version >/dev/null 2>&1; then
        return
    fi
    mkdir -p "$cache"
    echo '{"private": true}' >"$cache/package.json"
    timeout 300 npm install --prefix "$cache" --no-audit --no-fund --loglevel=error \
        "@modelcontextprotocol/conformance@$suite_version" "node@$node_version" >&2 ||
        fail "failed to install the suite into $cache: is the npm registry within reach?"
    "$node" --version >/dev/null || fail "node@$node_version in $cache does not run"
}

build() {
    local target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$PWD/$target ;; esac
    case $profile in
    release) gateway=$target/release/onemcp ;;
    dev) gateway=$target/debug/onemcp ;;
    *) fail "CONFORMANCE_PROFILE=$profile: use release or dev" ;;
    esac
    if [ -n "${ONEMCP_BIN:-}" ]; then
        gateway=$ONEMCP_BIN
    else
        cargo build --quiet --profile "$profile" --bin onemcp
    fi
    cargo build --quiet --example everything
    everything=$target/debug/examples/everything
}

start_gateway() {
    printf '{"mcpServers": {"everything": {"command": "%s", "args": %s, "instances": "%s"}}}\n' \
        "$everything" '["--era", "legacy"]' "$instances" >"$work/mcp.json"
    "$gateway" --config "$work/mcp.json" --port 0 \
        >"$work/gateway.out" 2>"$work/gateway.err" </dev/null &
    gateway_pid=$!
    local port=
    for _ in $(seq $((start_seconds * 10))); do
        port=$(sed -n '/"event": *"listening"/s/.*"port": *\([0-9]*\).*/\1/p' \
            "$work/gateway.out" | head -n 1)
        [ -z "$port" ] || break
        kill -0 "$gateway_pid" 2>/dev/null || break
        sleep 0.1
    done
    if [ -z "$port" ]; then
        tail -n 20 "$work/gateway.err" >&2
        fail "the gateway did not report that it listens"
    fi
    url=http://127.0.0.1:$port/mcp/everything
}

# run_set LABEL ARGUMENT...: one requirement set; remembers in $bad that it went wrong.
run_set() {
    local label=$1 out=$work/$1 verdict=0 tally_verdict=0 counts
    shift
    mkdir -p "$out"
    timeout "$run_seconds" "$node" "$suite/dist/index.js" server --url "$url" "$@" \
        --expected-failures "$expected" -o "$out" >"$out/run.log" 2>&1 </dev/null || verdict=$?
    counts=$("$node" fixtures/conformance/tally.mjs "$out" "$expected") || tally_verdict=$?
    # shellcheck disable=SC2086 # three numbers, split on purpose
    printf '%s: %s passed, %s failed, %s warned\n' "$label" ${counts:-0 0 0}
    if [ "$verdict" -ne 0 ]; then
        echo "  the suite ended with $verdict; its last lines:" >&2
        tail -n 5 "$out/run.log" >&2
    fi
    [ "$verdict" -eq 0 ] && [ "$tally_verdict" -eq 0 ] || bad=1
}

[ $# -le 1 ] || fail "usage: scripts/conformance.sh [URL]"
mkdir -p "$work"
install_suite
if [ $# -eq 1 ]; then
    url=$1
else
    build
    start_gateway
fi

bad=0
run_set 2025-11-25 --requirements 2025-11-25
run_set 2025-06-18 --suite all --spec-version 2025-06-18
run_set 2025-03-26 --suite all --spec-version 2025-03-26
if [ "$bad" -ne 0 ] && [ -n "$gateway_pid" ]; then
    echo "  last lines of the gateway's log:" >&2
    tail -n 20 "$work/gateway.err" >&2
fi
exit "$bad"

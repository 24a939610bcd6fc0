#!/usr/bin/env bash
# Runs the official MCP conformance suite against the gateway, or against any server.
#
#   scripts/conformance.sh        builds the gateway and fixtures/everything, starts both, runs
#                                 every cell of the matrix and the client scenarios
#   scripts/conformance.sh URL    runs the sets of the session era against an endpoint that is
#                                 already there (open, loopback)
#
# A cell is: the client's era, the server's era, the server's transport, the requirement set.
# Prints one line per cell and ends with 1 on any failure or warning.
# Needs cargo, npm and the npm registry (first run only). Settings by environment:
#   ONEMCP_BIN             a gateway to use instead of building one
#   CONFORMANCE_PROFILE    release (default) or dev: which gateway to build
#   CONFORMANCE_INSTANCES  auto (default), session or shared: how the gateway runs the servers
#   CONFORMANCE_ONLY       a pattern such as '*over modern stdio*': the cells to run
set -euo pipefail
cd "$(dirname "$0")/.."

suite_version=0.2.0-alpha.12
node_version=22
profile=${CONFORMANCE_PROFILE:-release}
instances=${CONFORMANCE_INSTANCES:-auto}
only=${CONFORMANCE_ONLY:-*}
start_seconds=30
run_seconds=180

fixtures=fixtures/conformance
cache=$PWD/.build/conformance
node=$cache/node_modules/.bin/node
suite=$cache/node_modules/@modelcontextprotocol/conformance
work=$cache/run.$$
started=()
bad=0

fail() {
    echo "conformance: $*" >&2
    exit 1
}

# Only what this script started, by its id.
clean_up() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill -TERM "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
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

# start NAME COMMAND...: starts a process that prints its endpoint; leaves that in $endpoint.
start() {
    local name=$1 pid
    shift
    "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    pid=$!
    started=("$pid" ${started[@]+"${started[@]}"})
    for _ in $(seq $((start_seconds * 10))); do
        endpoint=$(grep -ohm 1 'http://[^" ]*/mcp' "$work/$name.out" | head -n 1 || true)
        [ -z "$endpoint" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$work/$name.err" >&2
    fail "$name did not report that it listens"
}

# Both eras on stdio, and both over HTTP, behind one gateway.
start_all() {
    local legacy modern
    start legacy-http "$everything" --era legacy --http 0
    legacy=$endpoint
    start modern-http "$everything" --era modern --http 0
    modern=$endpoint
    cat >"$work/mcp.json" <<EOF
{"mcpServers": {
  "legacy-stdio": {"command": "$everything", "args": ["--era", "legacy"],
                   "instances": "$instances"},
  "modern-stdio": {"command": "$everything", "args": ["--era", "modern"]},
  "legacy-http": {"type": "http", "url": "$legacy", "instances": "$instances"},
  "modern-http": {"type": "http", "url": "$modern"}
}}
EOF
    start gateway env ONE_MCP_STATE_DIR="$work" "$gateway" --config "$work/mcp.json" --port 0
    base=$endpoint
}

wanted() {
    # shellcheck disable=SC2254 # a pattern on purpose
    case $1 in $only) ;; *) return 1 ;; esac
}

# judge LABEL FOLDER VERDICT EXPECTED: one line; remembers that it went wrong.
judge() {
    local label=$1 out=$2 verdict=$3 counts tally_verdict=0
    counts=$("$node" "$fixtures/tally.mjs" "$out" "$4") || tally_verdict=$?
    # shellcheck disable=SC2086 # three numbers, split on purpose
    printf '%s: %s passed, %s failed, %s warned\n' "$label" ${counts:-0 0 0}
    if [ "$verdict" -ne 0 ]; then
        echo "  the suite ended with $verdict; its last lines:" >&2
        tail -n 5 "$out/run.log" >&2
    fi
    [ "$verdict" -eq 0 ] && [ "$tally_verdict" -eq 0 ] || bad=1
}

# run_set LABEL URL EXPECTED ARGUMENT...: one requirement set.
run_set() {
    local label=$1 url=$2 expected=$fixtures/$3 verdict=0
    local out=$work/${label// /-}
    shift 3
    wanted "$label" || return 0
    mkdir -p "$out"
    timeout "$run_seconds" "$node" "$suite/dist/index.js" server --url "$url" "$@" \
        --expected-failures "$expected" -o "$out" >"$out/run.log" 2>&1 </dev/null || verdict=$?
    judge "$label" "$out" "$verdict" "$expected"
}

# session_sets LABEL URL: what a client of the session era must get.
session_sets() {
    local none=expected-failures.yaml
    run_set "$1 2025-11-25" "$2" $none --requirements 2025-11-25
    run_set "$1 2025-06-18" "$2" $none --suite all --spec-version 2025-06-18
    run_set "$1 2025-03-26" "$2" $none --suite all --spec-version 2025-03-26
}

server_cells() {
    local transport
    for transport in stdio http; do
        session_sets "session over legacy $transport" "$base/legacy-$transport"
        session_sets "session over modern $transport" "$base/modern-$transport"
        run_set "stateless over modern $transport 2026-07-28" "$base/modern-$transport" \
            expected-failures.yaml --requirements 2026-07-28
        # All but the extensions (tasks), which need a server that has them.
        run_set "stateless over legacy $transport 2026-07-28" "$base/legacy-$transport" \
            expected-failures-stateless-over-session.yaml --suite all --spec-version 2026-07-28
    done
}

# client_cell ERA SCENARIO REVISION: the gateway as the client of the suite's own server.
client_cell() {
    local label="$1 client, gateway as client, $2 $3" verdict=0
    local out=$work/${label//[ ,]/-}
    wanted "$label" || return 0
    mkdir -p "$out"
    timeout "$run_seconds" "$node" "$suite/dist/index.js" client --scenario "$2" \
        --spec-version "$3" --command "$node $PWD/$fixtures/client.mjs $gateway $1" \
        -o "$out" >"$out/run.log" 2>&1 </dev/null || verdict=$?
    judge "$label" "$out" "$verdict" "$fixtures/expected-failures.yaml"
}

# All of `conformance list` but auth/* (no credentials yet) and sep-2640-* (an extension about
# what a host does with skills). Custom headers are mirrored by the gateway for session clients
# and by stateless clients themselves, which is the server suite's to check.
client_cells() {
    local era
    for era in session stateless; do
        client_cell $era tools_call 2025-06-18
        client_cell $era tools_call 2025-11-25
        client_cell $era tools_call 2026-07-28
        client_cell $era elicitation-sep1034-client-defaults 2025-11-25
        client_cell $era sse-retry 2025-11-25
        client_cell $era json-schema-2020-12-preservation 2025-11-25
        client_cell $era json-schema-2020-12-preservation 2026-07-28
        client_cell $era sep-2322-client-request-state 2026-07-28
        client_cell $era http-standard-headers 2026-07-28
    done
    client_cell session initialize 2025-06-18
    client_cell session initialize 2025-11-25
    client_cell session http-custom-headers 2026-07-28
    client_cell session http-invalid-tool-headers 2026-07-28
    client_cell session json-schema-ref-no-deref 2026-07-28
    client_cell session request-metadata 2026-07-28
}

[ $# -le 1 ] || fail "usage: scripts/conformance.sh [URL]"
mkdir -p "$work"
install_suite
if [ $# -eq 1 ]; then
    session_sets "given server" "$1"
else
    build
    start_all
    server_cells
    client_cells
    if [ "$bad" -ne 0 ]; then
        echo "  last lines of the gateway's log:" >&2
        tail -n 20 "$work/gateway.err" >&2
    fi
fi
exit "$bad"

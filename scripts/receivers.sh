#!/usr/bin/env bash
# Shows that what the gateway says about itself is understood by programs that are not ours.
#
#   scripts/receivers.sh            all parts
#   scripts/receivers.sh PART..     these: prometheus otlp
#
#   prometheus   promtool finds nothing to say about /metrics; a real Prometheus scrapes it, knows
#                every series of the dashboard, and 100,000 made-up names add none
#   otlp         what is pushed is read by OpenTelemetry's own definitions (PyPI: opentelemetry-proto),
#                which must know every field of it; traces hang together
#
# ONEMCP_BIN names a binary to use instead of building one. Needs bash, curl and python3; what
# receives is taken from Debian (apt) into .build/receivers when it is not installed.
# One line per check (ok, FAIL or skip), then a summary; exit code 1 if anything failed.
set -uo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.build/receivers
drivers=$root/fixtures/receivers
fetch_limit_s=180
driver_limit_s=120
listen_limit_s=15
stop_limit_s=10

passed=0
failed=0
skipped=0
pids=()

ok() {
    passed=$((passed + 1))
    echo "ok $1"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
}

skip() {
    skipped=$((skipped + 1))
    echo "skip $1"
}

give_up() {
    echo "receivers.sh: $1" >&2
    exit 1
}

# Waits until the command after the limit succeeds: `within SECONDS command...`.
within() {
    local turns=$(($1 * 10))
    shift
    until "$@"; do
        turns=$((turns - 1))
        [ "$turns" -gt 0 ] || return 1
        sleep 0.1
    done
}

# Ends what was started here, by its id.
end_all() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill -TERM "$pid" 2>/dev/null
        within "$stop_limit_s" is_gone "$pid" || kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    pids=()
}
trap end_all EXIT

is_gone() {
    ! kill -0 "$1" 2>/dev/null
}

free_port() {
    local port
    for port in $(seq $((21000 + $$ % 9000)) 39999); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# Files of a Debian package, without installing it: nothing is started, and nobody need be root.
fetch() { # PACKAGE
    local folder=$work/packages/$1
    [ ! -d "$folder" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    rm -rf "$work/download" && mkdir -p "$work/download"
    (
        cd "$work/download" || exit 1
        # As root apt would hand the download to a user who may not write here.
        apt=(timeout "$fetch_limit_s" apt-get -qq -o APT::Sandbox::User=root)
        "${apt[@]}" download "$1" || { "${apt[@]}" update && "${apt[@]}" download "$1"; }
    ) >"$work/fetch.log" 2>&1 || return 1
    dpkg-deb -x "$work"/download/*.deb "$folder.new" && mv "$folder.new" "$folder"
}

# The path of a command, installed or fetched: `tool NAME PACKAGE`.
tool() {
    command -v "$1" && return
    fetch "$2" && echo "$work/packages/$2/usr/bin/$1"
}

# --- the gateway --------------------------------------------------------------------------------

build() {
    local target=${CARGO_TARGET_DIR:-$root/target}
    everything=$target/debug/examples/everything
    cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --bins --examples ||
        give_up "the build failed"
    gateway=${ONEMCP_BIN:-$target/debug/onemcp}
}

start_gateway() { # ARGS..: sets url
    cat >"$work/mcp.json" <<JSON
{"mcpServers": {"ev": {"command": "$everything"}, "bad": {"command": "false"}},
 "gateway": {"discovery": {"folder": {"type": "directory", "path": "found"}}}}
JSON
    mkdir -p "$work/found"
    # What the gateway before said is not taken for its word.
    rm -f "$work/gateway.out"
    "$gateway" serve --config "$work/mcp.json" --port 0 --state-dir "$work/state" "$@" \
        >"$work/gateway.out" 2>"$work/gateway.err" &
    pids+=("$!")
    within "$listen_limit_s" is_listening || give_up "the gateway does not listen"
}

is_listening() {
    url=$(sed -n '1s/.*"url":"\([^"]*\)\/mcp".*/\1/p' "$work/gateway.out")
    [ -n "$url" ]
}

# --- prometheus ---------------------------------------------------------------------------------

drive() {
    timeout "$driver_limit_s" python3 "$drivers/$1.py" "${@:2}"
}

scrape() {
    curl -sSf --max-time 10 "$url/metrics"
}

# Lines of a scrape that requests of clients may add to.
series_of_clients() {
    scrape | grep -c 'server_operation'
}

prometheus_part() {
    local promtool prometheus
    promtool=$(tool promtool prometheus) && prometheus=$(tool prometheus prometheus) || {
        if command -v apt-get >/dev/null; then
            fail "prometheus: cannot be fetched ($(tail -n 1 "$work/fetch.log" 2>/dev/null))"
        else
            skip "prometheus: not installed, and there is no apt-get"
        fi
        return
    }
    start_gateway
    drive calls "$url" 20 || fail "prometheus: calls"
    lint "$promtool"
    receive "$prometheus"
    flood
    end_all
}

lint() { # PROMTOOL
    scrape >"$work/metrics.txt" || fail "prometheus: no metrics"
    if "$1" check metrics <"$work/metrics.txt" >"$work/lint.txt" 2>&1 && [ ! -s "$work/lint.txt" ]; then
        ok "promtool: $(grep -c '^# TYPE' "$work/metrics.txt") metrics, nothing to say"
    else
        fail "promtool: $(head -n 5 "$work/lint.txt" | paste -sd ';')"
    fi
}

receive() { # PROMETHEUS
    local port
    port=$(free_port)
    cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: onemcp
    static_configs: [{targets: ["${url#http://}"]}]
YAML
    rm -rf "$work/tsdb"
    "$1" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
        --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
    pids+=("$!")
    if ! within "$listen_limit_s" curl -sSfo /dev/null "http://127.0.0.1:$port/-/ready" 2>/dev/null
    then
        fail "prometheus: does not start ($(tail -n 1 "$work/prometheus.log"))"
        return
    fi
    local line
    while IFS= read -r line; do
        case $line in
            ok\ *) ok "prometheus: ${line#ok }" ;;
            *) fail "prometheus: ${line#FAIL }" ;;
        esac
    done < <(drive queries "http://127.0.0.1:$port" "$url" "$root/deploy/grafana/onemcp.json" 2>&1 ||
        echo "FAIL the queries ended with $?")
}

flood() {
    local before after
    drive names "$url" 64 || fail "prometheus: made-up names"
    before=$(series_of_clients)
    drive names "$url" 100000 || fail "prometheus: made-up names"
    after=$(series_of_clients)
    if [ "$before" = "$after" ]; then
        ok "prometheus: 100,000 made-up names add no series ($after lines)"
    else
        fail "prometheus: 100,000 made-up names made $before lines to $after"
    fi
}

# --- otlp ---------------------------------------------------------------------------------------

# A Python that knows the definitions.
definitions() {
    local folder=$work/otlp-python
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "import opentelemetry.proto" 2>/dev/null ||
        { python3 -m venv "$folder" && timeout "$fetch_limit_s" \
            "$folder/bin/pip" install --quiet opentelemetry-proto; } >"$work/fetch.log" 2>&1 ||
        return 1
    echo "$folder/bin/python"
}

otlp_part() {
    local python port
    python=$(definitions) || {
        skip "otlp: opentelemetry-proto cannot be had ($(tail -n 1 "$work/fetch.log"))"
        return
    }
    port=$(free_port)
    start_gateway --otlp-endpoint "http://127.0.0.1:$port" --otlp-interval 500 \
        --otlp-headers "X-Key=hunter2-of-the-receiver"
    local line
    while IFS= read -r line; do
        case $line in
            ok\ *) ok "otlp: ${line#ok }" ;;
            *) fail "otlp: ${line#FAIL }" ;;
        esac
    done < <(timeout "$driver_limit_s" "$python" "$drivers/otlp.py" "$port" "$url" 2>&1 ||
        echo "FAIL the receiver ended with $?")
    if grep -q hunter2 "$work/gateway.err"; then
        fail "otlp: the log tells the key"
    else
        ok "otlp: the log does not tell the key"
    fi
    end_all
}

# ------------------------------------------------------------------------------------------------

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(prometheus otlp)
mkdir -p "$work/packages"
build
for part in "${parts[@]}"; do
    case $part in
        prometheus) prometheus_part ;;
        otlp) otlp_part ;;
        *) give_up "unknown part: $part" ;;
    esac
done
echo "receivers: $passed ok, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

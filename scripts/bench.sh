#!/usr/bin/env bash
# Measures the gateway beside a minimal floor and the bare server, prints the table of targets.
# Method and meaning of every row: docs/benchmark.md.
#
#   scripts/bench.sh [--quick] [--binary PATH] [--rig PATH] [--peers]
#
#   --quick        about a minute; full mode takes about six
#   --binary PATH  measure this executable instead of building one
#   --rig PATH     folder of a neutral rig (mcp-load, echo-server) to compare our floor with
#                  (BENCH_RIG does the same)
#   --peers        install and measure crate mcp-proxy 0.4.3 in the same run
#
# Exit codes: 0 all targets met, 1 a target missed, 2 the run is void, 64 usage, 69 nothing to run.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=7 era_rounds=9 duration=3 warmup=0.5 starts=11 sessions=1000 isolation_calls=2000 churn_calls=200
binary='' rig=${BENCH_RIG:-} peers=false
while [ $# -gt 0 ]; do
    case $1 in
        --quick) rounds=3 era_rounds=3 duration=0.5 warmup=0.2 starts=3 sessions=200
                 isolation_calls=250 churn_calls=25 ;;
        --binary) binary=${2:?--binary needs a path}; shift ;;
        --rig) rig=${2:?--rig needs a path}; shift ;;
        --peers) peers=true ;;
        *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
    esac
    shift
done

target_dir=${CARGO_TARGET_DIR:-target}
out=$PWD/.build/bench
lines=$out/runs.jsonl
rm -rf "$out"
mkdir -p "$out/state"
: >"$lines"
export ONE_MCP_STATE_DIR=$out/state

# --- what is measured ---------------------------------------------------------------------------

# The floor is what can be reached: it is compiled for speed, whatever the gateway is.
cargo build --quiet --release --config profile.release.opt-level=3 \
    --example load --example echo
load=$(realpath "$target_dir/release/examples/load")
echo_server=$(realpath "$target_dir/release/examples/echo")

build_gateway() {
    if [ -x scripts/build-static.sh ]; then
        scripts/build-static.sh >"$out/build.log" 2>&1 || { cat "$out/build.log" >&2; return 1; }
    else
        cargo build --quiet --release --bin onemcp
    fi
    # The newest one is the one just built; ls fails when one of the places is empty.
    { ls -t "$target_dir"/*-linux-*/release/onemcp "$target_dir"/release/onemcp 2>/dev/null || true
    } | head -1
}
[ -n "$binary" ] || binary=$(build_gateway)
[ -x "$binary" ] || { echo "bench: no gateway to measure: build it or give --binary" >&2; exit 69; }
binary=$(realpath "$binary")

if [ -n "$rig" ]; then
    for part in mcp-load echo-server; do
        CARGO_TARGET_DIR=$PWD/.build/rig \
            cargo build --quiet --release --offline --manifest-path "$rig/$part/Cargo.toml"
    done
    rig_load=$PWD/.build/rig/release/mcp-load
    rig_server=$PWD/.build/rig/release/echo-server
fi

peer=$PWD/.build/peers/bin/mcp-proxy
if $peers && [ ! -x "$peer" ]; then
    cargo install --quiet mcp-proxy --version 0.4.3 --root .build/peers
fi

# --- starting and ending: only what was started here, by its id ---------------------------------

pids=()
end() {
    kill -TERM "$1" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
end_all() {
    for pid in ${pids[@]+"${pids[@]}"}; do end "$pid"; done
    pids=()
}
trap end_all EXIT

# start NAME COMMAND..: sets pid and url; the command says where it listens on its first line.
start() {
    local name=$1
    shift
    "$@" >"$out/$name.out" 2>"$out/$name.err" &
    pid=$!
    pids+=("$pid")
    for _ in $(seq 200); do
        url=$(sed -n '1s/.*"url":"\([^"]*\)".*/\1/p' "$out/$name.out")
        [ -z "$url" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "bench: $name did not start; its last words:" >&2
    tail -5 "$out/$name.err" >&2
    return 1
}

# config FILE SERVERS [ARGS..]: an ordinary mcp.json with that many echo servers.
config() {
    local file=$1 servers=$2 arguments='' separator='' number
    shift 2
    for number in "$@"; do arguments="$arguments${arguments:+,}\"$number\""; done
    {
        printf '{"mcpServers":{'
        for number in $(seq "$servers"); do
            printf '%s"s%d":{"command":"%s","args":[%s]}' \
                "$separator" "$number" "$echo_server" "$arguments"
            separator=,
        done
        printf '}}\n'
    } >"$out/$file"
}

start_gateway() { # NAME SERVERS [ARGS..]
    local name=$1
    shift
    config "$name.json" "$@"
    start "$name" "$binary" --config "$out/$name.json" --port 0
}

wait_for_tools() { # URL COUNT
    "$load" tools --url "$1" --tools "$2" --calls 1 --duration 20 >/dev/null
}

free_port() {
    local port
    for port in $(seq $((20000 + $$ % 10000)) 39999); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

run() { # MODE LABEL ROW ARGS..: one line of figures; a run that fails leaves none and says why
    local mode=$1 label=$2 row=$3
    shift 3
    "$load" "$mode" --label "$label" --row "$row" "$@" >>"$lines" 2>>"$out/errors.log" ||
        echo "bench: no figures for $label $row: $(tail -1 "$out/errors.log")" >&2
}

# --- calls: gateway, floors, rig and peer side by side, round after round -----------------------

names=() ; declare -A urls ids
add() { names+=("$1"); urls[$1]=$url; ids[$1]=$pid; }

start_gateway gateway 1
wait_for_tools "$url" 2
add gateway
start floor-direct "$load" floor -- "$echo_server"
add floor-direct
start floor-handoff "$load" floor --handoff -- "$echo_server"
add floor-handoff
if [ -n "$rig" ]; then
    rig_port=$(free_port)
    "$rig_load" floor-gw --port "$rig_port" -- "$rig_server" >"$out/rig.out" 2>"$out/rig.err" &
    pid=$! url=http://127.0.0.1:$rig_port/mcp
    pids+=("$pid")
    add rig-direct
fi
if $peers; then
    peer_port=$(free_port)
    cat >"$out/peer.toml" <<TOML
[proxy]
name = "peer"
[proxy.listen]
host = "127.0.0.1"
port = $peer_port
[[backends]]
name = "s1"
transport = "stdio"
command = "$echo_server"
TOML
    "$peer" --config "$out/peer.toml" >"$out/peer.out" 2>"$out/peer.err" &
    pid=$! url=http://127.0.0.1:$peer_port/ # it serves MCP at the root
    pids+=("$pid")
    for _ in $(seq 100); do
        wait_for_tools "$url" 2 2>/dev/null && break
        sleep 0.1
    done
    add mcp-proxy
fi

calls() { # LABEL ROW CLIENTS PAYLOAD
    local label=$1 row=$2 clients=$3 payload=$4
    case $label in
        rig-direct)
            # The whole neutral chain, so that a slow client of ours cannot flatter the gateway.
            "$rig_load" http --url "${urls[$label]}" --pid "${ids[$label]}" --label "$label" \
                --clients "$clients" --payload "$payload" --duration "$duration" \
                --warmup "$warmup" 2>>"$out/errors.log" |
                sed "s/^{/{\"row\":\"$row\",/" >>"$lines" || true
            return ;;
        mcp-proxy) [ "$row" != mib ] || return 0 ;; # it stops answering at this size
    esac
    run http "$label" "$row" --url "${urls[$label]}" --pid "${ids[$label]}" \
        --clients "$clients" --payload "$payload" --duration "$duration" --warmup "$warmup"
}

for round in $(seq "$rounds"); do
    echo "bench: round $round of $rounds" >&2
    while read -r row clients payload; do
        for name in "${names[@]}"; do calls "$name" "$row" "$clients" "$payload"; done
        run stdio stdio "$row" --depth "$clients" --payload "$payload" --duration "$duration" \
            --warmup "$warmup" -- "$echo_server"
    done <<'ROWS'
c1 1 100
c8 8 100
c64 64 100
mib 8 1048576
ROWS
done

# Both eras at one gateway, in turns: the difference is small.
for round in $(seq "$era_rounds"); do
    for era in gateway gateway-stateless; do
        flag=()
        [ "$era" = gateway ] || flag=(--stateless)
        run http "$era" era --url "${urls[gateway]}" --pid "${ids[gateway]}" --clients 8 \
            --duration "$duration" --warmup "$warmup" ${flag[@]+"${flag[@]}"}
    done
done
end_all

# --- the gateway alone --------------------------------------------------------------------------

echo "bench: start, memory, lists, isolation, churn" >&2
config start.json 10
run coldstart gateway start --servers 10 --health --calls "$starts" --warmup 0.5 \
    -- "$binary" --config "$out/start.json" --port 0
run coldstart floor-direct start --servers 1 --calls "$starts" --warmup 0.5 \
    -- "$load" floor -- "$echo_server"

start_gateway load10 10
wait_for_tools "$url" 20
run http gateway load10 --url "$url" --pid "$pid" --clients 64 --servers 10 \
    --duration "$duration" --warmup "$warmup"
end_all

start_gateway idle 1
wait_for_tools "$url" 2
run idle gateway idle --url "$url" --pid "$pid" --clients "$sessions" --warmup 0.5 --duration 1
end_all
start_gateway idle-stateless 1
wait_for_tools "$url" 2
run idle gateway idle-stateless --url "$url" --pid "$pid" --clients "$sessions" --warmup 0.5 \
    --duration 1 --stateless
end_all
start idle-floor "$load" floor -- "$echo_server"
run idle floor-direct idle --url "$url" --pid "$pid" --clients "$sessions" --warmup 0.5 \
    --duration 1
end_all

for count in 1000 10000; do
    start_gateway "tools$count" 1 --tools "$count"
    run tools gateway "tools$count" --url "$url" --tools "$count" --calls 50 --duration 20
    end_all
done

start_gateway isolation 8
wait_for_tools "$url" 16
run isolation gateway isolation --url "$url" --clients 64 --servers 8 --calls "$isolation_calls"
end_all

start_gateway churn 1
wait_for_tools "$url" 2
run churn gateway churn --url "$url" --pid "$pid" --clients 8 --calls "$churn_calls" --warmup 1
end_all

case $binary in *musl*) limit=6 ;; *) limit=8 ;; esac
bytes=$(stat -c %s "$binary")
printf '{"row":"size","label":"gateway","mib":%d.%03d,"limit_mib":%d}\n' \
    $((bytes >> 20)) $(((bytes & 1048575) * 1000 >> 20)) "$limit" >>"$lines"

# --- the table ----------------------------------------------------------------------------------

code=0
"$load" report -- "$lines" >"$out/table.md" || code=$?
cat "$out/table.md"
if $peers && ! grep -q '"label":"mcp-proxy".*"calls_per_s"' "$lines"; then
    echo "bench: the peer was asked for and gave no figures" >&2
    [ "$code" != 0 ] || code=1
fi
if [ -n "$rig" ] && ! grep -q '"label":"rig-direct".*"calls_per_s"' "$lines"; then
    echo "bench: the run is void: the rig was given and gave no figures" >&2
    code=2
fi
exit "$code"

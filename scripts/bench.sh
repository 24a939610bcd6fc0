#!/usr/bin/env bash
# Measures the gateway beside a minimal floor and the bare server, prints the table of targets.
# Method and meaning of every row: docs/benchmark.md.
#
#   scripts/bench.sh [--quick] [--record] [--binary PATH] [--examples DIR] [--rig PATH]
#                    [--peers] [--peer NAME=URL]...
#
#   --quick          about two minutes; all rounds take about twenty
#   --record         write the figures into docs/performance.md and the charts beside it
#   --binary PATH    measure this executable instead of building one
#   --examples DIR   use the load generator and the echo server of this folder
#   --rig PATH       folder of a neutral rig (mcp-load, echo-server) to compare our floor with
#                    (BENCH_RIG does the same)
#   --peers          install crate mcp-proxy 0.4.3 and measure it in the same run
#   --peer NAME=URL  measure the gateway that listens at URL too; a tool of it ends in "echo"
#
# BENCH_OUT names the folder for lines and logs (.build/bench); it is emptied first.
# Exit codes: 0 all targets met, 1 a target missed, 2 the run is void, 64 usage, 69 nothing to run.
set -euo pipefail
said=scripts/bench.sh
for word in "$@"; do
    # Where things lie on this machine tells nobody anything.
    case $word in /*) word=${word##*/} ;; esac
    said="$said $word"
done
cd "$(dirname "$0")/.."
exec </dev/null

rounds=7 era_rounds=9 duration=2 warmup=0.4 starts=11 sessions=1000 isolation_calls=2000
churn_calls=200 lists=50 deaths=4 crash_quiet=5 soak=60 soak_warmup=10 run_max_s=120
quick=false record=false binary='' examples='' rig=${BENCH_RIG:-} own_peer=false
peers=() ; declare -A peer_urls
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=true rounds=3 era_rounds=3 duration=0.4 warmup=0.15 starts=3 sessions=200
                 isolation_calls=250 churn_calls=25 lists=20 deaths=2 crash_quiet=2 soak=10
                 soak_warmup=4 run_max_s=40 ;;
        --record) record=true ;;
        --binary) binary=${2:?--binary needs a path}; shift ;;
        --examples) examples=${2:?--examples needs a folder}; shift ;;
        --rig) rig=${2:?--rig needs a path}; shift ;;
        --peers) own_peer=true ;;
        --peer)
            [[ ${2:-} =~ ^[A-Za-z0-9._-]+=http:// ]] ||
                { echo "bench: give --peer NAME=http://..." >&2; exit 64; }
            peers+=("${2%%=*}")
            peer_urls[${2%%=*}]=${2#*=}
            shift ;;
        *) sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
    esac
    shift
done

target_dir=${CARGO_TARGET_DIR:-target}
out=${BENCH_OUT:-$PWD/.build/bench}
lines=$out/runs.jsonl
rm -rf "$out"
mkdir -p "$out/state"
: >"$lines"
export ONE_MCP_STATE_DIR=$out/state

# --- what is measured ---------------------------------------------------------------------------

# The floor is what can be reached: it is compiled for speed, whatever the gateway is.
if [ -z "$examples" ]; then
    cargo build --locked --quiet --release --config profile.release.opt-level=3 \
        --example load --example echo
    # The next ordinary build writes its own over these.
    examples=$out/examples
    mkdir -p "$examples"
    cp "$target_dir"/release/examples/{load,echo} "$examples"
fi
load=$(realpath "$examples/load")
echo_server=$(realpath "$examples/echo")

build_gateway() {
    if [ -x scripts/build-static.sh ]; then
        scripts/build-static.sh >"$out/build.log" 2>&1 || { cat "$out/build.log" >&2; return 1; }
    else
        cargo build --locked --quiet --release --bin onemcp
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
if $own_peer && [ ! -x "$peer" ]; then
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
    local pid
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
    timeout 25 "$load" tools --url "$1" --tools "$2" --calls 1 --duration 20 >/dev/null
}

# For gateways that do not say when they listen.
answers() { # URL NAME
    for _ in $(seq 50); do
        wait_for_tools "$1" 1 2>"$out/$2.err" && return 0
        sleep 0.2
    done
    echo "bench: $2 does not answer at $1: $(tail -1 "$out/$2.err")" >&2
    return 1
}

free_port() {
    local port
    for port in $(seq $((20000 + $$ % 10000)) 39999); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# One line of figures; a run that fails, hangs or answers nothing leaves a line that says so. A peer
# that has failed a row is not asked for it again.
declare -A given_up
run() { # MODE LABEL ROW ARGS..
    local mode=$1 label=$2 row=$3 limit_s=$run_max_s
    shift 3
    [ -z "${given_up[$label $row]:-}" ] || return 0
    [ -z "${peer_urls[$label]:-}" ] || limit_s=20
    [ "$mode" != soak ] || limit_s=$((soak + soak_warmup + 30))
    [ "$mode" != crash ] || limit_s=$((run_max_s + 30))
    if timeout -k 5 "$limit_s" "$load" "$mode" --label "$label" --row "$row" "$@" \
        >"$out/line" 2>>"$out/errors.log" && ! grep -q '"calls":0,' "$out/line"; then
        cat "$out/line" >>"$lines"
        return
    fi
    echo "bench: no figures for $label $row (see $out/errors.log)" >&2
    printf '{"row":"%s","label":"%s","failed":1}\n' "$row" "$label" >>"$lines"
    [ -z "${peer_urls[$label]:-}" ] || given_up[$label $row]=yes
}

# --- calls: gateway, floors, rig and peers side by side, round after round ----------------------

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
start_own_peer() { # sets pid and url
    local port
    port=$(free_port)
    cat >"$out/peer.toml" <<TOML
[proxy]
name = "peer"
[proxy.listen]
host = "127.0.0.1"
port = $port
[[backends]]
name = "s1"
transport = "stdio"
command = "$echo_server"
[[backends]]
name = "s2"
transport = "stdio"
command = "$echo_server"
args = ["--crash"]
TOML
    # It writes a line for each call: its words are not kept.
    "$peer" --config "$out/peer.toml" >/dev/null 2>&1 &
    pid=$!
    pids+=("$pid")
    url=http://127.0.0.1:$port/ # it serves MCP at the root
}
if $own_peer; then
    start_own_peer
    peers=(mcp-proxy ${peers[@]+"${peers[@]}"})
    peer_urls[mcp-proxy]=$url
fi
for name in ${peers[@]+"${peers[@]}"}; do
    url=${peer_urls[$name]}
    answers "$url" "$name" || exit 69
    pid=$("$load" owner --url "$url")
    add "$name"
done

calls() { # LABEL ROW CLIENTS PAYLOAD
    local label=$1 row=$2 clients=$3 payload=$4
    if [ "$label" = rig-direct ]; then
        # The whole neutral chain, so that a slow client of ours cannot flatter the gateway.
        [ "$payload" = 100 ] || return 0
        timeout 60 "$rig_load" http --url "${urls[$label]}" --pid "${ids[$label]}" \
            --label "$label" --clients "$clients" --payload "$payload" --duration "$duration" \
            --warmup "$warmup" 2>>"$out/errors.log" |
            sed "s/^{/{\"row\":\"$row\",/" >>"$lines" || true
        return
    fi
    run http "$label" "$row" --url "${urls[$label]}" --pid "${ids[$label]}" \
        --clients "$clients" --payload "$payload" --duration "$duration" --warmup "$warmup"
}

peer_calls() { # NAME: true when it still carries out a call
    timeout 10 "$load" http --url "${urls[$1]}" --duration 0.2 --warmup 0 2>/dev/null |
        grep -q '"calls":[1-9].*"errors":0,'
}

echo "bench: what peers hold" >&2
for name in ${peers[@]+"${peers[@]}"}; do
    [ "${ids[$name]}" != 0 ] || continue
    for kind in 'session --no-stream' 'stream'; do
        read -r row flag <<<"$kind"
        run idle "$name" "$row" --url "${urls[$name]}" --pid "${ids[$name]}" --clients 100 \
            --warmup 0.5 --duration 1 ${flag:+"$flag"}
    done
done

# The small first: what a peer cannot take must not spoil what it can.
for size in '100B 100' '10KiB 10240' '1MiB 1048576'; do
    read -r short payload <<<"$size"
    for round in $(seq "$rounds"); do
        echo "bench: $short, round $round of $rounds" >&2
        for clients in 1 8 64; do
            row=$short-$clients
            for name in "${names[@]}"; do calls "$name" "$row" "$clients" "$payload"; done
            run stdio stdio "$row" --depth "$clients" --payload "$payload" \
                --duration "$duration" --warmup "$warmup" -- "$echo_server"
        done
    done
    [ "$short" = 100B ] || continue
    for name in ${peers[@]+"${peers[@]}"}; do
        run soak "$name" soak --url "${urls[$name]}" --pid "${ids[$name]}" --clients 8 \
            --duration "$soak" --warmup "$soak_warmup"
    done
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

echo "bench: how peers take a crash" >&2
for name in ${peers[@]+"${peers[@]}"}; do
    if ! peer_calls "$name"; then
        echo "bench: $name has stopped answering" >&2
        # Ours to start: what wedged it was another row.
        [ "$name" = mcp-proxy ] && $own_peer || continue
        start_own_peer
        urls[$name]=$url
        answers "$url" "$name" || continue
    fi
    run crash "$name" crash --url "${urls[$name]}" --clients 4 --calls "$deaths" \
        --duration "$crash_quiet"
done
end_all

# --- the gateway alone --------------------------------------------------------------------------

echo "bench: start, lists, memory" >&2
for count in 1 10 50; do
    config start.json "$count"
    run coldstart gateway "start-$count" --servers "$count" --health --calls "$starts" \
        --warmup 1 -- "$binary" --config "$out/start.json" --port 0
done
run coldstart floor-direct start-1 --servers 1 --calls "$starts" --warmup 0.1 \
    -- "$load" floor -- "$echo_server"
run bare stdio start-1 --calls "$starts" -- "$echo_server"

for count in 100 1000 10000; do
    start_gateway "tools$count" 1 --tools "$count"
    run tools gateway "list-$count" --url "$url" --tools "$count" --calls "$lists" --duration 20
    end_all
    run bare stdio "list-$count" --calls $((lists / 10)) -- "$echo_server" --tools "$count"
done

start_gateway load10 10
wait_for_tools "$url" 20
run http gateway load10 --url "$url" --pid "$pid" --clients 64 --servers 10 \
    --duration "$duration" --warmup "$warmup"
end_all

held() { # LABEL ROW [FLAG]: at a process that has held nothing before
    run idle "$1" "$2" --url "$url" --pid "$pid" --clients "$sessions" --warmup 0.5 --duration 1 \
        ${3+"$3"}
    end_all
}
for kind in 'session --no-stream' 'stream' 'subscription --stateless'; do
    read -r row flag <<<"$kind"
    start_gateway "idle-$row" 1
    wait_for_tools "$url" 2
    held gateway "$row" ${flag:+"$flag"}
done
start idle-floor "$load" floor -- "$echo_server"
held floor-direct stream

echo "bench: answers, churn, a crashing server, time" >&2
start_gateway isolation 8
wait_for_tools "$url" 16
run isolation gateway isolation --url "$url" --clients 64 --servers 8 --calls "$isolation_calls"
end_all

start_gateway churn 1
wait_for_tools "$url" 2
run churn gateway churn --url "$url" --pid "$pid" --clients 8 --calls "$churn_calls" --warmup 1
end_all

start_gateway crash 2 --crash
wait_for_tools "$url" 6
run crash gateway crash --url "$url" --clients 4 --calls "$deaths" --duration "$crash_quiet"
end_all

start_gateway soak 1
wait_for_tools "$url" 2
run soak gateway soak --url "$url" --pid "$pid" --clients 8 --duration "$soak" \
    --warmup "$soak_warmup"
end_all

case $binary in *musl*|*static*) limit=6 ;; *) limit=8 ;; esac
bytes=$(stat -c %s "$binary")
printf '{"row":"size","label":"gateway","mib":%d.%03d,"limit_mib":%d}\n' \
    $((bytes >> 20)) $(((bytes & 1048575) * 1000 >> 20)) "$limit" >>"$lines"

# --- the table ----------------------------------------------------------------------------------

machine="$(nproc) cores, $(awk '/MemTotal/ {printf "%d GiB", $2 / 1048576}' /proc/meminfo)"
machine="$machine, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
printf '{"row":"meta","machine":"%s","commit":"%s","date":"%s","command":"%s","rounds":%d,' \
    "${machine//\"/}" "$commit" "$(date -u +%F)" "${said//[\"\\]/}" "$rounds" >>"$lines"
printf '"rig":%s}\n' "$([ -n "$rig" ] && echo true || echo false)" >>"$lines"

code=0
python3 fixtures/bench/main.py table "$lines" >"$out/table.md" || code=$?
cat "$out/table.md"
for name in ${peers[@]+"${peers[@]}"}; do
    grep -q "\"label\":\"$name\".*\"calls_per_s\"" "$lines" && continue
    echo "bench: the peer $name was asked for and gave no figures" >&2
    [ "$code" != 0 ] || code=1
done
if $record && [ "$code" -le 1 ]; then
    python3 fixtures/bench/main.py record "$lines" docs/performance.md
    echo "bench: written: docs/performance.md, docs/charts" >&2
fi
exit "$code"

#!/usr/bin/env bash
# Measures what counting and logging cost: CPU time of the gateway for each tool call with both as
# they are by default, and with both switched off, side by side in turns; the medians count.
#
#   scripts/cost.sh [--quick] [--audit] [--binary PATH] [--base PATH]
#
#   --audit        measure the audit log in its file instead, against none
#   --quick        3 short rounds, a report only
#   --binary PATH  measure this executable instead of building one
#   --base PATH    and this one beside it: an earlier build of the same profile
#
# Exit codes: 0 within the limit, 1 over it, 2 the run is void, 64 usage, 69 nothing to run.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

# A round is many short turns: what else the machine does then counts for both alike.
limit_us=0.7 rounds=9 turns=12 duration=0.4 warmup=0.1 binary='' base='' judge=true audit=false
while [ $# -gt 0 ]; do
    case $1 in
        --quick) rounds=3 turns=2 judge=false ;;
        --audit) audit=true limit_us=3 ;;
        --binary) binary=${2:?--binary needs a path}; shift ;;
        --base) base=${2:?--base needs a path}; shift ;;
        *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
    esac
    shift
done

target_dir=${CARGO_TARGET_DIR:-target}
out=$PWD/.build/cost
lines=$out/runs.jsonl
rm -rf "$out"
mkdir -p "$out"
: >"$lines"

cargo build --quiet --release --config profile.release.opt-level=3 --example load --example echo
[ -n "$binary" ] || { cargo build --quiet --release --bin onemcp; binary=$target_dir/release/onemcp; }
load=$target_dir/release/examples/load
echo_server=$(realpath "$target_dir/release/examples/echo")
[ -x "$binary" ] || { echo "cost: no gateway to measure: build it or give --binary" >&2; exit 69; }

pids=()
end_all() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap end_all EXIT

printf '{"mcpServers":{"s1":{"command":"%s"}}}\n' "$echo_server" >"$out/mcp.json"
names=() ; declare -A urls ids

start() { # NAME BINARY ARGS..
    local name=$1 binary=$2 url=''
    shift 2
    ONE_MCP_STATE_DIR=$out/state-$name "$binary" --config "$out/mcp.json" --port 0 "$@" \
        >"$out/$name.out" 2>"$out/$name.err" &
    pids+=("$!")
    ids[$name]=$!
    for _ in $(seq 200); do
        url=$(sed -n '1s/.*"url":"\([^"]*\)".*/\1/p' "$out/$name.out")
        [ -z "$url" ] || break
        sleep 0.05
    done
    [ -n "$url" ] || { echo "cost: $name did not start: $(tail -1 "$out/$name.err")" >&2; exit 69; }
    "$load" tools --url "$url" --tools 2 --calls 1 --duration 20 >/dev/null
    names+=("$name")
    urls[$name]=$url
}

if $audit; then
    start on "$binary" --audit-sinks file
    start off "$binary" --audit-sinks off
else
    start on "$binary"
    start off "$binary" --log-level error --no-enable-metrics
fi
[ -z "$base" ] || start base "$base"

for round in $(seq "$rounds"); do
    echo "cost: round $round of $rounds" >&2
    for _ in $(seq "$turns"); do
        # Whoever is first must not always be first.
        mapfile -t names < <(printf '%s\n' "${names[@]:1}" "${names[0]}")
        for name in "${names[@]}"; do
            "$load" http --label "$name" --row cost --url "${urls[$name]}" \
                --pid "${ids[$name]}" --clients 8 --payload 100 \
                --duration "$duration" --warmup "$warmup" >>"$lines"
        done
    done
done

python3 - "$lines" "$limit_us" "$judge" "$turns" <<'PYTHON'
import json
import statistics
import sys

figures = {}
for line in open(sys.argv[1], encoding="utf-8"):
    run = json.loads(line)
    figures.setdefault(run["label"], []).append(run["cpu_us_per_call"])
turns = int(sys.argv[4])
for label, all in figures.items():
    rounds = range(0, len(all), turns)
    figures[label] = [statistics.mean(all[at : at + turns]) for at in rounds]
medians = {label: statistics.median(all) for label, all in figures.items()}
for label, all in figures.items():
    print(f"{label}: {medians[label]:.2f} us of CPU per call (from {min(all):.2f} to {max(all):.2f})")
limit, verdict = float(sys.argv[2]), 0
for without in [label for label in figures if label != "on"]:
    # One round against the same round, so that a slow moment counts for both.
    pairs = [on - off for on, off in zip(figures["on"], figures[without])]
    more = statistics.median(pairs)
    spread = statistics.median(abs(pair - more) for pair in pairs)
    # How far the median of so many may be from the truth, roughly.
    doubt = 1.86 * spread / len(pairs) ** 0.5
    print(f"on - {without}: {more:+.2f} us, give or take {doubt:.2f} (median of {len(pairs)} rounds)")
    if doubt > limit:
        verdict = max(verdict, 2)
    elif more > limit:
        verdict = max(verdict, 1)
words = ["kept", "over", "void, the machine is too busy to tell"]
print(f"limit: {limit} us: {words[verdict]}")
sys.exit(verdict if sys.argv[3] == "true" else 0)
PYTHON

#!/usr/bin/env bash
# Shows that what is claimed holds: hostile input, faults, floods, time (docs/proof.md).
#
#   scripts/proof.sh [quick|full|soak] [PART...]    parts: the scripts in scripts/proof
#
# quick (default) is a part of CI; full does every count as the page promises it; soak runs for an
# hour. Each claim is one line: PASS or FAIL, its name, its figures. A run of all parts writes
# its lines into docs/proof.md. SEED=N replays the moments of an earlier run.
#
# ONEMCP_BIN names the gateway; without it one is built. Ends with 1 if anything failed. Only what
# a part started is ended, by its id.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

mode=quick
case ${1:-} in quick | full | soak)
    mode=$1
    shift
    ;;
esac

# Name, lane, seconds that it may take in quick and in full. The order is that of the page. What is
# in the lanes `input` and `ends` goes beside the other; what has `alone` has the machine to itself.
table() {
    if [ "$mode" = soak ]; then
        echo "soak alone 4500 4500"
        return
    fi
    while read -r part lane quick full; do
        [ ! -x "scripts/proof/$part.sh" ] || echo "$part $lane $quick $full"
    done <<'END'
http input 300 900
messages input 300 900
fuzz input 600 9000
models input 300 900
simulation input 500 3600
slow alone 240 1800
reload ends 180 600
term ends 180 900
kill ends 180 900
cycles ends 180 900
kills ends 240 900
faults alone 300 3600
system ends 300 900
soak ends 240 600
bench alone 300 1800
END
}

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

build() {
    local folder=${CARGO_TARGET_DIR:-target}
    case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
    cargo build --locked --quiet --profile fixtures --example proof --example hostile \
        --example load --example echo --example simulation
    export PROOF_EXAMPLES=$folder/fixtures/examples
    if [ -z "${ONEMCP_BIN:-}" ]; then
        cargo build --locked --quiet --release --bin onemcp
        ONEMCP_BIN=$folder/release/onemcp
    fi
    ONEMCP_BIN=$(realpath "$ONEMCP_BIN")
    export ONEMCP_BIN
}

# Its lines go to stdout and to the page. Whoever ends without a line has shown nothing.
run_part() {
    local part=$1 limit_s=$2 from=$SECONDS code=0
    export PROOF_WORK=$work/$part
    rm -rf "$PROOF_WORK"
    mkdir -p "$PROOF_WORK"
    timeout -k 10 "$limit_s" "scripts/proof/$part.sh" </dev/null 2>"$work/$part.notes" |
        tee "$work/$part.lines" || code=$?
    if [ "$code" -ne 0 ] && ! grep -q '^FAIL ' "$work/$part.lines" ||
        ! grep -q '^PASS \|^FAIL ' "$work/$part.lines"; then
        echo "FAIL $part ended_with=$code limit_s=$limit_s" | tee -a "$work/$part.lines"
    fi
    ! grep -q '^FAIL ' "$work/$part.lines" || tail -n 30 "$work/$part.notes" >&2
    echo "proof: $part took $((SECONDS - from)) s" >&2
}

run_lane() {
    local part lane quick full limit_s
    while read -r part lane quick full; do
        [ "$lane" = "$1" ] || continue
        limit_s=$quick
        [ "$mode" = quick ] || limit_s=$full
        run_part "$part" "$limit_s"
    done <<<"$chosen"
}

machine() {
    echo "$(nproc) cores, $(awk '/MemTotal/ {printf "%d GiB", $2 / 1048576}' /proc/meminfo)," \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)"
}

# In the place of what the last run of this mode wrote.
write_page() {
    local page=docs/proof.md
    {
        sed "/^<!-- figures of $mode/q" "$page"
        echo '```text'
        {
            echo "machine: $(machine)"
            echo "commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)," \
                "$(date -u +%F), gateway of $(stat -c %s "$ONEMCP_BIN") bytes, $SECONDS s"
            echo "command: SEED=$PROOF_SEED scripts/proof.sh $mode"
            cat "$work/lines"
        } | fold -s -w 116 | sed 's/ *$//'
        echo '```'
        sed "1,/^<!-- figures of $mode/d" "$page" | sed -n '/^<!-- end of figures/,$p'
    } >"$work/page"
    cp "$work/page" "$page"
}

chosen=$(table)
whole=true
if [ $# -gt 0 ]; then
    whole=false
    for part in "$@"; do
        grep -q "^$part " <<<"$chosen" || usage
    done
    chosen=$(grep -E "^($(tr ' ' '|' <<<"$*")) " <<<"$chosen")
fi
export PROOF_MODE=$mode PROOF_SEED=${SEED:-$(date +%s)}
build
work=$PWD/.build/proof
mkdir -p "$work"
# A part that does not come to its end has no line of an earlier run.
rm -f "$work"/*.lines
# What computes gives way to what waits.
run_lane input &
input=$!
renice -n 5 "$input" >/dev/null || true
run_lane ends
# How it went is in its lines.
wait "$input" || true
run_lane alone

missed=0
while read -r part _; do
    cat "$work/$part.lines" 2>/dev/null || echo "FAIL $part note=it_has_no_line"
done <<<"$chosen" >"$work/lines"
! grep -q '^FAIL ' "$work/lines" || missed=1
echo "proof: $mode with seed $PROOF_SEED took $SECONDS s" >&2
[ "$whole" = false ] || write_page
exit "$missed"

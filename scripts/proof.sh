#!/usr/bin/env bash
# Shows what must hold under trouble: reloads, ends, kills, restarts, faults (docs/proof.md).
#
#   scripts/proof.sh [quick|full|record] [PART...]    parts: reload term kill cycles kills faults
#
# quick (default) does a tenth of every count, full all of it; record does all of it and writes
# the figures into docs/proof.md. Each part prints one line of figures with the verdict ok or
# MISSED. SEED=N replays the moments of an earlier run.
#
# ONEMCP_BIN names the gateway; without it one is built. Ends with 1 if anything was missed. Only
# what the driver started is ended, by its id.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

mode=quick
case ${1:-} in quick | full | record)
    mode=$1
    shift
    ;;
esac
parts=("$@")
[ $# -gt 0 ] || parts=(reload term kill cycles kills faults)
seed=${SEED:-$(date +%s)}

# How often in a full run: reloads, rounds, kills, cycles, kills of servers, calls of each fault.
count_of() {
    case $1 in
    reload) echo 1000 ;;
    term | kill) echo 200 ;;
    cycles) echo 500 ;;
    kills) echo 10000 ;;
    faults) echo 60 ;;
    *) return 1 ;;
    esac
}

build() {
    local folder=${CARGO_TARGET_DIR:-target}
    case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
    cargo build --locked --quiet --release --example proof --example hostile
    proof=$folder/release/examples/proof
    hostile=$folder/release/examples/hostile
    binary=${ONEMCP_BIN:-}
    if [ -z "$binary" ]; then
        cargo build --locked --quiet --release --bin onemcp
        binary=$folder/release/onemcp
    fi
}

# In the place of everything behind the mark.
write_figures() {
    local page=docs/proof.md
    {
        sed '/^<!-- figures/q' "$page"
        printf '```text\n'
        fold -s -w 116 "$work/figures" | sed 's/ *$//'
        printf '```\n'
    } >"$work/page"
    cp "$work/page" "$page"
}

for part in "${parts[@]}"; do
    count_of "$part" >/dev/null || {
        sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
        exit 64
    }
done
build
work=$PWD/.build/proof
mkdir -p "$work"
: >"$work/figures"
missed=0
for part in "${parts[@]}"; do
    count=$(count_of "$part")
    [ "$mode" != quick ] || count=$((count / 10))
    from=$SECONDS
    "$proof" "$part" --gateway "$binary" --hostile "$hostile" --work "$work" --count "$count" \
        --seed "$seed" 2>"$work/$part.notes" | tee -a "$work/figures" || missed=1
    tail -n 20 "$work/$part.notes" | grep -vE "quiet_p99_ms=|rss_kib=" >&2 || true
    echo "proof: $part took $((SECONDS - from)) s" >&2
done
[ "$mode" != record ] || write_figures
exit "$missed"

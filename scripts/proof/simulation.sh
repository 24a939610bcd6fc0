#!/usr/bin/env bash
# The policy under virtual time, and faults in it that this must find (docs/proof.md).
set -euo pipefail

transitions=12000000
[ "$PROOF_MODE" = quick ] || transitions=300000000
# A fault that is not found by then is not found.
most=12000000

simulation=$PROOF_EXAMPLES/simulation
[ -x "$simulation" ] || cargo build --locked --quiet --profile fixtures --example simulation

"$simulation" --seed "$PROOF_SEED" --transitions "$transitions" --list >"$PROOF_WORK/run" &
run=$!

# A copy with all faults in it, built once; its packages stay from one run to the next.
folder=${CARGO_TARGET_DIR:-target}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
tree=$PROOF_WORK/tree
faulty=$folder/mutants/debug/mutants
mutants=true
"$simulation" tree "$tree" >&2 || mutants=false
if $mutants; then
    for offline in --offline ''; do
        # shellcheck disable=SC2086 # nothing, or one word
        if (cd "$tree" && CARGO_TARGET_DIR=$folder/mutants RUSTFLAGS="-Awarnings" \
            cargo build --quiet $offline) >&2; then
            mutants=true
            break
        fi
        mutants=false
    done
fi

missed=0
wait "$run" || missed=1
grep '^did \|^rule ' "$PROOF_WORK/run" >&2 || true
word=PASS
[ "$missed" = 0 ] || word=FAIL
grep '^DONE \|^BROKEN \|^NEVER ' "$PROOF_WORK/run" | sed "s/^DONE /$word simulation /;
    s/^BROKEN /FAIL simulation.broken /; s/^NEVER /FAIL simulation.never /" || missed=1

if ! $mutants; then
    echo "FAIL simulation.mutants note=the copy could not be built"
    exit 1
fi

# One line for each fault: its name, and after how many transitions it was found.
# shellcheck disable=SC2317 # xargs calls it
hunt() {
    local number=${1%%:*} name=${1#*:} count
    count=$("$faulty" --seed "$PROOF_SEED" --transitions "$most" --mutant "$number" |
        sed -n 's/^BROKEN .* transitions=\([0-9]*\) .*/\1/p') || true
    echo "${count:-none} $name"
}
export -f hunt
export faulty most
grep -v '^#' fixtures/simulation/mutants.txt | cut -d ' ' -f 1 | grep -n . |
    xargs -P 2 -I {} bash -c 'hunt "$1"' hunt {} | sort -n >"$PROOF_WORK/mutants"
cat "$PROOF_WORK/mutants" >&2
# Without any of them nothing must be found.
"$faulty" --seed "$PROOF_SEED" --transitions 1000000 | grep -q '^BROKEN' &&
    echo "none without-any-fault" >>"$PROOF_WORK/mutants"

awk '
    $1 == "none" { missed = missed " " $2; next }
    { at[++found] = $1; slowest = $2 ":" $1 }
    END {
        word = missed == "" && found >= 20 ? "PASS" : "FAIL"
        printf "%s simulation.mutants mutants=%d found=%d", word, NR, found
        printf " transitions_p50=%d slowest=%s", at[int((found + 1) / 2)], slowest
        if (missed != "") printf " missed=%s", missed
        printf "\n"
        exit word == "FAIL"
    }' "$PROOF_WORK/mutants" || missed=1
exit "$missed"

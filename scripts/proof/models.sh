#!/usr/bin/env bash
# Pure code with very many values, and what threads share in every order of theirs
# (docs/proof.md).
set -euo pipefail

cases=100000
[ "$PROOF_MODE" = quick ] || cases=1000000
# So many there are; fewer were forgotten.
laws_least=32
models_least=20

folder=${CARGO_TARGET_DIR:-target}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac

# In a crate of its own; its packages stay from one run to the next.
cargo_in() {
    local crate=$1 offline
    shift
    for offline in --offline ''; do
        # shellcheck disable=SC2086 # nothing, or one word
        if (cd "$crate" && CARGO_TARGET_DIR=$folder/models RUSTFLAGS="-Awarnings" \
            cargo "$@" --locked --quiet $offline) >&2; then
            return
        fi
    done
    return 1
}

missed=0
line() {
    local word=PASS
    [ "$1" = 0 ] || word=FAIL missed=1
    shift
    echo "$word $*"
}

if ! cargo_in fixtures/laws test --no-run; then
    line 1 models.laws note=not_built
    exit 1
fi
(
    cd fixtures/laws
    CARGO_TARGET_DIR=$folder/models RUSTFLAGS="-Awarnings" RUST_BACKTRACE=0 \
        PROPTEST_CASES=$cases PROPTEST_RNG_SEED=$PROOF_SEED \
        cargo test --locked --offline properties
) >"$PROOF_WORK/laws" 2>"$PROOF_WORK/laws.notes" &
laws=$!

# One line for each group of models: how many orders each of them has.
code=0
if cargo_in fixtures/loom build &&
    "$folder/models/debug/onemcp-loom" >"$PROOF_WORK/orders" 2>"$PROOF_WORK/order"; then
    [ "$(wc -l <"$PROOF_WORK/orders")" -ge "$models_least" ] || code=1
else
    tail -n 40 "$PROOF_WORK/order" >&2 || true
    code=1
fi
touch "$PROOF_WORK/orders"
for group in calls table session; do
    figures=$(awk -v group=$group '$1 == group { n++; all += $3; each = each " " $2 "=" $3 }
        END { printf "models=%d orders=%d%s", n, all, each }' "$PROOF_WORK/orders")
    line "$code" "models.$group $figures"
done

# Each model must break by its fault, and none without one.
code=0 found=0 number=0 survived=
tree=$PROOF_WORK/tree
if python3 fixtures/loom/tree.py "$tree" && cargo_in "$tree/fixtures/loom" build; then
    faulty=$folder/models/debug/onemcp-loom
    while read -r model; do
        number=$((number + 1))
        if FAULT=$number timeout 60 "$faulty" "$model" >/dev/null 2>"$PROOF_WORK/fault.$number"; then
            survived="$survived $model"
        elif grep -q 'panicked\|deadlock' "$PROOF_WORK/fault.$number"; then
            found=$((found + 1))
        fi
    done < <(grep -v '^#' fixtures/loom/faults.txt | cut -d ' ' -f 1)
    "$faulty" >/dev/null 2>&1 || survived="$survived none_is_on"
fi
[ "$found" -ge "$models_least" ] && [ -z "$survived" ] || code=1
line "$code" "models.faults faults=$number found=$found${survived:+ survived=${survived# }}"

code=0
wait "$laws" || code=1
kept=$(grep -c '^test .*properties::.* ok$' "$PROOF_WORK/laws" || true)
broken=$(grep -c '^test .*properties::.* FAILED$' "$PROOF_WORK/laws" || true)
[ "$kept" -ge "$laws_least" ] || code=1
[ "$code" = 0 ] || grep -A 12 'Test failed\|^error' "$PROOF_WORK/laws" "$PROOF_WORK/laws.notes" >&2 || true
each=$(sed -n 's/^test .*::\([a-z_]*\)::properties::.* ok$/\1/p' "$PROOF_WORK/laws" | sort | uniq -c |
    awk '{ printf " %s=%d", $2, $1 }')
line "$code" "models.laws laws=$kept cases=$cases broken=$broken$each"
exit "$missed"

#!/usr/bin/env bash
# Feeds whatever reads foreign bytes with mutated input, 600 s a target (docs/proof.md).
#
# The targets are those of cargo-fuzz, built as it builds them, but without it: compiling it takes
# longer than all of this. The stable compiler counts edges when it is told to (RUSTC_BOOTSTRAP),
# here in our code and in the parsers below it: the rest is quicker to build so. No sanitizer:
# what is fuzzed holds no unsafe code; panics, overflows, memory and time are looked at.
set -euo pipefail

seconds=600
[ "$PROOF_MODE" != quick ] || seconds=10
built=$PWD/.build/fuzz

build() {
    local flags='' flag package settings=()
    for flag in passes=sancov-module llvm-args=-sanitizer-coverage-level=4 \
        llvm-args=-sanitizer-coverage-inline-8bit-counters \
        llvm-args=-sanitizer-coverage-pc-table llvm-args=-sanitizer-coverage-trace-compares; do
        flags+="\"-C$flag\","
    done
    for package in onemcp onemcp-fuzz jsonc-parser toml_parser; do
        settings+=(--config "profile.release.package.$package.rustflags=[$flags]")
    done
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$built cargo build --manifest-path fuzz/Cargo.toml \
        --locked --quiet --release -Zprofile-rustflags "${settings[@]}" >&2
}

if ! build; then
    echo "FAIL fuzz note=the_targets_could_not_be_built"
    exit 1
fi
echo "fuzz: built after $SECONDS s" >&2
version=$(rustc --version | cut -d ' ' -f 2)
code=0
PYTHONDONTWRITEBYTECODE=1 python3 fuzz/main.py run "$built/release" "$PROOF_WORK" "$seconds" \
    "$PROOF_SEED" >"$PROOF_WORK/claims" || code=$?
cat "$PROOF_WORK/claims"
awk -v seconds="$seconds" -v version="$version" '
    { word[$1]++; split($3, runs, "="); all += runs[2] }
    END {
        printf "%s fuzz targets=%d seconds_each=%d runs=%d", word["FAIL"] || !NR ? "FAIL" : "PASS",
            NR, seconds, all
        printf " compiler=%s(RUSTC_BOOTSTRAP) sanitizer=none\n", version
    }' "$PROOF_WORK/claims"
exit "$code"

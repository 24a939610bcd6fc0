#!/usr/bin/env bash
# The seven numbers of docs/benchmark.md: few rounds with bounds for a busy machine in quick, all
# rounds and the targets themselves in full (docs/proof.md).
set -euo pipefail
export BENCH_OUT=$PROOF_WORK/bench
arguments=(--binary "$ONEMCP_BIN")
judge=claims
if [ "$PROOF_MODE" = quick ]; then
    arguments+=(--quick --examples "$PROOF_EXAMPLES")
    judge=quick-claims
fi
code=0
scripts/bench.sh "${arguments[@]}" >&2 || code=$?
if [ "$code" -gt 1 ]; then
    echo "FAIL bench ended_with=$code"
    exit 1
fi
python3 fixtures/bench/main.py "$judge" "$BENCH_OUT/runs.jsonl"

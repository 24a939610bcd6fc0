# A part that the driver of fixtures/proof runs: `drive PART COUNT`, a tenth of it in quick.
drive() {
    local count=$2
    [ "$PROOF_MODE" != quick ] || count=$((count / 10))
    exec "$PROOF_EXAMPLES/proof" "$1" --gateway "$ONEMCP_BIN" --hostile "$PROOF_EXAMPLES/hostile" \
        --work "$PROOF_WORK" --count "$count" --seed "$PROOF_SEED"
}

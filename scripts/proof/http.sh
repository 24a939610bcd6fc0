#!/usr/bin/env bash
# Raw requests that could be read in two ways, against the gateway and beside h11 (docs/proof.md).
set -euo pipefail

h11=0.16.0
python=$PWD/.build/h11/bin/python
if ! "$python" -c "import h11; assert h11.__version__ == '$h11'" 2>/dev/null; then
    { python3 -m venv .build/h11 && timeout 60 .build/h11/bin/pip install --quiet "h11==$h11"; } >&2 ||
        { echo "FAIL http.reference h11=missing" && exit 1; }
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$python" fixtures/http/main.py \
    "$ONEMCP_BIN" "$PROOF_EXAMPLES/hostile" "$PROOF_WORK" "$PROOF_MODE"

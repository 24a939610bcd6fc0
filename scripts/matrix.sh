#!/usr/bin/env bash
# Tries every pairing of a client and a server through the gateway, feature by feature, and what
# the official suite does not cover; validates every message out against its schema.
#
#   scripts/matrix.sh              writes the table of docs/bridge.md
#   scripts/matrix.sh --check      fails if the page has another table
#   scripts/matrix.sh --only WORDS runs the checks whose names contain WORDS, leaves the page alone
#
# ONEMCP_BIN names the gateway; without it one is built. Needs cargo and python3; the packages of
# fixtures/interop/requirements.txt are installed below .build (first run only).
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

install_limit_s=300
run_limit_s=600
page=docs/bridge.md
work=$PWD/.build/matrix
mkdir -p "$work"

fail() {
    echo "matrix: $*" >&2
    exit 1
}

# Shares what scripts/interop.sh has installed, if it is there.
find_python() {
    local folder pins=fixtures/interop/requirements.txt
    for folder in .build/interop "$work"; do
        python=$folder/venv/bin/python
        ! "$python" -c 'import jsonschema' 2>/dev/null || return 0
    done
    python3 -m venv "$work/venv" || fail "python3 has no venv"
    timeout "$install_limit_s" "$python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$pins" >&2 || fail "pip could not install the packages of $pins"
}

build() {
    local folder=${CARGO_TARGET_DIR:-target}
    case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
    cargo build --locked --quiet --examples
    examples=$folder/debug/examples
    binary=${ONEMCP_BIN:-}
    if [ -z "$binary" ]; then
        cargo build --locked --quiet --release --bin onemcp
        binary=$folder/release/onemcp
    fi
}

run() {
    timeout --kill-after=10 "$run_limit_s" "$python" fixtures/matrix/matrix.py \
        --gateway "$binary" --examples "$examples" "$@"
}

find_python
build
case ${1:-} in
'') run --page "$page" ;;
--check)
    cp "$page" "$work/bridge.md"
    run --page "$work/bridge.md"
    cmp -s "$page" "$work/bridge.md" || {
        diff "$page" "$work/bridge.md" || true
        fail "$page has another table: run scripts/matrix.sh and commit the page"
    }
    ;;
--only) run --only "${2:?--only needs words}" ;;
*) fail "usage: scripts/matrix.sh [--check | --only WORDS]" ;;
esac

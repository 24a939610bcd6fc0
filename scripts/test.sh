#!/usr/bin/env bash
# Runs every check that needs no network beyond the crates: format, lints, all tests.
#
#   scripts/test.sh            everything
#   scripts/test.sh NAME..     only the tests whose names contain NAME, without format and lints
#
# Needs cargo and a C compiler. Works in a clean clone, as root and as a plain user.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

step() {
    echo "== $*" >&2
    "$@"
}

# Minimal toolchains come without these two.
component() {
    cargo "$1" --version >/dev/null 2>&1 || step rustup component add "$2"
}

# The integration tests start these executables.
executables() {
    step cargo build --locked --bins --examples
}

if [ $# -gt 0 ]; then
    executables
    for name in "$@"; do
        step cargo test --locked --all-targets -- "$name"
    done
    exit
fi

component fmt rustfmt
component clippy clippy
step cargo fmt --check
step cargo clippy --locked --all-targets -- -D warnings
executables
step cargo test --locked --all-targets
step cargo test --locked --doc
RUSTDOCFLAGS='-D warnings' step cargo doc --locked --no-deps --document-private-items --quiet
echo "all tests passed" >&2

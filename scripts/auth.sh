#!/usr/bin/env bash
# Shows that OAuth clients and identity providers that are not ours get on with the gateway.
#
#   scripts/auth.sh            all parts
#   scripts/auth.sh PART..     these:
#
#   oauth4webapi    npm oauth4webapi, strict: discovery, registration, codes, refresh, revocation
#   openid-client   npm openid-client
#   sdk             npm @modelcontextprotocol/sdk, its own flow: login, step-up, refresh
#   client          npm @modelcontextprotocol/client, the same
#   python          PyPI mcp, the same
#   suite           the authorization server scenarios of the official conformance suite
#   foreign         tokens of another issuer (npm oauth2-mock-server and oidc-provider)
#
# Each has a gateway of its own, and a person who signs in and consents by the gateway's forms.
# ONEMCP_BIN names a binary to use instead of building one. Needs bash, node with npm, python3;
# what is driven is installed once into target/auth (npm brings the node that it needs).
# One line per check (ok or FAIL), then a summary; exit code 1 if anything failed.
set -uo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
drivers=$root/fixtures/auth
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/auth
node=$work/node_modules/.bin/node
python=$work/venv/bin/python
install_limit_s=300
part_limit_s=120

npm_packages=(
    node@22
    oauth4webapi@3.8.8
    openid-client@6.8.9
    oauth2-mock-server@8.2.3
    oidc-provider@9.13.3
    @modelcontextprotocol/sdk@1.32.2
    @modelcontextprotocol/client@2.4.0
    @modelcontextprotocol/conformance@0.2.0-alpha.12
)
pip_packages=(mcp==2.3.0)

give_up() {
    echo "auth.sh: $1" >&2
    exit 1
}

# Does nothing when these very packages are there.
installed() { # STAMP PACKAGE..
    [ -f "$1" ] && [ "$(cat "$1")" = "${*:2}" ]
}

install_node_packages() {
    installed "$work/npm.stamp" "${npm_packages[@]}" && return
    echo '{"private": true, "type": "module"}' >"$work/package.json"
    (cd "$work" && timeout "$install_limit_s" npm install --no-audit --no-fund \
        --loglevel=error "${npm_packages[@]}") >&2 || give_up "npm could not install its packages"
    echo "${npm_packages[*]}" >"$work/npm.stamp"
}

install_python_packages() {
    installed "$work/pip.stamp" "${pip_packages[@]}" && return
    [ -x "$python" ] || python3 -m venv "$work/venv" || give_up "python3 has no venv to give"
    timeout "$install_limit_s" "$python" -m pip install --quiet --disable-pip-version-check \
        "${pip_packages[@]}" >&2 || give_up "pip could not install its packages"
    echo "${pip_packages[*]}" >"$work/pip.stamp"
}

build() {
    onemcp=${ONEMCP_BIN:-$target/debug/onemcp}
    [ -n "${ONEMCP_BIN:-}" ] ||
        cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --bin onemcp ||
        give_up "the build failed"
    onemcp=$(realpath "$onemcp")
}

# Its lines go to a file, so that parts may run side by side.
run_part() { # PART
    local command=("$node" "$work/$1.mjs" "$onemcp") verdict=0
    [ "$1" != python ] || command=("$python" "$work/sdk.py" "$onemcp" "$node")
    (cd "$work" && timeout "$part_limit_s" "${command[@]}") >"$work/$1.out" 2>"$work/$1.err" ||
        verdict=$?
    # Who ends without a word has failed, too.
    [ "$verdict" -eq 0 ] || grep -q '^FAIL' "$work/$1.out" ||
        echo "FAIL $1: ended with $verdict" >>"$work/$1.out"
}

show() { # PART
    cat "$work/$1.out"
    grep -q '^FAIL' "$work/$1.out" && sed 's/^/  /' "$work/$1.err" >&2
    return 0
}

known=(oauth4webapi openid-client sdk client python suite foreign)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${known[@]}")
for part in "${parts[@]}"; do
    [[ " ${known[*]} " == *" $part "* ]] || give_up "unknown part: $part"
done
mkdir -p "$work"
install_node_packages
install_python_packages
build
cp "$drivers"/* "$work/"

# Nothing but waiting: the keys of an issuer are asked for again after half a minute.
[[ " ${parts[*]} " != *" foreign "* ]] || run_part foreign &
aside=$!
for part in "${parts[@]}"; do
    [ "$part" = foreign ] || { run_part "$part" && show "$part"; }
done
wait "$aside"
[[ " ${parts[*]} " != *" foreign "* ]] || show foreign

outputs=("${parts[@]/#/$work/}")
passed=$(cat "${outputs[@]/%/.out}" | grep -c '^ok ')
failed=$(cat "${outputs[@]/%/.out}" | grep -c '^FAIL ')
echo "auth: $passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# The gateway as an OAuth client of servers, against others' authorization servers: the official
# conformance suite's client scenarios auth/*, and npm oidc-provider.
#
# Prints one line per scenario and ends with 1 on any failure.
# Needs cargo, npm and the npm registry (first run only). Settings by environment:
#   ONEMCP_BIN          a gateway to use instead of building one (dev)
#   OAUTH_CLIENT_ONLY   a pattern such as 'auth/scope-*': the scenarios to run
set -euo pipefail
cd "$(dirname "$0")/.."

suite_version=0.2.0-alpha.12
provider_version=9.13.3
node_version=22
only=${OAUTH_CLIENT_ONLY:-*}
run_seconds=90

fixtures=$PWD/fixtures/conformance
cache=$PWD/.build/conformance
provider=$PWD/.build/oidc-provider
node=$cache/node_modules/.bin/node
suite=$cache/node_modules/@modelcontextprotocol/conformance
work=$cache/oauth.$$
bad=0

fail() {
    echo "oauth-client: $*" >&2
    exit 1
}

trap 'rm -rf "$work"' EXIT

# install FOLDER PACKAGE...
install() {
    local folder=$1
    shift
    mkdir -p "$folder"
    echo '{"private": true}' >"$folder/package.json"
    timeout 300 npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "$@" >&2 ||
        fail "failed to install $* into $folder: is the npm registry within reach?"
}

install_all() {
    grep -q "\"version\": \"$suite_version\"" "$suite/package.json" 2>/dev/null ||
        install "$cache" "@modelcontextprotocol/conformance@$suite_version" "node@$node_version"
    grep -q "\"version\": \"$provider_version\"" \
        "$provider/node_modules/oidc-provider/package.json" 2>/dev/null ||
        install "$provider" "oidc-provider@$provider_version"
}

build() {
    local target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$PWD/$target ;; esac
    gateway=${ONEMCP_BIN:-$target/debug/onemcp}
    [ -n "${ONEMCP_BIN:-}" ] || cargo build --quiet --bin onemcp
}

wanted() {
    # shellcheck disable=SC2254 # a pattern on purpose
    case $1 in $only) ;; *) return 1 ;; esac
}

# scenario NAME REVISION...
scenario() {
    local name=$1 revision out counts verdict
    shift
    wanted "$name" || return 0
    for revision in "$@"; do
        out=$work/${name//\//-}-$revision
        mkdir -p "$out"
        verdict=0
        local how=(--spec-version "$revision")
        [ "$revision" != extension ] || how=()
        timeout "$run_seconds" "$node" "$suite/dist/index.js" client --scenario "$name" \
            ${how[@]+"${how[@]}"} --command "$node $fixtures/login.mjs $gateway" \
            -o "$out" >"$out/run.log" 2>&1 </dev/null || verdict=$?
        counts=$("$node" "$fixtures/tally.mjs" "$out/auth" "$fixtures/expected-failures.yaml") ||
            verdict=1
        # shellcheck disable=SC2086 # three numbers, split on purpose
        printf '%s %s: %s passed, %s failed, %s warned\n' "$name" "$revision" ${counts:-0 0 0}
        [ "$verdict" -eq 0 ] || { bad=1 && tail -n 15 "$out/run.log" >&2; }
    done
}

# All auth/* of the suite but DPoP, workload identity and enterprise-managed authorization:
# extensions that the gateway does not carry out.
scenarios() {
    local name
    for name in metadata-default metadata-var1 metadata-var2 metadata-var3 basic-cimd \
        scope-from-www-authenticate scope-from-scopes-supported scope-omitted-when-undefined \
        scope-step-up scope-retry-limit token-endpoint-auth-basic token-endpoint-auth-post \
        token-endpoint-auth-none pre-registration; do
        scenario "auth/$name" 2025-11-25 2026-07-28
    done
    for name in resource-mismatch offline-access-scope offline-access-not-supported \
        authorization-server-migration iss-supported iss-not-advertised iss-supported-missing \
        iss-wrong-issuer iss-unexpected iss-normalized metadata-issuer-mismatch; do
        scenario "auth/$name" 2026-07-28
    done
    scenario auth/2025-03-26-oauth-metadata-backcompat 2025-03-26
    scenario auth/2025-03-26-oauth-endpoint-fallback 2025-03-26
    scenario auth/client-credentials-jwt extension
    scenario auth/client-credentials-basic extension
}

# A server that takes tokens of oidc-provider: login, a token that is renewed, another login.
with_provider() {
    wanted oidc-provider || return 0
    local verdict=0
    timeout "$run_seconds" "$node" "$fixtures/oidc-provider.mjs" "$gateway" \
        "$provider/node_modules/oidc-provider/lib/index.js" \
        >"$work/provider.log" 2>&1 </dev/null || verdict=$?
    grep '^oidc-provider' "$work/provider.log" || true
    [ "$verdict" -eq 0 ] || { bad=1 && tail -n 20 "$work/provider.log" >&2; }
}

mkdir -p "$work"
install_all
build
scenarios
with_provider
exit "$bad"

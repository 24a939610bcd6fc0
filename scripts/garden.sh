#!/usr/bin/env bash
# Raw requests that two readers may frame differently, each through every proxy that Debian has,
# to a gateway behind it. Behind each of them come requests that must get their own answers, and a
# relay between proxy and gateway counts what either believes: 0 desyncs.
#
#   scripts/garden.sh              all fronts
#   scripts/garden.sh FRONT..      these: haproxy nginx apache varnish trafficserver caddy squid
#                                  lighttpd h2o nghttpx envoy naive-length naive-chunks
#
# The naive ones are ours: they frame as badly as programs once did. Before a server that does so,
# too, they must show desyncs; that is how the garden knows that it would find one.
#
# ONEMCP_BIN names a binary to use instead of building one, ENVOY_BIN an Envoy. Needs bash and
# python3; as root, proxies that are missing are installed from Debian, their services are kept
# from starting. Takes about 80 s; one line per front, exit code 1 if anything was found.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

work=$PWD/.build/garden
# shellcheck source=scripts/fronts.sh
. scripts/fronts.sh

rm -rf "$work"
mkdir -p "$work"
front_install haproxy nginx apache varnish trafficserver caddy squid lighttpd h2o nghttpx
front_envoy
front_gateway || exit 1
timeout 900 python3 fixtures/garden/main.py "$gateway" "$work" "$@"

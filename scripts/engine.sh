#!/usr/bin/env bash
# Finds containers of a real Podman: starts its service in a folder of its own, runs containers
# from busybox, and looks at what the gateway makes of their coming and going.
#
#   scripts/engine.sh             about 20 seconds, with the packages installed
#
# ONEMCP_BIN names a binary to use instead of building one. Needs root, and Debian's podman, runc,
# netavark, iptables and busybox-static, iproute2, curl and python3. Mounts, links and the rules of
# the firewall are made in namespaces of its own.
# Exit code 1 if anything failed; 0 with a word where this machine runs no containers.
set -euo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
skip() { echo "skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can run containers here"
for tool in podman runc busybox curl ip python3 unshare; do
  command -v "$tool" >/dev/null || skip "$tool is not installed"
done
if [ -z "${ONEMCP_BIN:-}" ]; then
  (cd "$root" && cargo build --locked --quiet)
  ONEMCP_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/onemcp
fi
if [ "${1:-}" != inside ]; then
  ONEMCP_BIN=$(realpath "$ONEMCP_BIN") exec timeout 150 unshare --mount --net "$0" inside
fi
ip link set lo up
mkdir -p /run /var/lib/cni
mount -t tmpfs none /run
mount -t tmpfs none /var/lib/cni

# The path of a socket has 108 bytes.
work=$(mktemp -d /tmp/onemcp-engine.XXXXXX)
cd "$work"
pids=()
engine() {
  podman --runtime runc --root "$work/root" --runroot "$work/run" --storage-driver vfs \
    --cgroup-manager cgroupfs "$@"
}
finish() {
  local code=$?
  engine rm -fa -t 0 >/dev/null 2>&1 || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [ "$code" = 0 ] || tail -n 30 "$work"/*.log >&2 || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT

mkdir -p tree/bin tree/www tree/proc tree/sys tree/dev tree/etc tree/tmp
cp "$(command -v busybox)" tree/bin/busybox
run() {
  local name=$1 network=$2
  shift 2
  cp -r tree "tree-$name"
  engine run -d --name "$name" --network "$network" --ulimit nofile=1024:1024 \
    --ulimit nproc=1024:1024 --label onemcp.port=8080 "$@" --rootfs "$work/tree-$name" \
    /bin/busybox httpd -f -p 0.0.0.0:8080 -h /www >>run.log 2>&1
}
run probe bridge || skip "this machine runs no containers: $(tail -n 1 run.log)"
engine rm -f -t 0 probe >>run.log 2>&1

engine system service -t 0 "unix://$work/api.sock" >service.log 2>&1 &
pids+=($!)
echo '{"gateway": {"discovery": {"pod": {"type": "docker", "socket": "api.sock"}}}}' >mcp.json
"$ONEMCP_BIN" serve --config mcp.json --port 0 >started.log 2>gateway.log &
pids+=($!)

# What was found, taken, and is there as a server, in one line.
standing() {
  local url
  url=$(sed -n 's/.*"url":"\([^"]*\)\/mcp".*/\1/p' started.log | head -n 1)
  curl -s --max-time 5 "$url/health" | python3 -c '
import json, sys
health = json.load(sys.stdin)
source = health["configuration"]["discovery"][0]
names = sorted(one["name"] for one in health["servers"]["details"])
print(source["ok"], source["found"], len(source["refused"]), *names)' 2>/dev/null || true
}
expect() {
  local what=$1 wanted=$2 seen=
  for _ in $(seq 100); do
    seen=$(standing)
    [ "$seen" != "$wanted" ] || { echo "ok: $what"; return 0; }
    sleep 0.1
  done
  echo "FAILED: $what: expected $wanted, found $seen" >&2
  return 1
}

expect "the engine is asked" "True 0 0"
run one bridge --label onemcp.enable=true
run plain bridge
expect "a container with the label is a server" "True 1 0 one"
run two bridge --label onemcp.enable=true --label onemcp.name=second
expect "a label names it" "True 2 0 one second"
run thief bridge --label onemcp.enable=true --label onemcp.name=second
run host host --label onemcp.enable=true
expect "a taken name and the network of the host are refused" "True 2 2 one second"
engine rm -f -t 0 two >>run.log 2>&1
expect "who has the name is gone, the next one has it" "True 2 1 one second"
engine rm -f -t 0 one thief host >>run.log 2>&1
expect "all are gone" "True 0 0"

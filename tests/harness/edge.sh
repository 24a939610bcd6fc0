#!/bin/busybox sh
# root: null proc run
# The script at the end of docs/edge.md, as it stands there.
set -eu
. /harness/lib.sh
export PATH=/run/bin:/ XDG_RUNTIME_DIR=/run/user
$bb mkdir -p /run/bin "$XDG_RUNTIME_DIR"
for applet in sed sleep; do
    $bb ln -s "$bb" "/run/bin/$applet"
done
cd /run
echo '{"mcpServers":{"clock":{"command":"/onemcp","args":["demo-server","clock"]}}}' >mcp.json
$bb sh -eu /harness/edge.txt || fail "it ended with $?"
echo "the script of docs/edge.md works"

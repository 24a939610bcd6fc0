#!/bin/busybox sh
# root: null proc run plain
# Every command of a harness: start, wait, list, call, health, restart, reload, drain, and their
# exit codes. The state is on a tmpfs; everything else is read-only.
set -eu
. /harness/lib.sh
export XDG_RUNTIME_DIR=/run/user
$bb mkdir -p "$XDG_RUNTIME_DIR"

config() {
    # Whole or not at all.
    echo "$1" >/run/mcp.new
    $bb mv /run/mcp.new /run/mcp.json
}
one='"clock":{"command":"/onemcp","args":["demo-server","clock"],"tags":["demo"]}'
two='"notes":{"command":"/onemcp","args":["demo-server","notes"]}'

expect 64 /onemcp --no-such-flag
expect 78 /onemcp serve
expect 78 /onemcp --config /run/none.json
config "{\"mcpServers\":{$one,}}"
expect 0 /onemcp config check /run/mcp.json
config '{"mcpServers":{"clock":{}}}'
expect 78 /onemcp config check /run/mcp.json
objects
config "{\"mcpServers\":{$one}}"
expect 69 /onemcp health --port 3051
expect 69 /onemcp status

/onemcp --config /run/mcp.json --port 0 >/run/out 2>/run/log &
gateway=$!
eventually 10 $bb grep -q listening /run/out
port=$($bb sed -n 's/.*"port":\([0-9]*\).*/\1/p' /run/out)
url=http://127.0.0.1:$port
[ "$($bb wc -l </run/out)" -eq 1 ] || fail "stdout has more than one line"

expect 0 /onemcp wait --timeout 20s
expect 0 /onemcp status
objects
holds '"state":"ready"'
expect 0 /onemcp health --ready --port "$port"
expect 0 /onemcp health clock --port "$port"
expect 1 /onemcp health nobody --port "$port"
expect 0 /onemcp list --url "$url"
holds '"clock"'
expect 0 /onemcp list clock --url "$url"
objects
holds now
expect 0 /onemcp call clock/now --url "$url"
objects
expect 1 /onemcp call clock/nothing --url "$url"
expect 0 /onemcp restart clock
expect 0 /onemcp wait clock --timeout 20s
expect 1 /onemcp restart nobody

config "{\"mcpServers\":{$one,$two}}"
expect 0 /onemcp reload
expect 0 /onemcp wait notes --timeout 20s
expect 0 /onemcp call notes/add_note --url "$url" --args '{"title":"a","text":"b"}'
config '{"mcpServers":{"clock":{"command":'
expect 78 /onemcp reload
expect 0 /onemcp call clock/now --url "$url"
config "{\"mcpServers\":{$one}}"
expect 0 /onemcp reload
expect 1 /onemcp wait notes
expect 0 /onemcp disable clock
expect 1 /onemcp health clock --port "$port"
expect 0 /onemcp enable clock
expect 0 /onemcp wait clock --timeout 20s
# Another gateway wants the same port.
expect 69 /onemcp --config /run/mcp.json --port "$port"

expect 0 /onemcp drain
code=0
wait "$gateway" || code=$?
[ "$code" -eq 0 ] || fail "the gateway ended with $code"
expect 69 /onemcp health --port "$port"
[ -z "$($bb ls /run/user/onemcp)" ] || fail "sockets are left: $($bb ls /run/user/onemcp)"
echo "commands and exit codes are as documented"

#!/bin/busybox sh
# root: null run names
# A server over HTTPS that has a name: resolved by the name server of resolv.conf, trusted by a
# certificate of our own. No /proc: the commands of the control socket are refused with 77.
set -eu
. /harness/lib.sh

{
    echo '{"mcpServers":{"clock":{"command":"/onemcp","args":["demo-server","clock"]}}}'
} >/run/tools.json
/onemcp --config /run/tools.json --port 8443 --tls-cert /etc/certificate.pem \
    --tls-key /etc/key.pem --allowed-hosts tools.example.test \
    --state-dir /run/tools >/run/tools.out 2>/run/tools.log &
tools=$!
{
    echo '{"mcpServers":{'
    echo '"far":{"url":"https://tools.example.test:8443/mcp","type":"http",'
    echo '"caFile":"/etc/ca.pem"},'
    echo '"untrusted":{"url":"https://tools.example.test:8443/mcp","type":"http"},'
    echo '"nowhere":{"url":"https://nobody.example.test:8443/mcp","type":"http"}}}'
} >/run/mcp.json
/onemcp --config /run/mcp.json --port 3050 --state-dir /run/own >/run/out 2>/run/log &
gateway=$!

eventually 20 /onemcp health far --port 3050
expect 0 /onemcp list far --url "$url"
holds now
expect 0 /onemcp call far/clock_1mcp_now --url "$url"
objects
expect 1 /onemcp health nowhere --port 3050
expect 1 /onemcp health untrusted --port 3050
expect 77 /onemcp status --socket /run/own/onemcp-3050.control.sock
for text in 'nobody.example.test' 'missing what=/proc'; do
    $bb grep -q "$text" /run/log || fail "the log does not say $text"
done
for pid in "$gateway" "$tools"; do
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" -eq 0 ] || fail "a gateway ended with $code"
done
echo "resolves names and speaks TLS upstream"

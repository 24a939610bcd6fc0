#!/bin/busybox sh
# root: plain
# Nothing at all: no /dev, /proc, /tmp, /run, HOME, no capability, nowhere to write. Without
# /dev/null this shell has no `&`; a pipe lets both run at the same time.
set -eu
. /harness/lib.sh

read_all() {
    $bb head -c 65536 <&0
}

ask() {
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" |
        $bb nc -w 5 127.0.0.1 3050
}

drive() {
    read -r gateway
    read -r line
    case $line in '{"event":"listening"'*'"port":3050}') ;; *) fail "said $line" ;; esac
    tries=100
    until /onemcp health --ready --port 3050; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "never ready"
        $bb usleep 100000
    done
    # Ready is not loaded: the servers come in their own time.
    until out=$(/onemcp list clock --url "$url") && [ -n "$out" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "the clock never comes"
        $bb usleep 100000
    done
    objects
    out=$(/onemcp call clock/now --url "$url")
    objects
    out=$(/onemcp call notes/add_note --url "$url" --args '{"title":"a","text":"b"}')
    objects
    out=$(ask /health)
    holds '200 OK'
    holds '"status":"healthy"'
    code=0
    /onemcp status || code=$?
    [ "$code" -eq 69 ] || fail "status without a socket ended with $code"
    # Nothing to reload; it must not end of that.
    kill -HUP "$gateway"
    out=$(/onemcp call clock/now --url "$url")
    objects
    kill -TERM "$gateway"
    echo "driven"
}

# Each says in its own way how it ended.
{
    code=0
    $bb sh -c 'echo $$; exec /onemcp demo --port 3050' || code=$?
    echo "gateway=$code" >&2
    [ "$code" -eq 0 ] || exit 1
} | {
    drive
    # Its end is the end of this pipe.
    read_all
}
echo "serves from a root with nothing in it"

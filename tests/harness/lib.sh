# What the scripts of this folder have in common. Sourced by busybox sh; no other program is
# there but /onemcp.

bb=/bin/busybox
url=http://127.0.0.1:3050

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect CODE COMMAND..: its exit code; its stdout stays in $out.
expect() {
    wanted=$1
    shift
    code=0
    out=$("$@" 2>/run/err) || code=$?
    [ "$code" -eq "$wanted" ] || {
        $bb cat /run/err >&2
        fail "$*: exit code $code, not $wanted; it said: $out"
    }
}

# holds TEXT: the last stdout has it.
holds() {
    case $out in *"$1"*) ;; *) fail "no $1 in: $out" ;; esac
}

# lines are JSON objects, one each.
objects() {
    [ -n "$out" ] || fail "nothing on stdout"
    echo "$out" | while read -r line; do
        case $line in "{"*"}") ;; *) fail "not one JSON object: $line" ;; esac
    done || exit 1
}

# eventually SECONDS COMMAND..: until it succeeds.
eventually() {
    tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || {
            "$@" >&2
            [ ! -f /run/log ] || $bb tail -n 20 /run/log >&2
            fail "never: $*"
        }
        $bb usleep 100000
    done
}

#!/usr/bin/env bash
# The whole gateway driven by busybox sh in roots that hold nothing but the two binaries.
#
#   scripts/harness.sh [NAME..]     the scripts in tests/harness; all of them by default
#
# Each script runs in a read-only root of its own, a tmpfs in private namespaces of mounts,
# processes and network. What else is there, its second line says (`# root: WORD..`):
#   null   /dev/null          proc   /proc             run    a tmpfs on /run, for sockets
#   names  resolv.conf, hosts, and a name server that knows tools.example.test
#   sieve  a seccomp filter, the one of an old container engine
#   plain  user 65532 without capabilities, who can get none
#   init   the gateway is PID 1, with /etc/mcp.json; the script comes beside it
# Memory and tasks of control groups: scripts/little.sh.
#
# ONEMCP_BIN names a static gateway; without it one is built. As root, or where users may make
# namespaces. Exit code 1 if anything failed. About a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/.build/harness
root=$work/root
script_limit_s=90
end_limit_s=15

fail() {
    echo "harness: $*" >&2
    exit 1
}

# --- outside ---------------------------------------------------------------------------------

# How to get namespaces here: empty for root, -r for others. Ends with 0 where that is forbidden.
namespaces() {
    if [ "$(id -u)" -eq 0 ] && unshare -mnpf true 2>/dev/null; then
        echo
    elif unshare -rmnpf true 2>/dev/null; then
        echo -r
    else
        echo "skipped: neither root nor allowed to make namespaces" >&2
        exit 0
    fi
}

tools() {
    local packages=()
    command -v busybox >/dev/null || packages+=(busybox-static)
    command -v openssl >/dev/null || packages+=(openssl)
    [ ${#packages[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "missing: ${packages[*]} (Debian's names)"
    apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends \
        "${packages[@]}" >/dev/null || fail "failed to install ${packages[*]}"
}

# An authority, and the certificate that it gives tools.example.test.
certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -x509)
    openssl req "${key[@]}" -keyout "$work/ca.key" -out "$work/ca.pem" -subj /CN=harness \
        2>/dev/null
    openssl req "${key[@]}" -keyout "$work/key.pem" -out "$work/certificate.pem" \
        -CA "$work/ca.pem" -CAkey "$work/ca.key" -subj /CN=tools.example.test \
        -addext subjectAltName=DNS:tools.example.test \
        -addext basicConstraints=critical,CA:FALSE 2>/dev/null
    chmod 644 "$work/key.pem"
}

outside() {
    local user script failed=0 from
    user=$(namespaces)
    [ "$(id -u)" -eq 0 ] || [ -n "$user" ] || exit 0
    tools
    if [ -z "${ONEMCP_BIN:-}" ]; then
        ONEMCP_BIN=$(scripts/build-static.sh | tail -n 1)
        ONEMCP_BIN=${ONEMCP_BIN% *}
    fi
    mkdir -p "$root"
    certificates
    for script in "$@"; do
        [ -f "tests/harness/$script.sh" ] || fail "there is no tests/harness/$script.sh"
        from=$SECONDS
        # shellcheck disable=SC2086 # nothing or one word
        if env -i PATH="$PATH" LANG=C ONEMCP_BIN="$(realpath "$ONEMCP_BIN")" \
            IS_ROOT="$([ -n "$user" ] || echo yes)" timeout -k 5 "$script_limit_s" \
            unshare $user -mnpf --kill-child --mount-proc "$0" --inside "$script" \
            >"$work/$script.log" 2>&1 </dev/null; then
            echo "harness: $script: ok, $((SECONDS - from)) s: $(tail -n 1 "$work/$script.log")"
        else
            echo "harness: $script: FAILED with $? (.build/harness/$script.log)" >&2
            tail -n 40 "$work/$script.log" >&2
            failed=1
        fi
    done
    exit "$failed"
}

# --- inside: namespaces of our own, which end with this script --------------------------------

has() {
    case " $words " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# A file of the host, or a folder, at the same place in the root.
bind() {
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}" && : >"$root$1"; fi
    mount --bind "$1" "$root$1"
}

furnish() {
    mount -t tmpfs -o mode=755 tmpfs "$root"
    mkdir -p "$root/bin" "$root/etc" "$root/harness"
    install -m 755 "$ONEMCP_BIN" "$root/onemcp"
    install -m 755 "$(command -v busybox)" "$root/bin/busybox"
    cp tests/harness/* "$root/harness"
    # The last block of commands.
    awk '/^```sh$/ { text = ""; inside = 1; next } /^```/ { inside = 0 }
        inside { text = text $0 "\n" } END { printf "%s", text }' docs/edge.md \
        >"$root/harness/edge.txt"
    cp "$work/key.pem" "$work/certificate.pem" "$work/ca.pem" "$root/etc"
    [ ! -f "tests/harness/$script.json" ] || cp "tests/harness/$script.json" "$root/etc/mcp.json"
    ! has null || bind /dev/null
    if has proc; then
        mkdir "$root/proc"
        has init || mount -t proc proc "$root/proc"
    fi
    if has run; then
        mkdir "$root/run" && mount -t tmpfs -o mode=1777 tmpfs "$root/run"
    fi
    if has names; then
        echo "nameserver 127.0.0.1" >"$root/etc/resolv.conf"
        printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
        python3 fixtures/nameserver.py 127.0.0.1 tools.example.test=127.0.0.1 &
    fi
    mount -o remount,ro "$root"
}

# In the root, as whom the script asks for. Nothing of the environment comes along.
enter() {
    local as=()
    if has sieve; then
        python3 fixtures/sieve.py "$root" "$@"
        return
    fi
    ! has plain || as=(--userspec=65532:65532)
    env -i "$(command -v chroot)" "${as[@]}" "$root" "$@"
}


# Children of the one process, as numbers.
children() {
    cat "/proc/$1/task/$1/children" 2>/dev/null
}

zombies() {
    grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
}

# The gateway is PID 1 of one more namespace; the script joins that.
beside_init() {
    local outer init tries=0 status=0
    local start='exec chroot "$0" /onemcp --config /etc/mcp.json --port 3050'
    ! has proc || start="mount -t proc proc \"\$0/proc\"; $start"
    env -i PATH="$PATH" unshare -mpf --kill-child sh -c "$start" "$root" \
        >"$work/$script.out" &
    outer=$!
    until init=$(children "$outer") && [ -n "$init" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "the gateway does not start"
        sleep 0.05
    done
    init=${init%% *}
    env -i "$(command -v nsenter)" -t "$init" -p -m "$(command -v chroot)" "$root" \
        /bin/busybox sh "/harness/$script.sh" || status=$?
    [ "$status" -eq 0 ] || fail "the script ended with $status"
    local deadline=$((SECONDS + end_limit_s))
    until [ "$(zombies)" -eq 0 ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$(zombies) zombies are left"
        sleep 0.1
    done
    kill -TERM "$init"
    wait "$outer" || status=$?
    [ "$status" -eq 0 ] || fail "PID 1 ended with $status"
    echo "PID 1 ended with 0, no zombie"
}

inside() {
    script=$1
    words=$(sed -n '2s/^# root: *//p' "tests/harness/$script.sh")
    if has plain && [ -z "$IS_ROOT" ]; then
        echo "skipped: other users need root"
        exit 0
    fi
    if has sieve && [ "$(uname -m)" != x86_64 ]; then
        echo "skipped: the filter is for x86-64"
        exit 0
    fi
    ip link set lo up 2>/dev/null || busybox ip link set lo up
    furnish
    if has init; then
        beside_init
        return
    fi
    enter /bin/busybox sh "/harness/$script.sh"
}

if [ "${1:-}" = --inside ]; then
    inside "$2"
    exit
fi
case ${1:-} in -*)
    sed -n '2,19s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
if [ $# -eq 0 ]; then
    for file in tests/harness/*.sh; do
        name=${file##*/}
        case $name in lib*) ;; *) set -- "$@" "${name%.sh}" ;; esac
    done
fi
outside "$@"

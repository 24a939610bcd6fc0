#!/usr/bin/env bash
# Does what README tells a newcomer on a fresh Debian: a clean root of debootstrap with a user of
# its own, in which the commands of "Two commands" and of "The first five minutes" are run word
# for word.
#
#   scripts/newcomer.sh [--quick]
#
# Debian's build-essential, curl, nodejs and npm are there, and cargo of this machine, as README
# presumes. --quick (CI) has curl alone: it takes the binary of ONEMCP_BIN in the place of the
# build, and the servers that want npx are shown as failed. scripts/test.sh is not run again.
#
# Needs root, debootstrap and Debian's mirror; where one cannot be had it says `skipped` and ends
# with 0. Exit code 1 if anything failed. A minute with --quick, else ten. Clean roots are kept in
# .build/newcomer; everything happens in a copy, in private namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

work=$PWD/.build/newcomer
root=$work/root
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=ca-certificates,curl
root_limit_s=600
run_limit_s=900
is_quick=

skip() {
    echo "skipped: $*" >&2
    exit 0
}

fail() {
    echo "newcomer: $*" >&2
    exit 1
}

# The blocks of both sections, one file each in their order: NN.check, NN.serve, NN.ask, NN.build;
# and mcp.json.
take_blocks() {
    awk -v folder="$1" '
        /^## / { wanted = $0 ~ /^## (Two commands|The first five minutes)/ }
        !wanted { next }
        /^```/ && name { close(name); name = ""; next }
        /^```json mcp.json/ { name = folder "/mcp.json"; next }
        /^```/ && !opened {
            kind = ""
            if ($0 == "```sh") kind = "build"
            if ($0 == "```sh test") kind = "check"
            if ($0 == "```sh test serve") kind = "serve"
            if ($0 == "```sh test gateway") kind = "ask"
            if (kind) { name = sprintf("%s/%02d.%s", folder, ++count, kind); next }
            opened = 1
            next
        }
        /^```/ { opened = 0; next }
        name { print > name }
    ' README.md
}

# What is kept is a finished root only.
fresh_root() {
    local kept=$work/kept${is_quick:+-quick}
    if [ ! -d "$kept" ]; then
        # What it mounts in there goes with it, even if it is interrupted.
        rm -rf --one-file-system "$kept.new"
        timeout "$root_limit_s" unshare -m debootstrap --variant=minbase --include="$packages" \
            bookworm "$kept.new" "$mirror" >"$work/debootstrap.log" 2>&1 ||
            skip "no root from $mirror (.build/newcomer/debootstrap.log)"
        mv "$kept.new" "$kept"
    fi
    rm -rf --one-file-system "$root"
    cp -a "$kept" "$root"
}

furnish() {
    local home=$root/home/newcomer
    chroot "$root" useradd -m -s /bin/bash newcomer
    mkdir "$home/blocks" "$home/onemcp"
    take_blocks "$home/blocks"
    [ -s "$home/blocks/mcp.json" ] || fail "README has no mcp.json any more"
    git ls-files -z | tar -c --null -T - | tar -x -C "$home/onemcp"
    [ -z "$is_quick" ] || install -m 755 "$ONEMCP_BIN" "$root/usr/local/bin/onemcp"
    [ -n "$is_quick" ] || mkdir "$root/opt/rust"
    cat >"$home/run.sh"
    chroot "$root" chown -R newcomer: /home/newcomer
    cp /etc/resolv.conf "$root/etc/resolv.conf"
}

case ${1:-} in
'') ;;
--quick) is_quick=yes ;;
*)
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
[ "$(id -u)" -eq 0 ] || skip "only root can make a root"
mkdir -p "$work"
command -v debootstrap >/dev/null ||
    apt-get -o DPkg::Lock::Timeout=300 install -y -q debootstrap >/dev/null 2>&1 ||
    skip "debootstrap cannot be had"
if [ -z "$is_quick" ]; then
    packages=$packages,build-essential,nodejs,npm
    rust=$(rustc --print sysroot)
elif [ -z "${ONEMCP_BIN:-}" ]; then
    ONEMCP_BIN=$(scripts/build-static.sh | tail -n 1)
    ONEMCP_BIN=${ONEMCP_BIN% *}
fi
fresh_root
furnish <<'INSIDE'
# As the newcomer, in an empty home.
set -eu
cd
export GITHUB_TOKEN=none PATH=/opt/rust/bin:$PATH
cp blocks/mcp.json .
gateway=
trap '[ -z "$gateway" ] || kill "$gateway"' EXIT

# Runs a file of commands that serve, until it says where. It is in $gateway.
serve() {
    sh "$1" >out 2>log &
    gateway=$!
    until grep -q '"event":"listening"' out; do
        kill -0 "$gateway" || { tail log; exit 1; }
        sleep 0.2
    done
}

end() {
    # The shell waits for it and ends as it does.
    kill -TERM "$(cut -d ' ' -f 1 "/proc/$gateway/task/$gateway/children")"
    wait "$gateway" || { echo "the gateway ended with $?"; exit 1; }
    gateway=
}

for block in blocks/[0-9]*; do
    echo "--- $block: $(head -n 1 "$block")"
    case $block in
    *.build)
        grep -q 'cargo run' "$block" && [ -x /opt/rust/bin/cargo ] || { echo "left out"; continue; }
        cd onemcp
        serve "../$block"
        curl -fsS http://127.0.0.1:3050/health/live
        end
        cd
        mkdir -p bin && cp onemcp/target/release/onemcp bin
        export PATH=$HOME/bin:$PATH
        ;;
    *.check) sh "$block" ;;
    *.serve)
        serve "$block"
        if command -v npx >/dev/null; then
            onemcp wait files --timeout 120s
        fi
        ;;
    *.ask)
        sh "$block" >answer
        head -c 300 answer
        echo
        grep -q '[{]' answer || { echo "no answer"; exit 1; }
        ;;
    esac
done
grep -q '"tools"' answer || { echo "tools/list gave no list"; exit 1; }
command -v npx >/dev/null && grep -q files_1mcp_read answer ||
    ! command -v npx >/dev/null || { echo "the list lacks the tools of files"; exit 1; }
end
echo "newcomer: every command did as README says"
INSIDE
# shellcheck disable=SC2016 # for the inner shell
timeout -k 5 "$run_limit_s" unshare -mpf --kill-child sh -c '
    mount -t proc proc "$1/proc"
    [ -z "$2" ] || mount --bind -o ro "$2" "$1/opt/rust"
    exec chroot "$1" su - newcomer -c "sh run.sh"
' sh "$root" "${rust:-}" >"$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    fail "FAILED (.build/newcomer/log)"
}
rm -rf --one-file-system "$root"
tail -n 1 "$work/log"

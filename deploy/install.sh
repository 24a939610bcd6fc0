#!/bin/sh
# Installs one version of onemcp: takes the archive for this machine, refuses it unless its SHA-256
# is the expected one, and copies program, man page and completions. Starts nothing.
#
#   install.sh URL [SHA256]     URL: of the folder that holds SHA256SUMS and the archives
#
# With SHA256, that of the file SHA256SUMS, got on another way than URL, not even who holds URL can
# exchange the program. PREFIX is where it goes (default /usr/local). Needs sh, tar, gzip,
# sha256sum, and curl or wget; busybox has all of them.
set -eu
umask 022
url=${1:?usage: install.sh URL [SHA256]}
prefix=${PREFIX:-/usr/local}
machine=$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "install: $*; nothing was installed" >&2
    exit 1
}
fetch() {
    if command -v curl >/dev/null; then
        curl -fsSL --max-time 300 -o "$work/$1" "$url/$1"
    else
        wget -q -O "$work/$1" "$url/$1"
    fi || fail "$url/$1 cannot be had"
}

case $machine in
x86_64 | aarch64) ;;
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) fail "there is no binary for $machine: build it with cargo" ;;
esac
# Not every wget checks certificates.
[ -n "${2:-}" ] || command -v curl >/dev/null || fail "without SHA256 curl is needed"
fetch SHA256SUMS
[ -z "${2:-}" ] || echo "$2  $work/SHA256SUMS" | sha256sum -c - >/dev/null 2>&1 ||
    fail "SHA256SUMS is not the one with the checksum $2"
line=$(grep -E "^[0-9a-f]{64} [ *]onemcp-[0-9.]+-linux-$machine\.tar\.gz$" "$work/SHA256SUMS") ||
    fail "SHA256SUMS names no archive for $machine"
archive=${line##*[ *]}
fetch "$archive"
(cd "$work" && echo "$line" | sha256sum -c - >/dev/null 2>&1) ||
    fail "$archive is not the one that SHA256SUMS names"
tar -xzf "$work/$archive" -C "$work"
from=$work/${archive%.tar.gz}
"$from/onemcp" --version >/dev/null || fail "the binary does not run here (is $work mounted noexec? set TMPDIR)"

share=$prefix/share
put() {
    mkdir -p "$(dirname "$3")"
    cp "$2" "$3.new" && chmod "$1" "$3.new" && mv "$3.new" "$3"
}
put 755 "$from/onemcp" "$prefix/bin/onemcp"
put 644 "$from/man/onemcp.1" "$share/man/man1/onemcp.1"
put 644 "$from/completions/onemcp.bash" "$share/bash-completion/completions/onemcp"
put 644 "$from/completions/_onemcp" "$share/zsh/site-functions/_onemcp"
put 644 "$from/completions/onemcp.fish" "$share/fish/vendor_completions.d/onemcp.fish"
echo "$("$prefix/bin/onemcp" --version) is installed in $prefix/bin; try: onemcp demo"

#!/usr/bin/env bash
# Makes what is handed out, in dist/: static binaries, archives, images, SBOMs and SHA256SUMS.
#
#   scripts/release.sh [--native] [--twice]
#
#   --native   only for this machine; without it for x86_64 and aarch64
#   --twice    build for this machine once more, from a copy of the sources in another folder and
#              with no cache, and fail unless it is the same to the byte (+3 minutes)
#
# Each binary has its size limit (6 MiB on musl, 8 MiB on gnu). Where no musl can be had, this machine
# gets a static gnu binary, and the other none; a notice says so. The other machine's C compiler is
# CC_aarch64_unknown_linux_musl (or CC_x86_64_..) if set, else zig (PyPI: ziglang, 100 MB) in
# .build/release. Times in the files are SOURCE_DATE_EPOCH, else that of the last commit.
# About 3 minutes for each machine on two cores. The last lines on stdout are SHA256SUMS.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
machine=$(uname -m)
work=$PWD/.build/release
again=$work/the-same-sources-in-another-folder
native=false twice=false
images=()

say() {
    echo "release: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

for flag in "$@"; do
    case $flag in
    --native) native=true ;;
    --twice) twice=true ;;
    *) fail "what is $flag? see the head of scripts/release.sh" ;;
    esac
done

# The words that image builders have for a machine.
image_word() {
    case $1 in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) echo "$1" ;; esac
}

# Sets CC and AR for a target of another machine.
cross_compiler() {
    local variable=${1//-/_} tool
    local compiler=CC_$variable
    [ -z "${!compiler:-}" ] || return 0
    if [ ! -x "$work/zig/bin/python" ] || ! "$work/zig/bin/python" -m ziglang version >/dev/null; then
        say "taking zig from PyPI as C compiler for $1"
        python3 -m venv "$work/zig" && "$work/zig/bin/pip" install -q ziglang >&2 || return 1
    fi
    for tool in cc ar; do
        printf '#!/bin/sh\nexec "%s" "%s" %s "$@"\n' "$PWD/deploy/release/zig" \
            "${1%%-*}-linux-musl" "$tool" >"$work/$1-$tool"
        chmod +x "$work/$1-$tool"
    done
    export ONEMCP_ZIG_PYTHON=$work/zig/bin/python
    export "CC_$variable=$work/$1-cc" "AR_$variable=$work/$1-ar"
}

# Whether binaries for another machine can be made: its musl, and a C compiler.
cross_is_there() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1" ] || {
        command -v rustup >/dev/null && rustup target add "$1" >&2
    } || return 1
    cross_compiler "$1"
}

# Packs one binary and what belongs to it: release_one ARCH BINARY TARGET.
release_one() {
    local name=onemcp-$version-linux-$1
    local folder=$work/$name
    rm -rf "$folder"
    mkdir -p "$folder/man" "$folder/completions" dist
    install -m 755 "$2" "dist/$name"
    install -m 755 "$2" "$folder/onemcp"
    cp LICENSE "$folder/"
    cp deploy/systemd/onemcp.service deploy/openrc/onemcp.initd deploy/openrc/onemcp.confd "$folder/"
    cp deploy/manual/onemcp.1 "$folder/man/"
    cp deploy/manual/onemcp.bash deploy/manual/_onemcp deploy/manual/onemcp.fish \
        "$folder/completions/"
    chmod -R u=rwX,go=rX "$folder"
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar \
        --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
    python3 deploy/release/sbom.py "$3" "$SOURCE_DATE_EPOCH" "$2" >"dist/$name.cdx.json"
    local word
    word=$(image_word "$1")
    rm -rf "dist/linux-$word"
    scripts/image.sh --folder "dist/linux-$word" "$word=$2"
    images+=("$word=$2")
}

# In a folder of another length, with nothing built; before the first build, so that both are of one
# state of the sources.
copy_sources() {
    rm -rf "$again"
    mkdir -p "$again"
    git ls-files -z | tar --null --files-from=- -cf - | tar -xf - -C "$again"
}

build_again() {
    local built
    built=$(cd "$again" && CARGO_TARGET_DIR=$again/target scripts/build-static.sh) ||
        fail "the second build failed"
    built=$(tail -n 1 <<<"$built")
    cmp "$1" "${built% *}" >&2 || fail "the second build is another: compare $1 with ${built% *}"
    say "the second build is the same: $(sha256sum "$1" | cut -d ' ' -f 1)"
    rm -rf "$again"
}

rm -rf dist
mkdir -p dist "$work"
! $twice || copy_sources
built=$(scripts/build-static.sh --limit | tail -n 1)
target=${built% *}
target=$(basename "$(dirname "$(dirname "$target")")")
release_one "$machine" "${built% *}" "$target"
! $twice || build_again "${built% *}"

if ! $native; then
    other=aarch64
    [ "$machine" != aarch64 ] || other=x86_64
    if cross_is_there "$other-unknown-linux-musl"; then
        built=$(ONEMCP_TARGET=$other-unknown-linux-musl scripts/build-static.sh --limit | tail -n 1)
        release_one "$other" "${built% *}" "$other-unknown-linux-musl"
    else
        say "NOTICE: nothing for $other: its musl target or a C compiler for it cannot be had here"
    fi
fi

scripts/image.sh --output "dist/onemcp-$version-image.tar" "${images[@]}" >/dev/null
cp deploy/install.sh dist/
sums=$(cd dist && find . -maxdepth 1 -type f -printf '%f\n' | LC_ALL=C sort | xargs sha256sum)
echo "$sums" | tee dist/SHA256SUMS

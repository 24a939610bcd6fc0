#!/usr/bin/env bash
# Builds the static release binary and shows that it is static and runs.
#
#   scripts/build-static.sh [--limit]
#
# The last line on stdout is `PATH BYTES`. With --limit a binary above its size limit is an error.
# The target is x86_64-unknown-linux-musl (aarch64 on such a machine). Where it cannot be had
# (no rustup, no C compiler for musl), gnu with +crt-static is built instead, and a notice says so.
# ONEMCP_TARGET names the target and refuses any other. One of another machine (scripts/release.sh)
# needs a C compiler in CC_TARGET and is linked with rust-lld; it runs in qemu where that is there.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

musl_limit_bytes=$((6 << 20))
gnu_limit_bytes=$((8 << 20))

machine=$(uname -m)
musl=$machine-unknown-linux-musl
gnu=$machine-unknown-linux-gnu
limited=false
[ "${1:-}" != --limit ] || limited=true

fail() {
    echo "build-static: $*" >&2
    exit 1
}

# Our C sources (ring, mimalloc) need headers for musl.
musl_is_there() {
    command -v musl-gcc >/dev/null || command -v "$machine-linux-musl-gcc" >/dev/null || {
        echo "build-static: no C compiler for musl (Debian, Ubuntu: apt-get install musl-tools)" >&2
        return 1
    }
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$musl" ] || return 0
    command -v rustup >/dev/null && rustup target add "$musl" >&2
}

choose_target() {
    if [ -n "${ONEMCP_TARGET:-}" ]; then
        echo "$ONEMCP_TARGET"
    elif musl_is_there; then
        echo "$musl"
    else
        echo "build-static: NOTICE: no $musl here, building $gnu with +crt-static" >&2
        echo "$gnu"
    fi
}

build() {
    local flags=()
    read -ra flags <<<"${RUSTFLAGS:-}"
    case $target in *-gnu) flags+=(-C target-feature=+crt-static) ;; esac
    # Relocations take a tenth of the room then; the libc that is linked in knows them.
    # shellcheck disable=SC2054 # one word for the linker
    case $target in
    "$machine"-*-musl) flags+=(-C link-arg=-Wl,-z,pack-relative-relocs) ;;
    *-musl)
        flags+=(-C linker=rust-lld -C link-self-contained=yes)
        flags+=(-C link-arg=-zpack-relative-relocs)
        ;;
    esac
    # What says #[inline] is copied to where it is called up to a bound of 325, made for speed:
    # that is a sixteenth of the binary. With this one what is small and often called still is.
    flags+=(-C llvm-args=-inlinehint-threshold=60)
    # Unwinding is told in fewer words then, and a profiler can follow calls.
    flags+=(-C force-frame-pointers=yes)
    # Nothing of this machine's folders belongs into the binary.
    flags+=("--remap-path-prefix=$PWD=onemcp")
    flags+=("--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo")
    # Nor does the time: C sources that print when they were compiled shall always say the same.
    local c_flags="CFLAGS_${target//-/_}"
    export SOURCE_DATE_EPOCH=0
    export "$c_flags=${!c_flags:-} -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=cargo"
    # Separated by what no path holds.
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}") \
        cargo build --locked --release --target "$target" --bin onemcp >&2
}

# A dynamic executable names its loader in an INTERP segment.
check_static() {
    if command -v readelf >/dev/null; then
        ! readelf --program-headers --wide "$binary" | grep -q INTERP ||
            fail "$binary has an INTERP segment: it is not static"
    elif command -v ldd >/dev/null; then
        ! ldd "$binary" 2>/dev/null | grep -q '=>' || fail "$binary needs shared libraries"
    else
        fail "neither readelf nor ldd is here to look at $binary"
    fi
}

check_runs_elsewhere() {
    local qemu version
    qemu=$(command -v "qemu-${target%%-*}-static" || command -v "qemu-${target%%-*}") || {
        echo "build-static: not run: it is for ${target%%-*}, and there is no qemu-user-static" >&2
        return 0
    }
    version=$("$qemu" "$binary" --version) || fail "$binary does not run in $qemu"
    echo "build-static: runs in $qemu: $version" >&2
}

# In an empty root, where only root may go; elsewhere plainly.
check_runs() {
    local place version
    case $target in "$machine"-*) ;; *) check_runs_elsewhere && return ;; esac
    if [ "$(id -u)" -eq 0 ]; then
        place=$(mktemp -d)
        # shellcheck disable=SC2064 # the folder of now
        trap "rm -rf '$place'" EXIT
        cp "$binary" "$place/onemcp"
        version=$(chroot "$place" /onemcp --version) || fail "$binary does not run in an empty root"
        echo "build-static: runs in an empty root: $version" >&2
    else
        version=$("$binary" --version) || fail "$binary does not run"
        echo "build-static: runs: $version (an empty root was not tried: not root)" >&2
    fi
}

check_size() {
    local limit=$musl_limit_bytes
    case $target in *-gnu) limit=$gnu_limit_bytes ;; esac
    echo "build-static: $target, $bytes bytes, limit $limit" >&2
    ! $limited || [ "$bytes" -le "$limit" ] || fail "$binary is larger than $limit bytes"
}

check_paths() {
    local path
    for path in "$PWD/" "${CARGO_HOME:-$HOME/.cargo}/"; do
        ! grep -qaF "$path" "$binary" || fail "$binary names a folder of this machine: $path"
    done
}

target=$(choose_target)
build
folder=${CARGO_TARGET_DIR:-target}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
binary=$folder/$target/release/onemcp
bytes=$(stat -c %s "$binary")
check_static
check_paths
check_runs
check_size
echo "$binary $bytes"

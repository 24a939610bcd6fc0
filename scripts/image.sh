#!/usr/bin/env bash
# Makes the container image without Docker and without root: an OCI image layout in one tar file.
#
#   scripts/image.sh [flags] ARCH=BINARY..     such as amd64=target/../onemcp; several make one index
#
#   --output FILE     default .build/image/onemcp.tar (onemcp-busybox.tar)
#   --busybox FILE    a static busybox for ARCH, with a link for each of its commands
#   --ca-file FILE    certificates of authorities, default those of this machine
#   --folder FOLDER   write only the root folder of the one image, as deploy/docker/Dockerfile takes it
#
# The same files give the same image; its time is SOURCE_DATE_EPOCH, else that of the last commit.
# Needs python3. The last line on stdout is `FILE SHA256`. Carry it to where it is to run:
#   skopeo copy oci-archive:.build/image/onemcp.tar docker://registry.example/onemcp:0.1.0
#   podman load -i .build/image/onemcp.tar          docker load -i .build/image/onemcp.tar (25 and newer)
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

output='' busybox='' folder='' certificates=/etc/ssl/certs/ca-certificates.crt
binaries=()

fail() {
    echo "image: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --output) output=${2:?} && shift ;;
    --busybox) busybox=${2:?} && shift ;;
    --ca-file) certificates=${2:?} && shift ;;
    --folder) folder=${2:?} && shift ;;
    *=*) binaries+=("$1") ;;
    *) fail "what is $1? see the head of scripts/image.sh" ;;
    esac
    shift
done
[ ${#binaries[@]} -gt 0 ] || fail "no binary: say ARCH=BINARY, such as amd64=target/release/onemcp"
[ -r "$certificates" ] || fail "$certificates cannot be read: install ca-certificates, or --ca-file"

# The root of one image: make_root FOLDER BINARY.
make_root() {
    [ -x "$2" ] || fail "$2 is no program"
    mkdir -p "$1"/{etc/onemcp,etc/ssl/certs,run/onemcp,var/lib/onemcp,tmp}
    cp -r deploy/docker/files/. "$1/"
    cp "$certificates" "$1/etc/ssl/certs/ca-certificates.crt"
    install -m 755 "$2" "$1/onemcp"
    [ -n "$busybox" ] || return 0
    mkdir -p "$1/bin"
    install -m 755 "$busybox" "$1/bin/busybox"
    local command
    for command in $("$busybox" --list); do
        [ "$command" = busybox ] || ln -s busybox "$1/bin/$command"
    done
}

if [ -n "$folder" ]; then
    [ ${#binaries[@]} -eq 1 ] || fail "--folder takes one binary"
    [ ! -e "$folder" ] || fail "$folder is there already"
    make_root "$folder" "${binaries[0]#*=}"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
roots=()
for pair in "${binaries[@]}"; do
    make_root "$work/${pair%%=*}" "${pair#*=}"
    roots+=("${pair%%=*}=$work/${pair%%=*}")
done
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
output=${output:-.build/image/onemcp${busybox:+-busybox}.tar}
mkdir -p "$(dirname "$output")"
python3 deploy/docker/image.py --name onemcp --version "$version" --epoch "$epoch" \
    --output "$output" "${roots[@]}"
echo "$output $(sha256sum "$output" | cut -d ' ' -f 1)"

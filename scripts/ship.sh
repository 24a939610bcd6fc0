#!/usr/bin/env bash
# Shows that what is handed out works as it is handed out.
#
#   scripts/ship.sh            all parts
#   scripts/ship.sh PART..     these: release image dockerfile shells units install
#
#   release      scripts/release.sh --native --twice: two builds in different folders are one file;
#                checksums hold; the SBOM is valid (PyPI: cyclonedx-python-lib) and names the tree
#   image        skopeo reads the image, umoci unpacks it, and it serves in a chroot of it as 65532
#   dockerfile   buildah builds the three Dockerfiles, what they take from registries replaced
#   shells       bash, zsh and fish complete; mandoc and man have nothing to say about the page
#   units        systemd-analyze verifies and rates the unit; the OpenRC script says what it should
#   install      deploy/install.sh takes a release from a local server, and refuses a changed one
#
# As root it installs skopeo, umoci, buildah, zsh, fish, mandoc, man-db, busybox-static (Debian);
# parts whose tools are not there are skipped. About 5 minutes on two cores, 4 of them the second
# build. `release` is needed once before the others.
# One line per check (ok, FAIL or skip), then a summary; exit code 1 if anything failed.
set -uo pipefail
exec </dev/null
cd "$(dirname "$0")/.." || exit 1

root=$PWD
work=$root/.build/ship
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
machine=$(uname -m)
release=onemcp-$version-linux-$machine
listen_limit_s=15
# Of 10: what systemd-analyze calls OK begins at 4.9.
exposure_limit=20

passed=0
failed=0
skipped=0
pids=()

ok() {
    passed=$((passed + 1))
    echo "ok $1"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
}

skip() {
    skipped=$((skipped + 1))
    echo "skip $1"
}

# `check NAME command..`: what it prints is shown when it fails.
check() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then
        ok "$name"
    else
        fail "$name: $(tail -n 4 <<<"$said" | paste -sd ';')"
    fi
}

within() {
    local turns=$(($1 * 10))
    shift
    until "$@"; do
        turns=$((turns - 1))
        [ "$turns" -gt 0 ] || return 1
        sleep 0.1
    done
}

end_all() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill -TERM "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    pids=()
}
trap end_all EXIT

install_tools() {
    local missing=()
    for pair in skopeo:skopeo umoci:umoci buildah:buildah zsh:zsh fish:fish mandoc:mandoc \
        man:man-db busybox:busybox-static systemd-analyze:systemd curl:curl; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}" \
        >"$work/apt.log" 2>&1 || echo "ship.sh: apt-get could not install all of: ${missing[*]}" >&2
}

# Whether these commands are there: `have PART command..`.
have() {
    local part=$1 command
    shift
    for command in "$@"; do
        command -v "$command" >/dev/null || {
            skip "$part: $command is not installed"
            return 1
        }
    done
}

image_word() {
    case $machine in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) echo "$machine" ;; esac
}

# --- release ------------------------------------------------------------------------------------

release_part() {
    if scripts/release.sh --native --twice >"$work/release.out" 2>"$work/release.err"; then
        ok "release: two builds in different folders are one file"
    else
        fail "release: $(tail -n 3 "$work/release.err" | paste -sd ';')"
        return
    fi
    check "release: the checksums hold" sums_hold
    check "release: the archive holds what it should" archive_is_whole
    sbom_part
}

sums_hold() {
    (cd dist && sha256sum --quiet -c SHA256SUMS) && [ "$(wc -l <dist/SHA256SUMS)" -ge 5 ]
}

archive_is_whole() {
    local place=$work/archive file
    rm -rf "$place" && mkdir -p "$place"
    tar -xzf "dist/$release.tar.gz" -C "$place" || return 1
    for file in onemcp LICENSE man/onemcp.1 completions/_onemcp onemcp.service onemcp.initd; do
        [ -s "$place/$release/$file" ] || { echo "$file is missing" && return 1; }
    done
    "$place/$release/onemcp" --version
}

# The target whose build this file is.
target_of() {
    local libc
    for libc in musl gnu; do
        cmp -s "$1" "${CARGO_TARGET_DIR:-target}/$machine-unknown-linux-$libc/release/onemcp" &&
            echo "$machine-unknown-linux-$libc" && return
    done
}

sbom_part() {
    local python=$work/venv/bin/python target
    if [ ! -x "$python" ] || ! "$python" -c 'import cyclonedx, jsonschema' 2>/dev/null; then
        if ! python3 -m venv "$work/venv" >"$work/pip.log" 2>&1 ||
            ! "$work/venv/bin/pip" install -q 'cyclonedx-python-lib[json-validation]==11.12.0' \
                >>"$work/pip.log" 2>&1; then
            fail "sbom: the validator cannot be had: $(tail -n 1 "$work/pip.log")"
            return
        fi
    fi
    target=$(target_of "dist/$release")
    cargo tree --locked --target "$target" -e normal --prefix none --format '{p}' 2>/dev/null |
        sort -u >"$work/tree.txt"
    check "sbom: valid CycloneDX, and names what cargo tree names ($target)" \
        "$python" fixtures/ship/sbom.py "dist/$release.cdx.json" "$work/tree.txt"
}

# --- image --------------------------------------------------------------------------------------

image_part() {
    have image skopeo umoci || return 0
    local tar=dist/onemcp-$version-image.tar word
    word=$(image_word)
    check "image: the same files give the same image" image_is_reproducible "$word"
    check "image: skopeo reads it, user 65532, no variable of the gateway" image_is_described "$tar"
    rm -rf "$work/layout" "$work/bundle" && mkdir -p "$work/layout"
    tar -xf "$tar" -C "$work/layout"
    local rootless=()
    [ "$(id -u)" -eq 0 ] || rootless=(--rootless)
    check "image: umoci unpacks it" \
        umoci unpack ${rootless[@]+"${rootless[@]}"} --image "$work/layout:$version" "$work/bundle"
    if [ "$(id -u)" -eq 0 ]; then
        check "image: serves in a chroot of it" serves_in "$work/bundle/rootfs"
        local busybox
        if busybox=$(command -v busybox); then
            check "image: with busybox it has a shell" busybox_image "$word" "$busybox"
        fi
    else
        skip "image: not served in a chroot: not root"
    fi
}

image_is_reproducible() {
    local one two epoch
    epoch=$(skopeo inspect "oci-archive:dist/onemcp-$version-image.tar" |
        sed -n 's/.*"Created": "\(.*\)".*/\1/p') && epoch=$(date -d "$epoch" +%s) || return 1
    one=$(SOURCE_DATE_EPOCH=$epoch scripts/image.sh --output "$work/again.tar" "$1=dist/$release") &&
        two=$(sha256sum "dist/onemcp-$version-image.tar") || return 1
    [ "$(cut -d ' ' -f 2 <<<"$one")" = "$(cut -d ' ' -f 1 <<<"$two")" ] || return 1
    # An index of two machines, of which readers pick theirs.
    scripts/image.sh --output "$work/two.tar" "amd64=dist/$release" "arm64=dist/$release" >/dev/null &&
        two=$(skopeo inspect --override-arch arm64 "oci-archive:$work/two.tar") &&
        grep -q '"arm64"' <<<"$two"
}

image_is_described() {
    local config
    config=$(skopeo inspect --config "oci-archive:$1") || return 1
    grep -q '"User": *"65532:65532"' <<<"$config" || { echo "another user" && return 1; }
    ! grep -q ONE_MCP_ <<<"$config" || { echo "it sets ONE_MCP_*" && return 1; }
    grep -q '"/onemcp"' <<<"$config"
}

# In the root folder as the user of the image: starts, is asked from within and without, drains.
serves_in() {
    local place=$1 url status
    rm -f "$work/serve.out" "$work/serve.err" && touch "$work/serve.out" "$work/serve.err"
    chroot --userspec=65532:65532 "$place" /onemcp --host 0.0.0.0 --port 0 --host 127.0.0.1 \
        --config-json '{"mcpServers": {"clock": {"command": "/onemcp", "args": ["demo-server", "clock"]}}}' >"$work/serve.out" 2>"$work/serve.err" &
    pids+=("$!")
    within "$listen_limit_s" grep -q '127.0.0.1:[0-9]' "$work/serve.out" "$work/serve.err" || {
        cat "$work/serve.err" && return 1
    }
    url=$(grep -oh 'http://127.0.0.1:[0-9]*' "$work/serve.out" "$work/serve.err" | head -n 1)
    within "$listen_limit_s" lists "$place" "$url" || {
        echo "no tool is listed at $url" && return 1
    }
    chroot --userspec=65532:65532 "$place" /onemcp health --ready --port "${url##*:}" || return 1
    kill -TERM "${pids[-1]}" && wait "${pids[-1]}"
    status=$?
    unset 'pids[-1]'
    [ "$status" -eq 0 ] || { echo "it ended with $status" && return 1; }
}

lists() {
    local said
    said=$(chroot --userspec=65532:65532 "$1" /onemcp list --url "$2/mcp" 2>&1)
    grep -q '"kind":"tool"' <<<"$said"
}

busybox_image() {
    scripts/image.sh --busybox "$2" --output "$work/busybox.tar" "$1=dist/$release" >/dev/null &&
        rm -rf "$work/busybox" "$work/busybox-bundle" && mkdir -p "$work/busybox" &&
        tar -xf "$work/busybox.tar" -C "$work/busybox" &&
        umoci unpack --image "$work/busybox:$version" "$work/busybox-bundle" &&
        chroot --userspec=65532:65532 "$work/busybox-bundle/rootfs" /bin/sh -c '/onemcp --version'
}

# --- dockerfile ---------------------------------------------------------------------------------

dockerfile_part() {
    have dockerfile buildah busybox umoci || return 0
    [ "$(id -u)" -eq 0 ] || { skip "dockerfile: not root" && return; }
    local context=$work/context
    rm -rf "$context" && mkdir -p "$context/stand-in/bin"
    cp -r deploy dist .dockerignore "$context/"
    cp "$(command -v busybox)" "$context/stand-in/bin/busybox"
    local command
    for command in sh echo mkdir chown chmod; do ln -s busybox "$context/stand-in/bin/$command"; done
    mkdir -p "$context/stand-in/etc"
    touch "$context/stand-in/etc/passwd" "$context/stand-in/etc/group" \
        "$context/stand-in/uv" "$context/stand-in/uvx"
    printf 'FROM scratch\nCOPY . /\nENV PATH=/bin\n' >"$work/Dockerfile.stand-in"
    check "dockerfile: stand-ins for what comes from registries" \
        image_build "$work/Dockerfile.stand-in" stand-in "$context/stand-in"
    check "dockerfile: the gateway alone" image_build deploy/docker/Dockerfile onemcp "$context" \
        --build-arg BINARY=given --build-arg "TARGETARCH=$(image_word)"
    check "dockerfile: it serves in a chroot of it" built_serves onemcp
    check "dockerfile: with busybox" image_build deploy/docker/Dockerfile.busybox busybox \
        "$context" --build-arg ONEMCP=localhost/onemcp --build-arg BUSYBOX=localhost/stand-in
    check "dockerfile: with Node and uv" image_build deploy/docker/Dockerfile.node node \
        "$context" --build-arg ONEMCP=localhost/onemcp --build-arg NODE=localhost/stand-in \
        --build-arg UV=localhost/stand-in
    check "dockerfile: what Node's image is made of serves, too" built_serves node
    skip "dockerfile: the stage that compiles, Node and uv themselves: they come from registries"
}

# Nothing of it is shared with images of this machine.
storage=(--storage-driver vfs --root "$work/storage" --runroot "$work/storage-run")

image_build() { # FILE TAG CONTEXT FLAGS..
    timeout 300 buildah "${storage[@]}" bud --isolation chroot --pull-never --format docker \
        -f "$1" -t "$2" "${@:4}" "$3"
}

built_serves() {
    local place=$work/built-$1
    rm -rf "$place" "$place-bundle" && mkdir -p "$place"
    buildah "${storage[@]}" push "localhost/$1" "oci:$place:$1" &&
        umoci unpack --image "$place:$1" "$place-bundle" && serves_in "$place-bundle/rootfs"
}

# --- shells -------------------------------------------------------------------------------------

shells_part() {
    check "bash: completes commands, verbs, flags and words" bash_completes
    if have zsh zsh; then check "zsh: takes the completion and offers its words" zsh_completes; fi
    if have fish fish; then check "fish: completes commands, verbs and flags" fish_completes; fi
    if have man mandoc; then check "man: mandoc has nothing to say" mandoc -Tlint -Wwarning \
        deploy/manual/onemcp.1; fi
    if have man man; then check "man: man shows it without a warning" man_shows; fi
}

# Whether WORD may stand for the last word of a line: `offers SHELL LINE WORD`.
offers() {
    local said
    said=$("$1_words" "$2")
    grep -q -- "^$3" <<<"$said" && return
    echo "$2: no $3"
    return 1
}

bash_words() {
    # shellcheck disable=SC2016,SC2086 # for the other shell; a list of words
    bash -c '. deploy/manual/onemcp.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _onemcp
        printf "%s\n" "${COMPREPLY[@]}"' bash $1
}

bash_completes() {
    offers bash 'onemcp sta' status && offers bash 'onemcp secret ro' rotate &&
        offers bash 'onemcp serve --allow-un' --allow-unauthenticated &&
        offers bash 'onemcp --log-format j' json && offers bash 'onemcp audit verify --he' --head
}

zsh_completes() {
    zsh -f -n deploy/manual/_onemcp || return 1
    # A terminal is what completion works on; zpty is the one of zsh itself.
    zsh -f -c '
        zmodload zsh/zpty
        zpty -b shell zsh -f -i
        zpty -w shell "PS1=; autoload -U compinit; compinit -u -D; source $1; print ready"
        zpty -r -m shell out "*ready*ready*"
        zpty -n -w shell $'"'"'onemcp sta\t'"'"'
        integer turns=0
        while ((turns++ < 100)); do
            zpty -r -t shell part && seen+=$part
            [[ $seen == *status* ]] && exit 0
            sleep 0.1
        done
        print -r -- $seen
        exit 1' zsh "$root/deploy/manual/_onemcp"
}

fish_words() {
    HOME=$work/fish fish --no-config -c "source deploy/manual/onemcp.fish; complete -C '$1'"
}

fish_completes() {
    mkdir -p "$work/fish"
    fish -n deploy/manual/onemcp.fish && offers fish 'onemcp sta' status &&
        offers fish 'onemcp secret ro' rotate &&
        offers fish 'onemcp serve --allow-un' --allow-unauthenticated
}

man_shows() {
    local said
    said=$(MANWIDTH=80 man --warnings -l deploy/manual/onemcp.1 2>&1 >"$work/man.txt")
    echo "$said"
    [ -z "$said" ] && grep -q 'allow-unauthenticated' "$work/man.txt"
}

# --- units --------------------------------------------------------------------------------------

units_part() {
    if have systemd systemd-analyze; then
        mkdir -p "$work/unit"
        # It wants the program to be there.
        sed 's|/usr/local/bin/onemcp|/bin/true|' deploy/systemd/onemcp.service \
            >"$work/unit/onemcp.service"
        check "systemd: verifies without a word" unit_is_good
        check "systemd: exposure of at most $exposure_limit of 100" \
            systemd-analyze security --offline=true --threshold="$exposure_limit" --no-pager \
            "$work/unit/onemcp.service"
    fi
    check "openrc: the script is one for sh" sh -n deploy/openrc/onemcp.initd
    check "openrc: its command, user and folders" openrc_says
}

unit_is_good() {
    local said
    said=$(systemd-analyze verify --man=no "$work/unit/onemcp.service" 2>&1 |
        grep -F "onemcp.service") || return 0
    echo "$said"
    return 1
}

# Read as openrc-run reads it, with what that offers replaced.
openrc_says() {
    local said
    # shellcheck disable=SC2016 # for the other shell
    said=$(sh -c 'need() { :; }; after() { :; }; . deploy/openrc/onemcp.confd
        . deploy/openrc/onemcp.initd; depend
        checkpath() { echo "checkpath $*"; }; checkconfig() { :; }; start_pre
        echo "$command $command_args as $command_user in $directory"') || return 1
    grep -q '^/usr/local/bin/onemcp serve --config /etc/onemcp/mcp.json' <<<"$said" &&
        grep -q 'as onemcp:onemcp in /var/lib/onemcp$' <<<"$said" &&
        grep -q '^checkpath -d -m 0700 -o onemcp:onemcp /var/lib/onemcp' <<<"$said"
}

# --- install ------------------------------------------------------------------------------------

install_part() {
    local served=$work/served
    rm -rf "$served" "$work/installed"* && cp -r dist "$served"
    python3 -u -m http.server --bind 127.0.0.1 --directory "$served" 0 >"$work/http.out" 2>&1 &
    pids+=("$!")
    within "$listen_limit_s" grep -q 'port [1-9]' "$work/http.out" || {
        fail "install: the local server does not listen"
        return
    }
    local url sum
    url=http://127.0.0.1:$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$work/http.out" | head -n 1)
    sum=$(sha256sum "$served/SHA256SUMS" | cut -d ' ' -f 1)
    check "install: a good release" installs "$work/installed" "$url" "$sum"
    if command -v busybox >/dev/null; then
        check "install: with nothing but busybox" installs_with_busybox "$url" "$sum"
    fi
    check "install: another SHA256SUMS than the expected one is refused" \
        refuses "$url" "${sum//[0-9]/0}"
    echo changed >>"$served/$release.tar.gz"
    check "install: a changed archive is refused" refuses "$url" "$sum"
    rm "$served/SHA256SUMS"
    check "install: a release that is not there is refused" refuses "$url"
    end_all
}

installs() { # PREFIX URL SUM
    PREFIX=$1 sh deploy/install.sh "$2" "$3" && "$1/bin/onemcp" --version &&
        [ -s "$1/share/man/man1/onemcp.1" ] && cmp "$1/bin/onemcp" "dist/$release"
}

installs_with_busybox() {
    local place=$work/busybox-bin
    rm -rf "$place" && mkdir -p "$place"
    busybox --install -s "$place" 2>/dev/null
    env -i PATH="$place" PREFIX="$work/installed-busybox" TMPDIR="$work" \
        "$place/sh" deploy/install.sh "$1" "$2" && "$work/installed-busybox/bin/onemcp" --version
}

refuses() {
    ! PREFIX=$work/installed-never sh deploy/install.sh "$@" && [ ! -e "$work/installed-never" ]
}

mkdir -p "$work"
install_tools
parts=("$@")
[ $# -gt 0 ] || parts=(release image dockerfile shells units install)
for part in "${parts[@]}"; do
    case $part in
    release | image | dockerfile | shells | units | install) "${part}_part" ;;
    *) fail "what is $part?" ;;
    esac
done
echo "ship.sh: $passed ok, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

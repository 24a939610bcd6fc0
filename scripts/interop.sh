#!/usr/bin/env bash
# Shows that servers and clients that are not ours work with the gateway.
#
#   scripts/interop.sh                      one gateway in front of the servers of
#                                           fixtures/interop/mcp.json.in, driven by each client;
#                                           then one gateway for each era and transport of
#                                           fixtures/everything, driven by each client in each
#                                           of its modes and over each of its transports
#   scripts/interop.sh --eras [WORDS]       the second part only, of servers named like WORDS
#   scripts/interop.sh --url URL [OPTION]   drives URL instead; options go to the drivers:
#                                           --plain (URL is one server-everything, no gateway),
#                                           --seen FILE, --dir DIR (see fixtures/interop/sdk.mjs)
#
# ONEMCP_BIN names a binary to use instead of building one. Needs bash, node with npm, python3.
# One line per check (ok, FAIL or skip), then a summary; exit code 1 if anything failed.
set -uo pipefail
exec </dev/null

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.build/interop
drivers=$root/fixtures/interop
install_limit_s=300
driver_limit_s=180
listen_limit_s=10
ready_limit_s=30
stop_limit_s=10
kept_lines=40
# How often the watched resource of fixtures/everything changes.
tick_ms=200

run=
gateway=
url=
peer=
peer_url=
python=()
passed=0
failed=0
skipped=0

ok() {
  passed=$((passed + 1))
  echo "ok $1"
}

fail() {
  failed=$((failed + 1))
  echo "FAIL $1"
}

give_up() {
  echo "interop.sh: $1" >&2
  exit 1
}

# Waits until the command after the limit succeeds: `within SECONDS command...`.
within() {
  local turns=$(($1 * 10))
  shift
  until "$@"; do
    turns=$((turns - 1))
    [ "$turns" -gt 0 ] || return 1
    sleep 0.1
  done
}

# ---- Installing ----

# Does nothing if `stamp` already holds the checksum of the pins.
installed() {
  [ -f "$1" ] && [ "$(cat "$1")" = "$(pins "$2")" ]
}

pins() {
  cksum <"$drivers/$1"
}

install_node_packages() {
  installed "$work/npm.stamp" package-lock.json && return
  cp "$drivers/package.json" "$drivers/package-lock.json" "$work/"
  (cd "$work" && timeout "$install_limit_s" npm ci --no-audit --no-fund --loglevel=error) >&2 ||
    give_up "npm could not install the packages of $drivers/package.json"
  pins package-lock.json >"$work/npm.stamp"
}

# A virtual environment where python has one to give, else a plain directory of packages.
install_python_packages() {
  installed "$work/pip.stamp" requirements.txt && return
  rm -rf "$work/venv" "$work/site"
  local pip=(python3 -m pip install --target "$work/site")
  if python3 -m venv "$work/venv" >/dev/null 2>&1; then
    pip=("$work/venv/bin/python" -m pip install)
  else
    rm -rf "$work/venv"
  fi
  timeout "$install_limit_s" "${pip[@]}" --quiet --disable-pip-version-check \
    --requirement "$drivers/requirements.txt" >&2 ||
    give_up "pip could not install the packages of $drivers/requirements.txt"
  pins requirements.txt >"$work/pip.stamp"
}

choose_python() {
  python=("$work/venv/bin/python")
  [ -x "${python[0]}" ] || python=(env "PYTHONPATH=$work/site" python3)
}

# Prints the path of the binary; a failed build ends the caller.
gateway_binary() {
  if [ -n "${ONEMCP_BIN:-}" ]; then
    echo "$ONEMCP_BIN"
    return
  fi
  (cd "$root" && cargo build --release --bin onemcp) >&2 || give_up "cargo could not build onemcp"
  local target=${CARGO_TARGET_DIR:-$root/target}
  echo "$target/release/onemcp"
}

# The test server of both eras; prints its path.
everything_binary() {
  (cd "$root" && cargo build --quiet --example everything) >&2 ||
    give_up "cargo could not build the example everything"
  local target=${CARGO_TARGET_DIR:-$root/target}
  echo "$target/debug/examples/everything"
}

# ---- The gateway ----

write_config() {
  mkdir -p "$run/files" "$run/state"
  : >"$run/seen.jsonl"
  sed -e "s|@WORK@|$work|g" -e "s|@RUN@|$run|g" "$drivers/mcp.json.in" >"$run/mcp.json"
}

forget_settings() {
  local name
  for name in $(compgen -e ONE_MCP_); do unset "$name"; done
}

endpoint() {
  url=$(head -n 1 "$run/stdout" | sed -n 's/.*"url": *"\([^"]*\)".*/\1/p')
  [ -n "$url" ] || ! alive
}

alive() {
  kill -0 "$gateway" 2>/dev/null
}

# start_gateway BINARY CONFIG
start_gateway() {
  : >"$run/stdout"
  ONEMCP_INTEROP_RUN=$run XDG_STATE_HOME=$run/state XDG_RUNTIME_DIR=$run/state \
    "$1" --config "$2" --port 0 >"$run/stdout" 2>>"$run/gateway.log" &
  gateway=$!
  if ! within "$listen_limit_s" endpoint || [ -z "$url" ]; then
    fail "gateway start: no listening line on stdout"
    return 1
  fi
  ok "gateway start"
  if ! timeout "$ready_limit_s" node -e '
    const ready = () => fetch(process.argv[1]).then((answer) => answer.ok, () => false);
    while (!await ready()) await new Promise((resolve) => setTimeout(resolve, 100));
  ' --input-type=module "${url%/mcp}/health/ready"; then
    fail "gateway ready: /health/ready is not 200 within $ready_limit_s s"
    return 1
  fi
  ok "gateway ready"
}

# Processes of this run, by a variable that the gateway and each server were given.
run_processes() {
  grep -lzxF "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3
}

zombies() {
  awk -v parent="$gateway" '{ sub(/.*\) /, "") } $1 == "Z" && $2 == parent' \
    /proc/[0-9]*/stat 2>/dev/null
}

no_zombies() {
  [ -z "$(zombies)" ]
}

sessions_ended() {
  [ "$(run_processes ONEMCP_INTEROP_SERVER=everything2 | wc -l)" -le 1 ]
}

nothing_left() {
  [ -z "$(run_processes "ONEMCP_INTEROP_RUN=$run")" ]
}

gateway_gone() {
  ! alive
}

check_processes() {
  if within "$stop_limit_s" sessions_ended; then
    ok "gateway ends the processes of ended sessions"
  else
    fail "gateway ends the processes of ended sessions: $(
      run_processes ONEMCP_INTEROP_SERVER=everything2 | wc -l
    ) of everything2 left"
  fi
  if within 2 no_zombies; then
    ok "gateway keeps no zombies"
  else
    fail "gateway keeps no zombies: $(zombies | wc -l) found"
  fi
}

stop_gateway() {
  local code
  kill -TERM "$gateway" 2>/dev/null
  if ! within "$stop_limit_s" gateway_gone; then
    fail "gateway stop: still there $stop_limit_s s after SIGTERM"
    kill -KILL "$gateway"
  fi
  wait "$gateway"
  code=$?
  gateway=
  if [ "$code" -eq 0 ]; then
    ok "gateway exit code"
  else
    fail "gateway exit code: $code after SIGTERM"
  fi
  if within 2 nothing_left; then
    ok "gateway leaves no process"
  else
    fail "gateway leaves no process: $(
      ps -o pid=,args= -p "$(run_processes "ONEMCP_INTEROP_RUN=$run" | paste -sd ,)" |
        paste -sd ';' | cut -c 1-300
    )"
  fi
}

# ---- The drivers ----

# Runs a driver, shows its lines and counts them: `drive NAME command...`.
drive() {
  local name=$1 lines=$run/$1.lines code
  shift
  timeout --kill-after=5 "$driver_limit_s" "$@" 2>"$run/$name.log" | tee "$lines"
  code=${PIPESTATUS[0]}
  passed=$((passed + $(grep -c '^ok ' "$lines")))
  failed=$((failed + $(grep -c '^FAIL ' "$lines")))
  skipped=$((skipped + $(grep -c '^skip ' "$lines")))
  if [ "$code" -ne 0 ] && { [ "$code" -ne 1 ] || ! grep -q '^FAIL ' "$lines"; }; then
    fail "$name driver: exit code $code, $(tail -n 1 "$run/$name.log")"
  fi
}

run_drivers() {
  cp "$drivers"/*.mjs "$drivers"/*.py "$work/"
  drive sdk-1.32 node "$work/sdk.mjs" "$@"
  drive mcp-2.3 "${python[@]}" "$work/pypi.py" "$@"
}

# ---- Both eras ----

# Starts fixtures/everything over HTTP; sets peer and peer_url.
start_peer() {
  : >"$run/peer.out"
  ONEMCP_INTEROP_RUN=$run "$1" --era "$2" --http 0 --tick "$tick_ms" >"$run/peer.out" 2>>"$run/peer.log" &
  peer=$!
  within "$listen_limit_s" peer_listens
}

peer_listens() {
  peer_url=$(head -n 1 "$run/peer.out" | sed -n 's/.*"url": *"\([^"]*\)".*/\1/p')
  [ -n "$peer_url" ]
}

stop_peer() {
  [ -n "$peer" ] || return
  kill -TERM "$peer" 2>/dev/null
  wait "$peer" 2>/dev/null
  peer=
}

# drive_era GATEWAY SERVER ERA TRANSPORT: every client against one server.
drive_era() {
  local config=$run/$3-$4.json name=$3-$4 entry
  # Gateways that a driver starts are of this run as well.
  local mark=(env "ONEMCP_INTEROP_RUN=$run" "XDG_STATE_HOME=$run/state"
    "XDG_RUNTIME_DIR=$run/state")
  entry="\"command\": \"$2\", \"args\": [\"--era\", \"$3\", \"--tick\", \"$tick_ms\"]"
  if [ "$4" = http ]; then
    start_peer "$2" "$3" || { fail "$name: the server does not listen" && return; }
    entry="\"type\": \"http\", \"url\": \"$peer_url\""
  fi
  echo "{\"mcpServers\": {\"everything\": {$entry}}}" >"$config"
  echo "--- a server of era $3 over $4"
  if start_gateway "$1" "$config"; then
    drive "npm-$name" "${mark[@]}" node "$work/eras.mjs" --url "$url" --gateway "$1" \
      --config "$config"
    drive "pypi-$name" "${mark[@]}" "${python[@]}" "$work/eras.py" --url "$url" --gateway "$1" \
      --config "$config"
  fi
  stop_peer
  stop_gateway
}

run_eras() {
  local server era transport
  server=$(everything_binary) || exit 1
  cp "$drivers"/*.mjs "$drivers"/*.py "$work/"
  for era in legacy modern; do
    for transport in stdio http; do
      case $era-$transport in *$2*) drive_era "$1" "$server" "$era" "$transport" ;; esac
    done
  done
}

# Whatever happened, nothing that this run started stays behind.
finish() {
  local process
  [ -n "$run" ] || return
  for process in $(run_processes "ONEMCP_INTEROP_RUN=$run"); do
    kill -KILL "$process" 2>/dev/null
  done
  if [ "$failed" -eq 0 ]; then
    rm -rf "$run"
    return
  fi
  if [ -s "$run/gateway.log" ]; then
    echo "--- the last lines of the gateway's log" >&2
    tail -n "$kept_lines" "$run/gateway.log" >&2
  fi
  echo "--- logs are in $run" >&2
}

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
}

run_servers() {
  if start_gateway "$1" "$run/mcp.json"; then
    run_drivers --url "$url" --seen "$run/seen.jsonl" --dir "$run/files"
    check_processes
  fi
  stop_gateway
}

main() {
  case ${1:-} in
  '' | --url | --eras) ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 64 ;;
  esac
  mkdir -p "$work"
  install_node_packages
  install_python_packages
  choose_python
  run=$(mktemp -d "${TMPDIR:-/tmp}/onemcp-interop.XXXXXX")
  trap finish EXIT
  trap 'exit 1' HUP INT TERM
  forget_settings
  if [ "${1:-}" = --url ]; then
    run_drivers "$@"
  else
    local binary
    binary=$(gateway_binary) || exit 1
    write_config
    [ "${1:-}" = --eras ] || run_servers "$binary"
    run_eras "$binary" "${2:-}"
  fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

main "$@"

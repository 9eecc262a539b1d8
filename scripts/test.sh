#!/usr/bin/env bash
# Runs the tests, installing first what they need. See usage below.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

usage() {
    cat <<'END'
usage: scripts/test.sh [GROUP…]     default: fast demo stack chaos

  fast    cargo fmt, clippy, and the tests that need no servers
  demo    `driftless demo`: converges, and equal seeds give equal content
  stack   starts the real servers (scripts/stack.sh) and runs every tests/stack/*.py and *.sh with
          the variables of `stack.sh env` and DRIFTLESS_BIN; each prints a line
          "ok - NAME" or "not ok - NAME" for each thing it has checked
  console `driftless demo --serve` in headless Chromium: a link cut and healed by hand, both themes, a
          phone, the keyboard, the accessibility tree; screenshots to DRIFTLESS_SHOTS, if it is set
  chaos   starts them with three brokers in one region, kills, stops and cuts off some of them under
          load (tests/stack_chaos/chaos.py short; another DRIFTLESS_CHAOS_SEED [8] draws others)
  long    the same with every one of them (half an hour), 10 000 seeds of the simulator, planted bugs
          that it must find, ten minutes of each fuzz target; run by hand

The last line is "driftless: N passed, N failed". Exit code: 0 none failed, 1 some did, 2 wrong
usage. Build output goes to CARGO_TARGET_DIR [${XDG_CACHE_HOME:-~/.cache}/driftless/target].
END
}

# shellcheck source=scripts/stack/versions.sh
. scripts/stack/versions.sh
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export DRIFTLESS_BIN=$CARGO_TARGET_DIR/release/driftless
passed=0 failed=0

ok() { echo "ok - $1"; passed=$((passed + 1)); }
not_ok() { echo "not ok - $1"; failed=$((failed + 1)); }
# check NAME COMMAND…: one check is one command that succeeds.
check() { if "${@:2}"; then ok "$1"; else not_ok "$1"; fi; }
# matches REGEX FILE: how many lines match.
matches() { grep -Ec "$1" "$2" || true; }

# One profile everywhere, so that dependencies are built once.
group_fast() {
    check 'cargo fmt' cargo fmt --all -- --check
    check 'cargo clippy' cargo clippy --release --all-targets --locked -- -D warnings
    local log=$work/cargo-test.log status=0 sums
    DRIFTLESS_SIM_SEEDS=${DRIFTLESS_SIM_SEEDS:-500} cargo test --release --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
    # "test result: ok. 12 passed; 0 failed; …", once for each test binary.
    sums=$(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
    passed=$((passed + ${sums% *})) failed=$((failed + ${sums#* }))
    # A test binary that was not built or that died has no such line.
    if [ "$status" != 0 ] && [ "${sums#* }" = 0 ]; then not_ok 'cargo test'; fi
}

# build: false, and counted as a failure, if there is no binary to test.
build() {
    if cargo build --release --locked --bin driftless; then ok 'driftless builds'; return; fi
    not_ok 'driftless builds'
    return 1
}

# field FILE NAME: a field of the object that `demo --json` ends with.
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }

group_demo() {
    build || return 0
    local run name seed
    for run in first:7 again:7 other:8; do
        name=${run%:*} seed=${run#*:}
        check "demo with seed $seed converges ($name)" demo "$seed" "$work/demo-$name.json"
    done
    check 'equal seeds make equal changes' compare changes = first again
    check 'equal seeds end in equal content' compare digest = first again
    check 'another seed ends in other content' compare digest != first other
}
demo() { "$DRIFTLESS_BIN" demo --json --seed "$1" >"$2" && [ "$(field "$2" converged)" = True ]; }
# compare FIELD = or != RUN RUN: false too where one of the runs left nothing to compare.
compare() {
    local one other
    one=$(field "$work/demo-$3.json" "$1") && other=$(field "$work/demo-$4.json" "$1") || return 1
    test "$one" "$2" "$other"
}

group_console() {
    build || return 0
    "$here/install.sh" console
    DRIFTLESS_CLIENTS_DIR=$DRIFTLESS_BROWSER_DIR run_script tests/console/console.py ${DRIFTLESS_SHOTS:+"$DRIFTLESS_SHOTS"}
}

group_stack() {
    build || return 0
    "$here/install.sh" stack
    run_script scripts/stack/check_compose.py
    run_script scripts/stack/check_alerts.py
    run_script scripts/stack/check_dashboards.py
    run_script tests/stack/lib/selftest.py
    if start_stack; then
        local script
        for script in tests/stack/*.py tests/stack/*.sh; do
            if [ -x "$script" ]; then run_script "$script"; fi
        done
    fi
    stop_stack
}

group_chaos() { chaos short; }
group_long() {
    chaos full
    build || return 0
    check '10 000 seeds of the simulator' "$DRIFTLESS_BIN" sim --seeds 10000 --keep-going
    run_script scripts/mutants.py
    fuzz
}
# DRIFTLESS_FUZZ_SECONDS: of each target [600].
fuzz() {
    local target
    for target in avro schema framing json config topology entries; do
        check "fuzzing $target finds nothing" scripts/fuzz.sh "$target" "${DRIFTLESS_FUZZ_SECONDS:-600}"
    done
}
# chaos LENGTH: the seed is printed.
chaos() {
    build || return 0
    "$here/install.sh" stack
    if start_stack --brokers us=3; then
        run_script tests/stack_chaos/chaos.py "$1" "${DRIFTLESS_CHAOS_SEED:-8}"
    fi
    stop_stack
}

# start_stack OPTION…: apart from a stack that the user may have running. False if it does not come up.
start_stack() {
    export DRIFTLESS_STACK_HOME=$work/stack
    stack_started=yes
    if "$here/stack.sh" up "$@"; then
        ok 'the stack comes up'
        eval "$("$here/stack.sh" env)"
    else
        not_ok 'the stack comes up'
        return 1
    fi
}

# run_script FILE ARGUMENT…: counts the lines that it prints; ending badly or silently is a failure too.
run_script() {
    local log=$work/${1##*/}.log status=0
    echo "--- $1"
    case $1 in
        *.py) "$DRIFTLESS_CLIENTS_DIR/bin/python" -B "$@" ;;
        *) "$@" ;;
    esac | tee "$log" || status=$?
    local good bad
    good=$(matches '^ok ' "$log") bad=$(matches '^not ok ' "$log")
    passed=$((passed + good)) failed=$((failed + bad))
    if [ "$bad" = 0 ] && { [ "$status" != 0 ] || [ "$good" = 0 ]; }; then
        not_ok "$1 (exit code $status after $good checks)"
    fi
}

stop_stack() {
    "$here/stack.sh" down
    stack_started=
    if [ "$failed" != 0 ]; then
        rm -rf "$cache/failed-logs"
        cp -r "$DRIFTLESS_STACK_HOME/logs" "$cache/failed-logs"
        echo "the servers' logs are in $cache/failed-logs"
    fi
}

clean_up() {
    if [ -n "$stack_started" ]; then stop_stack; fi
    rm -rf "$work"
}

groups=("$@")
[ $# -gt 0 ] || groups=(fast demo stack chaos)
for group in "${groups[@]}"; do
    case $group in
        fast | demo | console | stack | chaos | long) ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/test-XXXXXX")
stack_started=
trap clean_up EXIT
trap 'exit 130' INT TERM

"$here/install.sh" build
for group in "${groups[@]}"; do
    begin=$SECONDS
    "group_$group"
    echo "=== $group: $((SECONDS - begin)) s"
done
echo "driftless: $passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# Fuzzes what reads bytes and text from outside (tests/fuzz), in the release profile. See usage below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
usage: scripts/fuzz.sh [TARGET] [SECONDS]     default: each target in turn, 600 s each
       scripts/fuzz.sh TARGET FILE            once more on the input that a finding has left

Targets: avro schema framing json config topology entries. FUZZ_SEED picks another run [1]; equal seeds make
equal inputs. FUZZ_EXECUTIONS=1000000 counts inputs instead of seconds. The last line of each target
says what was run; exit code 0: nothing found.
END
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
if [ $# -gt 2 ]; then usage >&2; exit 2; fi
export FUZZ_TARGET=${1:-}
test=for_as_long_as_is_asked
if [ -f "${2:-}" ]; then
    FUZZ_INPUT=$(realpath "$2")
    export FUZZ_INPUT
    test=once_more_on_an_input
else
    export FUZZ_SECONDS=${2:-600}
fi
exec cargo test --release --locked --test fuzz -- --ignored --exact "$test" --nocapture

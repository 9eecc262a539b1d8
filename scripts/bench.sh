#!/usr/bin/env bash
# Measures Driftless beside its peers. See usage below.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

usage() {
    cat <<'END'
usage: scripts/bench.sh NAME [OPTION…]

  worker    the whole worker with a sink that writes nowhere, beside Kafka Streams and a bare loop on librdkafka
  restore   a store of 5 million keys from its changelog, beside Kafka Streams and a bare client filling a map
  milvus    the bare SDK, our store and the whole worker into real Milvus
  hot-keys  few keys that change all the time, with and without a hold, and what they cost Milvus
  latency   from produce to what comes behind the merge, at 1 000 changes a second, beside a bare client and Kafka Streams
  regions   from one region's Kafka into the other's Milvus, stage by stage, and the hop under MirrorMaker's settings
  memory    what the store takes for each vector, and what a worker takes at rest
  growth    whether a record costs the same with more threads, workers, partitions, keys
  start     from exec of a worker to its first change applied

Options, as far as NAME has a use for them:
  --rounds N      each peer takes its turn so often
  --records N     changes in the topic, or keys in the changelog
  --seconds N     how long it is kept up
  --dims N,…      floats of a vector
  --peers GLOB,…  only these [*], such as 'driftless-1,bare-loop,streams-*-whole-*'
  --dry-run       print the table and leave bench/RESULTS.md alone

Builds what it needs, starts servers of its own (scripts/stack.sh, with an optimising JVM), lets the peers take turns in one run,
and replaces the section NAME of bench/RESULTS.md. It ends what it started, after Ctrl-C too. Let nothing else run
meanwhile; `worker` takes about an hour.

Example: scripts/bench.sh worker --rounds 3 --records 300000 --dims 128

Exit code: 0 done, 1 failed or the peers disagree on the winners, 2 wrong usage, 130 interrupted.
END
}

case ${1:-} in
    -h | --help | help) usage; exit 0 ;;
    '' | -*) usage >&2; exit 2 ;;
esac

# shellcheck source=scripts/stack/versions.sh
. scripts/stack/versions.sh
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export DRIFTLESS_BIN=$CARGO_TARGET_DIR/release/driftless
export DRIFTLESS_KAFKA_VERSION=$kafka_version DRIFTLESS_MILVUS_VERSION=$milvus_version

# Whoever has a stack running keeps it: this is another.
work=
started=
clean_up() {
    if [ -n "$started" ]; then "$here/stack.sh" down >/dev/null; fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

"$here/install.sh" build stack bench
python=$DRIFTLESS_CLIENTS_DIR/bin/python
servers=$("$python" -B bench/bench.py "$@" --servers)
cargo build --release --locked --bin driftless --examples
mkdir -p "$cache"
work=$(mktemp -d "$cache/bench-XXXXXX")
export DRIFTLESS_STACK_HOME=$work/stack DRIFTLESS_STACK_JVM=optimising
started=yes
# shellcheck disable=SC2086 # one word for each
"$here/stack.sh" up $servers
eval "$("$here/stack.sh" env)"
"$python" -B bench/bench.py "$@"

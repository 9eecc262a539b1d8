#!/usr/bin/env python3
"""First figures of the whole worker: records per second and CPU seconds per million records, from a topic that
is full already, with a sink that writes nowhere and into a real Milvus.

    eval "$(scripts/stack.sh env)"; DRIFTLESS_BIN=target/release/driftless $DRIFTLESS_PY bench/first_figures.py [RUNS]

For the vector store's own ceiling in the same minutes:
    cargo run --release --example milvus_ceiling -- $DRIFTLESS_US_MILVUS $DRIFTLESS_US_MILVUS_METRICS
"""

import os
import statistics
import sys
import time
from pathlib import Path

import fastavro
import numpy
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "stack"))
from lib import rawlog, wire  # noqa: E402
from lib.cluster import PARTITIONS, Cluster  # noqa: E402
from lib.wire import CollectionSpec  # noqa: E402

# Sink, dimension, records: a few seconds of work each.
CASES = [("null", 128, 300_000), ("null", 768, 100_000), ("milvus", 128, 120_000), ("milvus", 768, 30_000)]
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_SECONDS = 300

TOPOLOGY = """[topology]
name = "no_sink"
[[source]]
name = "changes"
[[store]]
name = "versions"
type = "memory"
changelog = true
[[processor]]
name = "admit"
type = "admit"
parents = ["changes"]
[[processor]]
name = "dedup"
type = "dedup"
parents = ["admit"]
stores = ["versions"]
[[processor]]
name = "lww_merge"
type = "lww_merge"
parents = ["dedup"]
stores = ["versions"]
[[sink]]
name = "nowhere"
type = "null"
parents = ["lww_merge"]
"""


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def fill(cluster, spec, count):
    """Writes `count` winners, each of a row of its own, to region us."""
    region = cluster.regions["us"]
    producer = Producer({"bootstrap.servers": region.kafka, "acks": "all", "linger.ms": 50, "queue.buffering.max.kbytes": 500_000})
    schema = fastavro.parse_schema(wire.current_schema())
    schema_id = cluster.schema_ids["us"]["current"]
    vectors = numpy.random.default_rng(1).random((1_000, spec.dimension), dtype=numpy.float32).tolist()
    base = wire.hlc(int(time.time() * 1000))
    for number in range(count):
        vector_id = f"00000000-0000-4000-8000-{number:012x}"
        change = {
            "op": "UPSERT", "timestamp": base + number, "origin": "us", "sequence": number, "collection": spec.name,
            "vector_id": vector_id, "vector": vectors[number % 1_000], "metadata": {"n": number, "lang": "en"},
        }
        value = wire.frame(schema_id, wire.avro_body(schema, change))
        partition = wire.partition_of(vector_id.encode(), PARTITIONS)
        while True:
            try:
                producer.produce(rawlog.CDC_TOPIC, value, vector_id, partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def winners(worker):
    """Rows acknowledged everywhere: the store holds nothing else. 0 while nobody listens yet."""
    try:
        return worker.metric("driftless_store_entries")
    except OSError:
        return 0


def measure(sink, dimension, count):
    spec = CollectionSpec(f"figures_{dimension}", "uuid", dimension, "l2")
    cluster = Cluster("figures", [spec], {"us": 1, "eu": 1})
    worker = cluster.workers["us-1"]
    try:
        cluster.prepare()
        fill(cluster, spec, count)
        if sink == "null":
            (cluster.folder / "no_sink.toml").write_text(TOPOLOGY)
            config = Path(worker.command[-1])
            config.write_text(config.read_text() + '\n[topology]\nfile = "no_sink.toml"\n')
        began = time.monotonic()
        worker.start()
        first = None
        while True:
            worker.check_alive()
            done = winners(worker)
            now = time.monotonic()
            if done and first is None:
                first = (now, done, cpu_seconds(worker.process.pid))
            if done >= count:
                break
            if now - began > DEADLINE_SECONDS:
                raise TimeoutError(f"{done:.0f} of {count} after {DEADLINE_SECONDS} s\n{worker.log_tail()}")
            time.sleep(0.02)
        cpu = cpu_seconds(worker.process.pid)
        rate = (count - first[1]) / max(now - first[0], 0.001)
        return rate, 1e6 * cpu / count, worker.resident_bytes() / 2**20
    finally:
        cluster.close(keep_files=False)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| sink | dims | records | 1 000 records/s min / med / max | CPU s per million min / med / max | resident MiB, max |")
    print("|---|---|---|---|---|---|")
    for sink, dimension, count in CASES:
        results = [measure(sink, dimension, count) for _ in range(runs)]
        rates, cpus, resident = zip(*results)
        spread = lambda values, scale: " / ".join(f"{f(values) / scale:.1f}" for f in (min, statistics.median, max))  # noqa: E731
        print(f"| {sink} | {dimension} | {count} | {spread(rates, 1000)} | {spread(cpus, 1)} | {max(resident):.0f} |", flush=True)


if __name__ == "__main__":
    main()

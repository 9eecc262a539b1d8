"""NAME milvus: how near to the server's own ceiling rows get into Milvus.

The ceiling is `examples/milvus_ceiling.rs`: the bare SDK, upserting columns whose requests were ready beforehand. Our store
is measured by the same program; the worker by the rows that it counts as acknowledged.
"""

import os
import re
import statistics
import subprocess
import time
import urllib.request
from dataclasses import dataclass

import changes
from lib.cluster import series
from peers import PARTITIONS, Driftless, Input, create_topics, forget_state
from process import wait_idle
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 3, "records": 160_000, "dims": [128, 768]}
CLIENTS = ("sdk", "store", "worker")
BATCH_BYTES, ROW_OVERHEAD = 2 << 20, 100  # as the example has them; the former is our default for a batch too
POLL_SECONDS = 0.02
STILL_SECONDS_MAX = 120
TARGET = 0.95
LINE = re.compile(r"^ *\d+ +(?:bare SDK|store) +\d+ \| +(\d+) +([\d.]+) +([\d.]+|-)$", re.MULTILINE)

# Of an earlier run on a machine of this kind, JSON, 4 partitions: 1 000 rows/s and its own CPU in µs for each row.
CONNECT = {128: ((5.5, 7.9), (123, 216)), 768: ((0.9, 1.9), (650, 1050))}

ABOUT = """\
Upserts of rows with keys of their own into a collection with an HNSW index, {in_flight} requests of 2 MiB in flight, {rounds}
rounds; each round and dimension has an empty Milvus, on which all clients take their turn, another one first each time, in
collections of their own. *sdk*: the bare SDK, requests made beforehand. *store*: our `MilvusStore`, rows to columns
included. *worker*: `driftless worker` (1 thread, {in_flight} partitions: a request in flight for each), from a topic full
of such changes, with all that it does: reading, merging, both changelogs. Figures of the worker run from the first rows it
counts as acknowledged to the last.

The Kafka Connect sink for Milvus (v0.1.4, the newest for Milvus 2.3) was not run here. In an earlier run on a machine of
this kind it did, with so much CPU time of its own for each row:
{connect}.
The ratio to it is taken to its best figures.
"""


@dataclass(frozen=True)
class Figure:
    rate: float
    cpu: float  # µs of the client for each row: CPU seconds per million
    server: float


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.kafka = bench.kafka
        self.servers = bench.servers
        self.metrics = os.environ["DRIFTLESS_US_MILVUS_METRICS"]
        self.serial = 0

    def run(self):
        options = self.bench.options
        figures = {dimension: {client: [] for client in CLIENTS} for dimension in options.dims}
        for dimension in options.dims:
            given = self.fill(dimension)
            for number in range(options.rounds):
                self.bench.renew_milvus()
                turn = number % len(CLIENTS)
                for client in CLIENTS[turn:] + CLIENTS[:turn]:
                    wait_idle(self.bench.broker_pid)
                    figure = self.worker(given) if client == "worker" else self.example(client, dimension)
                    figures[dimension][client].append(figure)
                    print(
                        f"  round {number + 1} of {options.rounds}, {dimension} dims, {client}: {figure.rate:,.0f} rows/s, "
                        f"{figure.cpu:.1f} CPU µs a row",
                        flush=True,
                    )
            self.kafka.delete(["vector-cdc"])
        connect = ";\n".join(
            f"{dimension} dims {rates[0]} to {rates[1]} thousand rows/s at {cpu[0]} to {cpu[1]} µs"
            for dimension, (rates, cpu) in CONNECT.items()
        )
        about = ABOUT.format(in_flight=PARTITIONS, rounds=options.rounds, connect=connect)
        return "\n\n".join([about.strip(), *(section(dimension, of) for dimension, of in figures.items())])

    def rows(self, dimension):
        """As many bytes at every dimension, in whole batches."""
        batches = max(1, self.bench.options.records * (4 * 128 + ROW_OVERHEAD) // BATCH_BYTES)
        return batches, batches * (BATCH_BYTES // (4 * dimension + ROW_OVERHEAD))

    def fill(self, dimension):
        _, rows = self.rows(dimension)
        print(f"{dimension} dimensions: {rows:,} rows", flush=True)
        self.kafka.delete(["vector-cdc"])
        create_topics(self.servers, "milvus-fill", dimension)
        made = changes.Changes(dimension, self.bench.register_schema(), rows, shares=("new",))
        total = changes.fill(self.servers.kafka, made)
        self.kafka.forget("milvus-fill")
        return Input(dimension, rows, made.winners, 0, total)

    def example(self, client, dimension):
        batches, _ = self.rows(dimension)
        arguments = [self.servers.milvus, self.metrics, dimension, PARTITIONS, batches, client]
        command = [self.bench.examples / "milvus_ceiling", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = LINE.search(done.stdout)
        if done.returncode != 0 or not found:
            raise RuntimeError(f"milvus_ceiling failed:\n{done.stdout}{done.stderr}")
        return Figure(rate=float(found[1]), cpu=float(found[2]), server=float(found[3]))

    def worker(self, given):
        self.serial += 1
        application = f"milvus-{self.serial}-{int(time.time())}"
        create_topics(self.servers, application, given.dimension)
        peer = Driftless(1, sink=None)
        process = peer.start(self.servers, application, given)
        try:
            figure = self.watch(peer, process, given.records)
        finally:
            process.end()
        self.kafka.forget(application)
        forget_state(self.servers, application)
        return figure

    def watch(self, peer, process, rows):
        """Until all rows are acknowledged."""
        first, last, moved_at = None, 0, time.monotonic()
        while True:
            told = peer.scrape()
            count = sum(value for _, value in series(told, "driftless_sink_rows_total"))
            now = time.monotonic()
            if count and first is None:
                first = (now, count, process.cpu_seconds(), self.server_cpu())
            if count >= rows:
                break
            if count != last:
                last, moved_at = count, now
            elif now - moved_at > STILL_SECONDS_MAX:
                raise TimeoutError(f"the worker stands at {count:,.0f} of {rows:,} rows\n{process.log_tail()}")
            process.check_alive()
            time.sleep(POLL_SECONDS)
        done = count - first[1]
        if count > rows or done < rows / 2:
            raise AssertionError(f"the worker wrote {count:,.0f} of {rows:,} rows, {first[1]:,.0f} of them before it was looked at")
        cpu, server = process.cpu_seconds() - first[2], self.server_cpu() - first[3]
        return Figure(rate=done / (now - first[0]), cpu=1e6 * cpu / done, server=1e6 * server / done)

    def server_cpu(self):
        with urllib.request.urlopen(self.metrics, timeout=5) as reply:
            return series(reply.read().decode(), "process_cpu_seconds_total")[0][1]


def section(dimension, figures):
    head = [
        "client", "1 000 rows/s, min / med / max", "its CPU µs a row", "the server's CPU µs a row",
        f"of the bare SDK's rows/s (at least {TARGET})", "times the Connect sink's rows/s (at least 5)",
        "of its CPU a row (at most 0.05)",
    ]  # fmt: skip
    connect = CONNECT.get(dimension)
    rows = []
    for client, measured in figures.items():
        rates = [figure.rate for figure in measured]
        ratios = [rate / ceiling.rate for rate, ceiling in zip(rates, figures["sdk"])]
        cpu = [figure.cpu for figure in measured]
        rows.append([
            client,
            spread([rate / 1000 for rate in rates]),
            spread(cpu),
            spread([figure.server for figure in measured]),
            spread(ratios, 2),
            f"{statistics.median(rates) / 1000 / max(connect[0]):.1f}" if connect else "",
            f"{statistics.median(cpu) / min(connect[1]):.3f}" if connect else "",
        ])
    return f"### {dimension} dimensions\n\n{table(head, rows)}"

"""NAME hot-keys: few keys that change all the time, and what their rows cost Milvus."""

import multiprocessing
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass

import changes
import numpy
from lib import verifier
from lib.cluster import series
from lib.rawlog import CDC_TOPIC
from peers import Driftless, Input, create_topics, forget_state
from process import cpu_seconds, resident_mib, wait_idle
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema
from results import table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 1, "seconds": 180, "dims": [128]}
KEYS, EXPONENT, RATE = 10_000, 1.1, 25_000
STEP_SECONDS = 0.02
# Not forked: neither gRPC nor librdkafka outlives that in a process that has used it.
SPAWN = multiprocessing.get_context("spawn")
LAG_SECONDS, LAG_BUDGET_SECONDS = 0.1, 0.15  # how often it is asked for, and its limit
CAUGHT_UP_SECONDS_MAX = 300
UPSERTERS, UPSERT_ROWS = 4, 1_000
HNSW = {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 8, "efConstruction": 64}}

ABOUT = """\
{rate:,} upserts a second of {dims} dimensions for {seconds} s, their keys drawn from {keys:,} by Zipf's law with exponent
{exponent}; an empty Milvus for each. `driftless`: one worker, 1 thread, 4 partitions, Milvus at its end; *hold* is
`[sink] hold`. `each`: a client of Milvus' own that upserts as many rows a second as are changed, or as many as it can, in
requests of {rows:,} distinct keys, {upserters} at once. *Milvus*: what its process takes more at the end than at the
beginning, with the first {keys:,} rows in it. *lag*: `driftless_apply_lag_seconds{{stage="acknowledged"}}`, asked for ten
times a second: the age of the oldest change that is not in Milvus yet, so that what is held counts. *kept up*: changes
settled in the last quarter for each that was written then.
"""


@dataclass(frozen=True)
class Figure:
    written: int
    upserts: float
    kept_up: float
    lags: list
    grown_mib: float
    server_cpu: float  # seconds
    client_cpu: float


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.servers = bench.servers
        self.kafka = bench.kafka
        self.seconds = bench.options.seconds

    def run(self):
        options = self.bench.options
        self.schema_id = self.bench.register_schema()
        sections = []
        for dimension in options.dims:
            figures = {"driftless, hold 100 ms (default)": [], "driftless, hold 0": [], "each": []}
            for number in range(options.rounds):
                for name, measured in figures.items():
                    self.bench.renew_milvus()
                    verifier.connect("us", self.servers.milvus)
                    if name == "each":
                        figure = self.each(dimension)
                    else:
                        figure = self.driftless(dimension, "0s" if name.endswith("hold 0") else "100ms", number)
                    measured.append(figure)
                    print(
                        f"  round {number + 1} of {options.rounds}, {name}: {figure.upserts:,.0f} upserts for "
                        f"{figure.written:,} changes, Milvus + {figure.grown_mib:,.0f} MiB",
                        flush=True,
                    )
            sections.append(self.section(dimension, figures))
        about = ABOUT.format(
            rate=RATE, dims=" and ".join(map(str, options.dims)), seconds=self.seconds, keys=KEYS, exponent=EXPONENT,
            rows=UPSERT_ROWS, upserters=UPSERTERS,
        )  # fmt: skip
        return "\n\n".join([about.strip(), *sections])

    def driftless(self, dimension, hold, number):
        application = f"hot-{number}-{int(time.time())}"
        self.kafka.delete([CDC_TOPIC])
        create_topics(self.servers, application, dimension)
        wait_idle(self.bench.broker_pid)
        peer = Driftless(1, sink=None, tables=[f'[sink]\nhold = "{hold}"'])
        process = peer.start(self.servers, application, Input(dimension, 0, 0, self.schema_id, 0))
        writer = Writer(self.servers.kafka, dimension, self.schema_id)
        try:
            writer.write(KEYS)
            self.settle(peer, process, application, writer.written)
            figure = self.watch(peer, process, application, writer)
        finally:
            writer.end()
            process.end()
        self.kafka.forget(application)
        forget_state(self.servers, application)
        return figure

    def watch(self, peer, process, application, writer):
        milvus = self.bench.milvus_pid()
        before = self.look(milvus, process, writer, rows(peer))
        lags, asked = [], threading.Event()
        sampler = threading.Thread(target=sample_lags, args=(peer, lags, asked))
        sampler.start()
        try:
            writer.keep_up(self.seconds * 3 // 4, process.check_alive)
            settled, written = self.settled(application), writer.written
            writer.keep_up(self.seconds - self.seconds * 3 // 4, process.check_alive)
            kept_up = (self.settled(application) - settled) / (writer.written - written)
            after = self.look(milvus, process, writer, rows(peer))
        finally:
            asked.set()
            sampler.join()
        return figure_of(before, after, kept_up, lags)

    def look(self, milvus, process, writer, upserts):
        return {
            "written": writer.written, "upserts": upserts, "milvus": resident_mib(milvus),
            "server": cpu_seconds(milvus), "client": process.cpu_seconds(),
        }  # fmt: skip

    def settled(self, application):
        return sum(self.kafka.committed(application, self.kafka.partitions(CDC_TOPIC)).values())

    def settle(self, peer, process, application, changes_written):
        deadline = time.monotonic() + CAUGHT_UP_SECONDS_MAX
        while self.settled(application) < changes_written:
            process.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not caught up after {CAUGHT_UP_SECONDS_MAX} s\n{process.log_tail()}")
            time.sleep(0.1)

    def each(self, dimension):
        """As a connector does that knows nothing of keys, at its best: whole requests, and no key twice in one."""
        keys = changes.HotKeys(dimension, self.schema_id, KEYS, EXPONENT).keys
        create_collection(dimension)
        milvus, count = self.bench.milvus_pid(), SPAWN.Value("q", 0)
        uri, share = self.servers.milvus, KEYS // UPSERTERS
        stop = SPAWN.Event()
        loaded = SPAWN.Barrier(UPSERTERS + 1)
        clients = [
            SPAWN.Process(
                target=upsert, args=(uri, dimension, keys[share * index : share * (index + 1)], count, loaded, stop)
            )
            for index in range(UPSERTERS)
        ]
        for client in clients:
            client.start()
        try:
            loaded.wait(CAUGHT_UP_SECONDS_MAX)
            look = lambda: {  # noqa: E731
                "written": count.value, "upserts": count.value, "milvus": resident_mib(milvus),
                "server": cpu_seconds(milvus), "client": sum(cpu_seconds(client.pid) for client in clients),
            }  # fmt: skip
            before = look()
            stop.wait(self.seconds)
            if not all(client.is_alive() for client in clients):
                raise RuntimeError("a client that upserts each change died")
            after = look()
        finally:
            stop.set()
            for client in clients:
                client.join()
        return figure_of(before, after, (after["upserts"] - before["upserts"]) / (RATE * self.seconds), [])

    def section(self, dimension, figures):
        head = [
            "", "changes", "upserts", "kept up", "lag p50 / p99 ms", f"p99 of {1000 * LAG_BUDGET_SECONDS:.0f} ms",
            "Milvus MiB more", "of `each`, for as many changes", "Milvus CPU s", "client CPU s",
        ]  # fmt: skip
        each = figures["each"]
        growth = sum(one.grown_mib for one in each) / sum(one.written for one in each)
        lines = []
        for name, measured in figures.items():
            for figure in measured:
                lag = [1000 * float(numpy.percentile(figure.lags, each)) for each in (50, 99)] if figure.lags else None
                lines.append([
                    name,
                    f"{figure.written:,}",
                    f"{figure.upserts:,.0f}",
                    f"{figure.kept_up:.2f}",
                    f"{lag[0]:.0f} / {lag[1]:.0f}" if lag else "",
                    f"{lag[1] / 1000 / LAG_BUDGET_SECONDS:.2f}" if lag else "",
                    f"{figure.grown_mib:,.0f}",
                    f"{figure.grown_mib / (growth * figure.written):.2f}",
                    f"{figure.server_cpu:.0f}",
                    f"{figure.client_cpu:.0f}",
                ])
        return f"### {dimension} dimensions\n\n{table(head, lines)}"


class Writer:
    """Writes changes at the rate, from a process of its own: encoding must not wait for whoever measures."""

    def __init__(self, kafka, dimension, schema_id):
        self.orders, self.answers = SPAWN.Queue(), SPAWN.Queue()
        self.process = SPAWN.Process(target=write, args=(kafka, dimension, schema_id, self.orders, self.answers))
        self.process.start()
        self.written = 0

    def write(self, count):
        self._order(("all", count), lambda: None)

    def keep_up(self, seconds, meanwhile):
        self._order(("paced", seconds), meanwhile)

    def _order(self, order, meanwhile):
        self.orders.put(order)
        while True:
            try:
                answer = self.answers.get(timeout=1)
                break
            except queue.Empty:
                meanwhile()
                if not self.process.is_alive():
                    raise RuntimeError("the writer died") from None
        if isinstance(answer, str):
            raise RuntimeError(f"the writer failed: {answer}")
        self.written += answer

    def end(self):
        self.process.kill()
        self.process.join()


def write(kafka, dimension, schema_id, orders, answers):
    source, producer, failed = changes.HotKeys(dimension, schema_id, KEYS, EXPONENT), changes.producer_of(kafka, 2), []

    def produce(pairs):
        for key, value in pairs:
            producer.produce(CDC_TOPIC, value, key, on_delivery=lambda error, _: error and failed.append(error))
        producer.poll(0)

    while True:
        kind, amount = orders.get()
        written = 0
        if kind == "all":
            # Each key once, so that the rows are there before what is measured begins.
            produce(source.each())
            written = len(source.keys)
        else:
            began = time.monotonic()
            while (passed := time.monotonic() - began) < amount:
                due = int(passed * RATE) - written
                produce(source.draw(due))
                written += due
                time.sleep(max(0.0, began + passed + STEP_SECONDS - time.monotonic()))
        producer.flush()
        answers.put(f"{len(failed)} changes were not taken: {failed[0]}" if failed else written)


def sample_lags(peer, lags, end):
    while not end.wait(LAG_SECONDS):
        told = series(peer.scrape(), "driftless_apply_lag_seconds")
        lags += [value for labels, value in told if labels["stage"] == "acknowledged" and value == value]


def rows(peer):
    return sum(value for _, value in series(peer.scrape(), "driftless_sink_rows_total"))


def figure_of(before, after, kept_up, lags):
    more = Counter(after)
    more.subtract(before)
    return Figure(more["written"], more["upserts"], kept_up, lags, more["milvus"], more["server"], more["client"])


def create_collection(dimension):
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=36),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=dimension),
    ]
    collection = Collection("each", CollectionSchema(fields), using="us", num_shards=1)
    collection.create_index("vector", HNSW)
    collection.load()


def upsert(uri, dimension, keys, count, loaded, stop):
    """Its share of the keys, round and round, no faster than they are changed."""
    verifier.connect("us", uri)
    collection = Collection("each", using="us")
    vectors = numpy.random.default_rng(1).standard_normal((UPSERT_ROWS, dimension)).astype(numpy.float32).tolist()
    place, done, rate = 0, -len(keys), RATE / UPSERTERS
    began = None
    while not stop.is_set():
        request = [keys[(place + row) % len(keys)] for row in range(UPSERT_ROWS)]
        collection.upsert([request, vectors])
        place, done = place + UPSERT_ROWS, done + UPSERT_ROWS
        if done < 0:
            continue
        if began is None:
            loaded.wait(CAUGHT_UP_SECONDS_MAX)
            began = time.monotonic()
            continue
        with count.get_lock():
            count.value += UPSERT_ROWS
        stop.wait(max(0.0, began + done / rate - time.monotonic()))

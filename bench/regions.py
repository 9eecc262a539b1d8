"""NAME regions: a change's way from one region's Kafka into the other's Milvus, over a link of 30 ms, stage by stage."""

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from hop import Hop
from lib.cluster import Cluster, series
from lib.probe import Probe
from lib.rawlog import TopicTail, mirror_of
from lib.wire import CollectionSpec
from paced import Paced, percentile, stopwatch, with_stopwatches
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
from results import spread, table

SERVERS = ("kafka-us", "kafka-eu", "link", "mm2", "registry-us", "registry-eu", "milvus-us", "milvus-eu")
DEFAULTS = {"rounds": 3, "seconds": 20, "dims": [128]}
TOPOLOGY = Path(__file__).resolve().parents[1] / "topologies/replicate.toml"
FROM, TO = "us", "eu"
MIRROR = mirror_of(FROM)
DELAY_MS = 30
RATE = 1_000
WARM_SECONDS = 10
SETTLED_SECONDS_MAX = 60
# Of as many changes one is looked for in Milvus: its id is in a range of its own, so that an answer is short.
LOOKED_FOR = 50
LOOKED_FOR_IDS = 1_000_000_000
POLL_MS = 20
BARE = "bench_bare"
BARE_RATE = RATE / LOOKED_FOR
SHARES = {"p50": 0.5, "p99": 0.99}

ABOUT = """\
Two regions, the link between them {delay} ms one way, a worker in each; {rate:,} changes a second of {dimension} floats, each
a new row, written in `{origin}`, and what became of them in `{target}`: {rounds} rounds of {seconds} s, and as long again with
readers. All of it is on one machine ({busy} busy meanwhile) and has one clock; a change's stamp is the microsecond in which
its producer was given it, and every time is counted from there. *Appended*: by `{origin}`'s broker (in whole ms). *Hop*: a
bare consumer in `{target}` has it from the mirror. *Polled*, *merged*: it comes to nodes put into the worker's topology
there (`examples/stopwatch.rs`). *Acknowledged*: by Milvus, whereupon the worker appends it to its vectors changelog, whose
records say when (in whole ms). Of the time between merged and acknowledged, *sent* is what is left without Milvus' mean
answer to a batch ({rows} rows). *Visible*: a query of the lowest consistency finds it, one each {poll} ms, of one change in
{looked_for}; beside it, in the same seconds, at most as many rows upserted by pymilvus, one after the other, into a collection of its
own and found by the same kind of query (*bare Milvus*).

Wanted: acknowledged = hop + 15 ms at p50 and + 40 ms at p99; visible = acknowledged + what bare Milvus takes.
"""


@dataclass
class Way:
    """Of the changes of one phase: ms since the stamp, {stamp: ms} for each stage; and what Milvus' answers took."""

    stages: dict
    write_ms: float
    batch_rows: float
    busy: float


@dataclass
class Seen:
    """ms from Milvus' acknowledgement until it is found, and from the write."""

    ours: list
    bare: list
    since_written: list


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.options = bench.options
        [self.dimension] = bench.options.dims
        self.spec = CollectionSpec("bench_regions", "int64", self.dimension, "l2")
        self.cluster = Cluster("bench", [self.spec], {FROM: 1, TO: 1}, tables=["[scrub]\nenabled = false"])
        self.passing = {}

    def run(self):
        self.cluster.link("delay", str(DELAY_MS))
        try:
            self.cluster.prepare()
            self.paced = Paced(
                self.cluster.regions[FROM].kafka, self.cluster.schema_ids[FROM]["current"], FROM, self.spec.name,
                self.dimension, RATE, key_of,
            )
            ways, seen = self.rounds()
            self.end()
            self.cluster.stack("kill", *(f"milvus-{region}" for region in self.cluster.regions))
            hop = Hop(self.bench, self.cluster, self.paced, TO, MIRROR, DELAY_MS).section()
        finally:
            self.end()
            self.cluster.close(keep_files=False)
        return "\n\n".join([self.about(ways), stages(ways, seen), promises(ways, seen), hop])

    def about(self, ways):
        return ABOUT.format(
            delay=DELAY_MS, rate=RATE, dimension=self.dimension, origin=FROM, target=TO, rounds=self.options.rounds,
            seconds=self.options.seconds, busy=f"{statistics.median(way.busy for way in ways):.0%}", poll=POLL_MS,
            rows=f"{statistics.median(way.batch_rows for way in ways):.1f}", looked_for=LOOKED_FOR,
        ).strip()

    # --- servers, workers, readers ---

    def end(self):
        while self.passing:
            self.passing.popitem()[1].end()

    def start(self):
        """Workers that tell when changes come by, and a bare consumer of what they read."""
        topology = self.cluster.folder / "replicate.toml"
        topology.write_text(with_stopwatches(TOPOLOGY.read_text()))
        for name, worker in self.cluster.workers.items():
            config = self.cluster.folder / f"{name}.toml"
            with config.open("a") as file:
                file.write(f'[topology]\nfile = "{topology}"\n')
            self.passing[name] = stopwatch(self.bench, name, "worker", config)
        for worker in self.cluster.workers.values():
            worker.wait_ready()
        self.passing["hop"] = stopwatch(self.bench, "hop", "consumer", self.cluster.regions[TO].kafka, MIRROR)
        self.passing["hop"].wait_first(MIRROR, self.paced)
        self.changelog = TopicTail(self.cluster.regions[TO].kafka, [f"{self.cluster.application}-vectors-changelog"])

    def rounds(self):
        self.start()
        ways, seen = [], []
        bare = Bare(self.cluster.regions[TO].milvus, self.dimension)
        self.paced.write(WARM_SECONDS)
        for number in range(self.options.rounds):
            ways.append(self.undisturbed())
            seen.append(self.looked_for(bare))
            hop, acknowledged = (percentile(ways[-1].stages[each].values(), 0.5) for each in ("hop", "acknowledged"))
            print(
                f"  round {number + 1} of {self.options.rounds}: hop p50 {hop:.0f} ms, acknowledged {acknowledged:.0f} ms, "
                f"visible {percentile(seen[-1].ours, 0.5):.0f} ms later, {ways[-1].busy:.0%} busy",
                flush=True,
            )
        return ways, seen

    # --- one phase each ---

    def undisturbed(self):
        batches, busy = self.batches(), machine.busy_seconds()
        began = time.monotonic()
        written = self.paced.write(self.options.seconds)
        share = (machine.busy_seconds() - busy) / (time.monotonic() - began) / machine.cores()
        acknowledged = self.acknowledged(written)
        seconds, count, rows = (after - before for after, before in zip(self.batches(), batches))
        worker = self.passing[f"{TO}-1"]
        passed = {
            "appended": {stamp: 1000 * self.paced.appended[stamp] for stamp in written},
            "hop": self.passing["hop"].wait(MIRROR, written.keys()),
            "polled": worker.wait("polled", written.keys()),
            "merged": worker.wait("merged", written.keys()),
            "acknowledged": acknowledged,
        }
        ages = {stage: {stamp: (at - stamp) / 1000 for stamp, at in passed[stage].items()} for stage in passed}
        return Way(ages, 1000 * seconds / count, rows / count, share)

    def looked_for(self, bare):
        """The same with readers."""
        uri, end = self.cluster.regions[TO].milvus, 2 * LOOKED_FOR_IDS
        probes = [
            Probe(uri, self.spec.name, POLL_MS, [(LOOKED_FOR_IDS + self.paced.number // LOOKED_FOR + 1, end)], "Eventually"),
            Probe(uri, BARE, POLL_MS, [(bare.next, end)], "Eventually"),
        ]
        try:
            for probe in probes:
                probe.wait_begun()
            bare.start()
            written = self.paced.write(self.options.seconds)
            upserted = bare.stop()
            sought = {stamp: int(key) for stamp, key in written.items() if int(key) >= LOOKED_FOR_IDS}
            for probe, ids in zip(probes, (set(sought.values()), upserted.keys())):
                wait_seen(probe, ids)
        finally:
            for probe in probes:
                probe.stop()
        acknowledged = self.acknowledged(written)
        ours, theirs = ({each: seconds * 1e6 for each, seconds in probe.seen.items()} for probe in probes)
        return Seen(
            [(ours[row] - acknowledged[stamp]) / 1000 for stamp, row in sought.items()],
            [(theirs[row] - at) / 1000 for row, at in upserted.items()],
            [(ours[row] - stamp) / 1000 for stamp, row in sought.items()],
        )

    def acknowledged(self, written):
        """{stamp: when Milvus had acknowledged it}, in Unix microseconds, once that is so of all."""
        wanted = {f"{self.spec.name}\0{key}".encode(): stamp for stamp, key in written.items()}
        found, deadline = {}, time.monotonic() + SETTLED_SECONDS_MAX
        while len(found) < len(wanted):
            for passing in self.passing.values():
                passing.process.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(wanted) - len(found)} changes are not settled within {SETTLED_SECONDS_MAX} s")
            self.changelog.catch_up()
            for record in self.changelog.all_records():
                if record.key in wanted:
                    found[wanted[record.key]] = record.appended_at_ms * 1000
            for records in self.changelog.records.values():
                records.clear()
        return found

    def batches(self):
        """Seconds that Milvus has taken to answer, answers, rows."""
        told = self.cluster.workers[f"{TO}-1"].scrape()
        names = ("sink_write_seconds_sum", "sink_write_seconds_count", "sink_batch_rows_sum")
        return [sum(value for _, value in series(told, f"driftless_{name}")) for name in names]


class Bare:
    """Rows upserted by Milvus' own SDK, one at a time, and when each was acknowledged."""

    def __init__(self, uri, dimension):
        connections.connect(alias=BARE, uri=uri)
        if utility.has_collection(BARE, using=BARE):
            utility.drop_collection(BARE, using=BARE)
        row = FieldSchema("id", DataType.INT64, is_primary=True)
        fields = [row, FieldSchema("vector", DataType.FLOAT_VECTOR, dim=dimension)]
        self.collection = Collection(BARE, CollectionSchema(fields), using=BARE)
        index = {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 8, "efConstruction": 64}}
        self.collection.create_index("vector", index)
        self.collection.load()
        self.dimension, self.next = dimension, 1

    def start(self):
        self.upserted, self.failed, self.stopping = {}, None, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        """{id: when it was acknowledged}, in Unix microseconds."""
        self.stopping.set()
        self.thread.join()
        if self.failed:
            raise RuntimeError("Milvus takes no rows from its own SDK") from self.failed
        return self.upserted

    def _run(self):
        try:
            while not self.stopping.wait(1 / BARE_RATE):
                self.collection.upsert([[self.next], [[self.next % 97 / 97] * self.dimension]])
                self.upserted[self.next] = time.time_ns() // 1000
                self.next += 1
        except Exception as error:  # told by whoever stops it
            self.failed = error


def key_of(number):
    looked_for, other = divmod(number, LOOKED_FOR)
    return str(number if other else LOOKED_FOR_IDS + looked_for)


def wait_seen(probe, ids):
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while missing := ids - probe.seen.keys():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} rows are acknowledged and not found within {SETTLED_SECONDS_MAX} s")
        time.sleep(0.1)


# --- tables ---


def stages(ways, seen):
    """Each stage's age since the write, and its own share of the mean."""
    before = [0.0] * len(ways)
    rows = []
    for stage in ("appended", "hop", "polled", "merged", "acknowledged"):
        means = [statistics.fmean(way.stages[stage].values()) for way in ways]
        if stage == "acknowledged":
            sent = [mean - way.write_ms for mean, way in zip(means, ways)]
            rows.append(["sent", "", "", share(sent, before)])
            before = sent
        rows.append([stage, *(spread(ages(ways, stage, each)) for each in SHARES.values()), share(means, before)])
        before = means
    visible = [[percentile(each.since_written, part) for each in seen] for part in SHARES.values()]
    later = [statistics.fmean(each.ours) for each in seen]
    rows.append(["visible, with readers", *map(spread, visible), spread(later)])
    head = ["stage", "ms since the write, p50, min / med / max", "p99", "of it this stage, mean"]
    return f"### Stages\n\n{table(head, rows)}"


def ages(ways, stage, part):
    return [percentile(way.stages[stage].values(), part) for way in ways]


def share(means, before):
    return spread([mean - earlier for mean, earlier in zip(means, before)])


def promises(ways, seen):
    rows = []
    for (name, part), wanted in zip(SHARES.items(), (15, 40)):
        beyond = [late - hop for late, hop in zip(ages(ways, "acknowledged", part), ages(ways, "hop", part))]
        rows.append([f"acknowledged beyond the hop, {name}", spread(beyond), str(wanted), times(beyond, wanted)])
    for name, part in SHARES.items():
        ours, bare = ([percentile(of, part) for of in each] for each in zip(*((each.ours, each.bare) for each in seen)))
        wanted = f"{spread(bare)} (bare Milvus)"
        rows.append([f"visible after acknowledged, {name}", spread(ours), wanted, times(ours, statistics.median(bare))])
    return f"### Promises\n\n{table(['ms', 'min / med / max', 'wanted', 'times what is wanted'], rows)}"


def times(values, wanted):
    return f"{statistics.median(values) / wanted:.1f}"

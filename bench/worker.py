"""NAME worker: the whole way of a change but for Milvus, by us, by Kafka Streams, and by the least that could do it.

All peers read one full topic. The ruler is the same for all and outside of them: the end of the changelog that has a
record for each winner, asked for every POLL_SECONDS; CPU seconds and peak memory are the system's account of the
process. Figures run from the first winners seen in the changelog to the last.
"""

import fnmatch
import time
from dataclasses import dataclass

import changes
from lib.cluster import series
from peers import PARTITIONS, BareLoop, Driftless, Input, Streams, create_topics, forget_state
from process import wait_idle
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 5, "records": 1_000_000, "dims": [128, 768]}
POLL_SECONDS = 0.02
STILL_SECONDS_MAX = 120
SETTLE_SECONDS_MAX = 20

ABOUT = """\
One topic of {records:,} changes in 4 partitions (20 % duplicates, 20 % stale, 6.7 % deletes; {winners:,} winners), read
by every peer from its beginning with a fresh application id; at-least-once, commits every 100 ms, no record cache.
`driftless-N`: the worker with a sink that writes nowhere, N threads; the whole change and its version in two changelogs.
`bare-loop`: `examples/bare_loop.rs`, the same records by librdkafka alone. `streams-STORE-KEEP-DECODE-N`: Kafka Streams
(`bench/streams`), N threads; its changelog keeps the *whole* change as the store's value, or the version there and the
change in a topic beside it (*split*, as ours), or the version alone (*metadata*, which gives up rebuild and roll-back);
*generic* is Avro's reader, *lazy* reads by hand, vectors of winners only, as ours does. The worker has no setting yet
that leaves out the vectors changelog, so *metadata* has no peer of ours.

CPU seconds and records/s are counted from the first winners in the changelog to the last; *whole process* has the start
too, and `start` is the time from exec to the first winners in the changelog. The broker's CPU is in none of them.
"""


def peers(patterns):
    everyone = [
        Driftless(1),
        BareLoop(),
        Driftless(2),
        *(Streams(store, "whole", threads) for store in ("rocksdb", "memory") for threads in (1, 2)),
        *(Streams(store, "split", threads, "lazy") for store in ("rocksdb", "memory") for threads in (1, 2)),
        *(Streams(store, "metadata", 1) for store in ("rocksdb", "memory")),
    ]
    wanted = [peer for peer in everyone if any(fnmatch.fnmatch(peer.name, pattern) for pattern in patterns)]
    if not wanted:
        raise SystemExit(f"no peer of {', '.join(patterns)}; there are {', '.join(peer.name for peer in everyone)}")
    return wanted


@dataclass(frozen=True)
class Figure:
    rate: float
    cpu: float  # seconds per million records
    whole_cpu: float
    start: float
    peak_mib: float


class Measurement:
    partitions = PARTITIONS

    def __init__(self, bench):
        self.bench = bench
        self.kafka = bench.kafka
        self.servers = bench.servers
        self.serial = 0

    def run(self):
        self.bench.kill_milvus()
        sections = []
        everyone = peers(self.bench.options.peers)
        for dimension in self.bench.options.dims:
            given = self.fill(dimension)
            figures = self.rounds(everyone, given)
            self.kafka.delete(["vector-cdc"])
            sections.append(section(given, figures))
        about = ABOUT.format(records=given.records, winners=given.winners)
        return "\n\n".join([about.strip(), *sections])

    def application(self, peer):
        self.serial += 1
        return f"bench-{peer}-{self.serial}-{int(time.time())}"

    def fill(self, dimension):
        records = self.bench.options.records
        print(f"{dimension} dimensions: {records:,} changes", flush=True)
        application = self.application("fill")
        self.kafka.delete(["vector-cdc"])
        create_topics(self.servers, application, dimension, self.partitions)
        schema_id = self.bench.register_schema()
        made = changes.Changes(dimension, schema_id, records)
        total = changes.fill(self.servers.kafka, made)
        self.kafka.forget(application)
        return Input(dimension, records, made.winners, schema_id, total)

    def rounds(self, everyone, given):
        figures = {peer.name: [] for peer in everyone}
        rounds, began, done = self.bench.options.rounds, time.monotonic(), 0
        for number in range(rounds):
            # Another one begins each round.
            for peer in everyone[number % len(everyone) :] + everyone[: number % len(everyone)]:
                figure = self.measure(peer, given)
                figures[peer.name].append(figure)
                done += 1
                left = (time.monotonic() - began) / done * (rounds * len(everyone) - done)
                print(
                    f"  round {number + 1} of {rounds}, {peer.name}: {figure.rate:,.0f} records/s, {figure.cpu:.2f} CPU s per "
                    f"million, {figure.peak_mib:,.0f} MiB; {left / 60:.1f} min left",
                    flush=True,
                )
        return figures

    def measure(self, peer, given):
        application = self.application(peer.name)
        create_topics(self.servers, application, given.dimension, self.partitions)
        inputs = self.kafka.partitions("vector-cdc")
        ends = self.kafka.ends(inputs)
        ruler = self.kafka.partitions(f"{application}-{peer.ruler}-changelog")
        if isinstance(peer, Driftless):
            self.bench.start_milvus()
        wait_idle(self.bench.broker_pid)
        process = peer.start(self.servers, application, given)
        try:
            if isinstance(peer, Driftless):
                self.wait_serving(peer, process)
            figure = self.watch(process, ruler, given)
            self.check(peer, process, application, given, ends)
        finally:
            process.end()
        self.kafka.forget(application)
        forget_state(self.servers, application)
        return figure

    def wait_serving(self, peer, process):
        """It has asked Milvus what it wants to know; from here on, Milvus need not take anybody's time."""
        while not peer.scrape():
            process.check_alive()
            time.sleep(POLL_SECONDS)
        self.bench.kill_milvus()

    def watch(self, process, ruler, given):
        """Until all winners are in the changelog."""
        first = None
        last, moved_at = 0, time.monotonic()
        while True:
            count = self.kafka.end_sum(ruler)
            now, cpu = time.monotonic(), process.cpu_seconds()
            if count and first is None and process.is_settled():
                first = (now, count, cpu)
            if count >= given.winners:
                break
            if count != last:
                last, moved_at = count, now
            elif now - moved_at > STILL_SECONDS_MAX:
                raise TimeoutError(
                    f"{process.name} stands at {count:,} of {given.winners:,} winners for {STILL_SECONDS_MAX} s\n"
                    + process.log_tail()
                )
            process.check_alive()
            time.sleep(POLL_SECONDS)
        if count > given.winners:
            raise AssertionError(f"{process.name} wrote {count:,} winners to its changelog, and there are {given.winners:,}")
        seconds, done = now - first[0], (count - first[1]) * given.records / given.winners
        if seconds <= 2 * POLL_SECONDS:
            raise AssertionError(f"{process.name} was done before it could be measured: use more --records")
        return Figure(
            rate=done / seconds,
            cpu=1e6 * (cpu - first[2]) / done,
            whole_cpu=1e6 * cpu / given.records,
            start=first[0] - process.began,
            peak_mib=process.peak_mib(),
        )

    def check(self, peer, process, application, given, ends):
        """It read all, found the same winners as everybody, wrote both changelogs, and committed."""
        records, winners = self.told(peer, process, given)
        if (records, winners) != (given.records, given.winners):
            raise AssertionError(
                f"{peer.name} found {winners:,} winners in {records:,} records; there are {given.winners:,} in {given.records:,}"
            )
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        # An entry follows its change.
        entries = self.kafka.partitions(f"{application}-versions-changelog")
        while (versions := self.kafka.end_sum(entries)) < given.winners:
            if time.monotonic() > deadline:
                raise AssertionError(f"{peer.name} wrote {versions:,} entries for {given.winners:,} winners")
            time.sleep(0.1)
        partitions = self.kafka.partitions("vector-cdc")
        while any(self.kafka.committed(application, partitions)[place] < end for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{peer.name} has not committed all of it after {SETTLE_SECONDS_MAX} s")
            time.sleep(0.1)

    def told(self, peer, process, given):
        """Records and winners, by its own account. Ours has no end: until it has judged as many."""
        if not isinstance(peer, Driftless):
            line = process.wait_told("winners", SETTLE_SECONDS_MAX)
            return line["records"], line["winners"]
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            verdicts = [(labels["verdict"], value) for labels, value in series(peer.scrape(), "driftless_verdicts_total")]
            records = sum(count for verdict, count in verdicts if verdict not in ("heartbeat", "ignored"))
            if records >= given.records or time.monotonic() > deadline:
                return int(records), int(sum(count for verdict, count in verdicts if verdict == "winner"))
            time.sleep(0.1)


def section(given, figures):
    head = [
        "peer", "1 000 records/s, min / med / max", "CPU s per million, min / med / max", "whole process, med", "start s, med",
        "peak RSS MiB, max", "CPU s, times ours",
    ]  # fmt: skip
    median = lambda name, field: sorted(getattr(figure, field) for figure in figures[name])[len(figures[name]) // 2]  # noqa: E731
    rows = []
    for name, measured in figures.items():
        ours = name.startswith("driftless")
        own = next((each for each in ("driftless-1", "driftless-2") if figures.get(each)), None)
        ratio = "" if ours or own is None else f"{median(name, 'cpu') / median(own, 'cpu'):.2f}"
        rows.append([
            name,
            spread([figure.rate / 1000 for figure in measured]),
            spread([figure.cpu for figure in measured], 2),
            f"{median(name, 'whole_cpu'):.2f}",
            f"{median(name, 'start'):.1f}",
            f"{max(figure.peak_mib for figure in measured):,.0f}",
            ratio,
        ])
    rounds = max(map(len, figures.values()))
    title = f"### {given.dimension} dimensions, {given.bytes / given.records:,.0f} bytes a change, {rounds} rounds"
    return f"{title}\n\n{table(head, rows)}"

"""NAME start: from exec to the first change applied.

Asked every POLL_SECONDS from outside: the worker's own count of rows that Milvus has acknowledged, and the end of the
changelog that has a record for each winner, which follows the acknowledgement. The stages between are the worker's log's.
"""

import re
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace

import changes
from lib import verifier
from lib.cluster import series
from peers import Driftless, Input, create_topics, forget_state
from process import wait_idle
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 10, "records": 2_000, "dims": [128]}
POLL_SECONDS = 0.005
START_SECONDS_MAX = 60
MORE = 200  # changes that a second start finds
TARGET_SECONDS = 1.0
STAGES = {"prepared": "worker started", "assigned": "assigned partitions", "restored": "restored task"}

ABOUT = """\
Seconds from exec of `driftless worker` (1 thread, 4 partitions, store in memory) to each stage, {rounds} rounds in turns;
a topic with {records:,} changes of {dims} dimensions, Kafka, registry and Milvus warm. *fresh*: a new application id with
empty changelogs and a group that nobody knows. *again*: the same application id, stopped by SIGTERM, with {more} changes
that came meanwhile. *new collection*: as *fresh*, and Milvus has no such collection yet; the worker makes it. *prepared*:
topics, registry and collections are as they should be; *restored*: the first of its tasks. *row*: Milvus has
acknowledged the first; *winner*: it is in the changelog, which is what the target speaks of.
"""


@dataclass(frozen=True)
class Start:
    """Seconds since exec."""

    stages: dict
    row: float
    winner: float


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.kafka = bench.kafka
        self.servers = bench.servers
        self.peer = Driftless(1, sink=None)
        self.figures = {"fresh": [], "again": [], "new collection": []}

    def run(self):
        verifier.connect("us", self.servers.milvus)
        self.schema_id = self.bench.register_schema()
        for dimension in self.bench.options.dims:
            self.dimension = dimension
            self.fill()
            for number in range(self.bench.options.rounds):
                self.round(number)
            self.kafka.delete(["vector-cdc"])
        return self.section()

    def fill(self):
        """The topic, and the collection: one start that does not count."""
        self.kafka.delete(["vector-cdc"])
        create_topics(self.servers, "start-fill", self.dimension)
        self.append(self.bench.options.records, seed=0)
        self.start("start-fill")
        self.forget("start-fill")

    def append(self, records, seed):
        changes.fill(self.servers.kafka, changes.Changes(self.dimension, self.schema_id, records, seed=seed))

    def round(self, number):
        application = f"start-{number}-{int(time.time())}"
        self.note("fresh", application, number)
        self.append(MORE, seed=number + 1)
        self.note("again", application, number)
        self.forget(application)
        self.drop_collection()
        self.note("new collection", f"{application}-new", number)
        self.forget(f"{application}-new")

    def note(self, kind, application, number):
        create_topics(self.servers, application, self.dimension)
        wait_idle(self.bench.broker_pid)
        figure = self.start(application)
        self.figures[kind].append(figure)
        print(f"  round {number + 1} of {self.bench.options.rounds}, {kind}: {figure.winner:.2f} s", flush=True)

    def drop_collection(self):
        name = changes.collection_of(self.dimension)
        verifier.drop_collections("us", [SimpleNamespace(name=name)])

    def start(self, application):
        """A worker until it has written its first winner; then it is stopped."""
        ruler = self.kafka.partitions(f"{application}-vectors-changelog")
        before = self.kafka.end_sum(ruler)
        execed_at = time.time()
        process = self.peer.start(self.servers, application, Input(self.dimension, 0, 0, self.schema_id, 0))
        try:
            row, winner = self.watch(process, ruler, before)
            process.stop()
        finally:
            process.end()
        return Start(stages(process.log, execed_at), row, winner)

    def watch(self, process, ruler, before):
        row = None
        while True:
            process.check_alive()
            if row is None and self.rows():
                row = time.monotonic() - process.began
            if self.kafka.end_sum(ruler) > before:
                winner = time.monotonic() - process.began
                # Both may have come between two looks.
                return row or winner, winner
            if time.monotonic() - process.began > START_SECONDS_MAX:
                raise TimeoutError(f"nothing applied after {START_SECONDS_MAX} s\n{process.log_tail()}")
            time.sleep(POLL_SECONDS)

    def rows(self):
        return sum(value for _, value in series(self.peer.scrape(), "driftless_sink_rows_total"))

    def forget(self, application):
        self.kafka.forget(application)
        forget_state(self.servers, application)

    def section(self):
        head = ["s to …, min / med / max", *STAGES, "row", "winner", f"of {TARGET_SECONDS:.0f} s, med"]
        rows = []
        for kind, starts in self.figures.items():
            winners = [start.winner for start in starts]
            rows.append([
                kind,
                *(spread([start.stages[stage] for start in starts], 2) for stage in STAGES),
                spread([start.row for start in starts], 2),
                spread(winners, 2),
                f"{statistics.median(winners) / TARGET_SECONDS:.2f}",
            ])
        options = self.bench.options
        dims = " and ".join(map(str, options.dims))
        about = ABOUT.format(rounds=options.rounds, records=options.records, dims=dims, more=MORE)
        return f"{about.strip()}\n\n{table(head, rows)}"


def stages(log, since):
    """Seconds from `since` to the first line of each stage."""
    found = {}
    for line in log.read_text(errors="replace").splitlines():
        at = re.match(r"(\S+Z) ", line)
        for stage, words in STAGES.items():
            if at and f": {words}" in line:
                found.setdefault(stage, datetime.fromisoformat(at[1]).timestamp() - since)
    return found

"""The lag of a region as it is, by rows that a test writes and finds itself, beside the lag that its workers report.

Owns: what is known of a written row (`Row`), what a worker says at one moment (`Look`), and what a reported lag may be,
given the rows (`allowed`, `waiting`). All times are seconds of the wall clock.
"""

import statistics
import threading
import time
import urllib.error
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import fastavro
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer

from . import wire
from .cluster import series
from .rawlog import CDC_TOPIC

ACCURACY_SECONDS = 0.010  # beside the time between two questions
# What a worker shows is as of its threads' last word, which they have each 0.2 s.
STALE_SECONDS = 0.3
# The lag takes in what has passed in the present second and the one before.
RECENT_SECONDS = (1, 2)
# A question is answered as of Milvus' next tick: of rows too that are younger than the question, if it takes long.
TICK_SECONDS = 0.020
PROMPT_SECONDS = 0.080
FOUND_SECONDS_MAX = 120


class Writer:
    """Writes rows that were never there before into one region; notes when its broker appended each, by its clock."""

    def __init__(self, cluster, spec, source, first):
        self.spec, self.source, self.first, self.next = spec, source, first, first
        self.schema = fastavro.parse_schema(wire.current_schema())
        self.schema_id = cluster.schema_ids[source]["current"]
        self.appended = {}
        self.errors = []
        self.stopping = threading.Event()
        self.producer = Producer({
            "bootstrap.servers": cluster.regions[source].kafka,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 1,
        })  # fmt: skip

    def start(self, rate):
        self.thread = threading.Thread(target=self._run, args=(rate,), daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        if self.producer.flush(60):
            self.errors.append(f"not acknowledged by {self.source} within 60 s")
        if self.errors:
            raise RuntimeError(f"{len(self.errors)} rows not written, first: {self.errors[0]}")

    def _run(self, rate):
        began = time.monotonic()
        while not self.stopping.is_set():
            early = began + (self.next - self.first) / rate - time.monotonic()
            if early > 0:
                self.producer.poll(min(early, 0.01))
                continue
            value, key = self._value(self.next), str(self.next)
            self.producer.produce(CDC_TOPIC, value, key, on_delivery=self._noting(self.next))
            self.next += 1
            self.producer.poll(0)

    def _value(self, number):
        change = {
            "op": "UPSERT",
            "timestamp": wire.hlc(int(time.time() * 1000)),
            "origin": self.source,
            "sequence": number,
            "collection": self.spec.name,
            "vector_id": str(number),
            "vector": [number % 997 / 997] * self.spec.dimension,
            "metadata": {},
        }
        return wire.frame(self.schema_id, wire.avro_body(self.schema, change))

    def _noting(self, number):
        def delivered(error, message):
            kind, at_ms = message.timestamp()
            if error or kind != TIMESTAMP_LOG_APPEND_TIME:
                self.errors.append(str(error or "the broker does not say when it appended a row"))
            self.appended[number] = at_ms / 1000

        return delivered


@dataclass(frozen=True)
class Row:
    appended: float  # by a right clock
    absent: float  # when the last question was asked that did not find it
    asked: float  # when the first was asked that did
    seen: float  # when the first answer was there that had it


def rows_of(writer, probe, clock_off=0):
    """What is known of each row that was written; none may be missing."""
    missing = [each for each in writer.appended if each not in probe.asked]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(writer.appended)} rows of {writer.source} were never found")
    return [row_of(probe, each, appended - clock_off) for each, appended in writer.appended.items()]


def row_of(probe, number, appended):
    before = bisect_left(probe.questions, probe.asked[number]) - 1
    absent = probe.questions[before] if before >= 0 else appended
    return Row(appended, absent, probe.asked[number], probe.seen[number])


def wait_found(cluster, writers, probes):
    """Until each probe has found every row that was written."""
    deadline = time.monotonic() + FOUND_SECONDS_MAX
    written = {number for writer in writers for number in writer.appended}
    while left := [name for name, probe in probes.items() if not written <= probe.asked.keys()]:
        cluster.check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"rows are not found in {left} within {FOUND_SECONDS_MAX} s")
        time.sleep(0.5)


@dataclass
class Look:
    """What a worker reported between two moments."""

    began: float
    ended: float
    lags: dict  # {(source, stage): seconds}; what is not known is left out
    ahead: dict = field(default_factory=dict)  # {origin: {"least": seconds, "most": seconds}}


def look(worker):
    """None if it does not answer."""
    began = time.time()
    try:
        told = worker.scrape()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    seen = Look(began, time.time(), {})
    for labels, value in series(told, "driftless_apply_lag_seconds"):
        if value == value:  # not NaN
            seen.lags[labels["source"], labels["stage"]] = value
    for labels, value in series(told, "driftless_clock_ahead_seconds"):
        seen.ahead.setdefault(labels["origin"], {})[labels["bound"]] = value
    return seen


class Looking:
    """Looks at workers from its making until it is stopped."""

    def __init__(self, workers, every=0.2):
        self.workers, self.every = workers, every
        self.looks = {worker.name: [] for worker in workers}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(self.every):
            for worker in self.workers:
                if seen := look(worker):
                    self.looks[worker.name].append(seen)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.looks


def reported(looks, source, stage="acknowledged"):
    """[(began, ended, lag)] of the looks that know of the source."""
    lag = source, stage
    return [(each.began, each.ended, each.lags[lag]) for each in looks if lag in each.lags]


def waiting(rows, earlier, later):
    """For how long something waits, at least, at any moment between the two."""
    return max((earlier - row.appended for row in rows if row.appended <= earlier and row.absent > later), default=0)


def waiting_at_most(rows, earlier, later):
    """And at most."""
    return max((later - row.appended for row in rows if row.appended <= later and row.seen > earlier), default=0)


COMPARED = [
    "rows",
    "till a question asked then finds it: p50 / p99 / max, ms",
    "till it is seen",
    "greatest lately, by questions answered promptly: median, ms",
    "reported then: median, ms",
    "any report's farthest from the truth, ms",
    "looks with prompt answers",
    "between questions",
]


def compared(rows, shown, questions, slack=0):
    """A line of the table, and what is wrong.

    Of each row it is certain that it was acknowledged after the last question that did not find it and before the first
    answer that had it: no report may lie outside of what this allows by more than its accuracy and the time between two
    questions just then. Where answers came promptly, the first question that found it was asked at about that time, give
    or take a tick: there the reports' median is held against that.
    """
    first, last = min(row.appended for row in rows), max(row.seen for row in rows)
    judged = [
        (lag, allowed(rows, began, ended), longest_gap(questions, began - STALE_SECONDS - max(RECENT_SECONDS), ended))
        for began, ended, lag in shown
        if first + max(RECENT_SECONDS) < began < last
    ]
    if not judged:
        return ["-"] * len(COMPARED), ["nothing was reported meanwhile"]
    wrong = [
        f"{ms(lag)} ms, and the truth is {ms(truth.least)} to {ms(truth.most)}, with {ms(gap)} between questions"
        for lag, truth, gap in judged
        if outside(lag, truth.least, truth.most) > ACCURACY_SECONDS + gap + slack
    ]
    gaps = [later - earlier for earlier, later in zip(questions, questions[1:])]
    prompt = [(lag, truth) for lag, truth, _ in judged if truth.asked is not None]
    told = truly = "-"
    if prompt:
        told, truly = (statistics.median(each) for each in zip(*((lag, truth.asked) for lag, truth in prompt)))
        if abs(told - truly) > ACCURACY_SECONDS + statistics.median(gaps) + TICK_SECONDS + slack:
            wrong.append(f"{ms(told)} ms at the median, and the truth is {ms(truly)}")
        told, truly = ms(told), ms(truly)
    found, seen = spread([row.asked - row.appended for row in rows]), spread([row.seen - row.appended for row in rows])
    farthest = ms(max(outside(lag, truth.least, truth.most) for lag, truth, _ in judged))
    return [len(rows), found, seen, truly, told, farthest, f"{len(prompt)} of {len(judged)}", spread(gaps)], wrong


def outside(lag, least, most):
    return max(least - lag, lag - most, 0)


class Truth(NamedTuple):
    """What the lag may be at one look: for certain, and by the questions, if all were answered promptly."""

    least: float
    most: float
    asked: float | None


def allowed(rows, began, ended):
    """The greatest delay of what has passed in the last second for certain, and of what has in the last two perhaps or
    waits."""
    lately, long_ago = RECENT_SECONDS
    surely = [row for row in rows if row.seen <= began - STALE_SECONDS and row.absent > ended - lately]
    perhaps = [row for row in rows if row.appended <= ended and row.seen > began - STALE_SECONDS - long_ago]
    prompt = perhaps and max(row.seen - row.asked for row in perhaps) <= PROMPT_SECONDS
    return Truth(
        max((row.absent - row.appended for row in surely), default=0),
        max((row.seen - row.appended for row in perhaps), default=0),
        max(row.asked - row.appended for row in perhaps) if prompt else None,
    )


def longest_gap(questions, since, until):
    around = questions[max(bisect_left(questions, since) - 1, 0) : bisect_right(questions, until) + 1]
    return max((later - earlier for earlier, later in zip(around, around[1:])), default=0)


def ms(seconds):
    return f"{seconds * 1000:.0f}"


def spread(seconds):
    ordered = sorted(seconds)
    return f"{ms(statistics.median(ordered))} / {ms(ordered[int(len(ordered) * 0.99)])} / {ms(ordered[-1])}"

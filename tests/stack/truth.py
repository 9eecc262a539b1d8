#!/usr/bin/env python3
"""The lag that workers report against the truth: rows written by a producer of the test's own, each of which is looked
for in each region's Milvus by a reader of the test's own (lib/probe.py), while nothing happens, under load, and while
a link, a worker, a Milvus or a clock is out of order. The lag is `driftless_apply_lag_seconds`, stage `acknowledged`;
stage `visible` is held against a reader who waits for nothing.

Faults: f33 (MirrorMaker down), f41 (a region's clock is wrong), f69 (a link that is down, a region that is silent).

usage: truth.py [--idle SECONDS] [--backlog SECONDS] [PHASE…]
phases: rates visible idle mirror backlog milvus clock     default: all of them, about 10 minutes"""

import argparse
import time
from dataclasses import replace

from confluent_kafka import Consumer, TopicPartition

from lib import scenario
from lib.lag import (
    ACCURACY_SECONDS,
    COMPARED,
    STALE_SECONDS,
    Looking,
    Writer,
    compared,
    look,
    ms,
    reported,
    rows_of,
    wait_found,
    waiting,
    waiting_at_most,
)
from lib.probe import Probe
from lib.rawlog import mirror_of
from lib.wire import CollectionSpec

SPEC = CollectionSpec("truth_rows", "int64", 8, "l2")
SOURCES = ("us", "eu")
# Of each source's rows: a range of ids of its own.
BANDS = {"us": (1_000_000_000, 2_000_000_000), "eu": (2_000_000_000, 3_000_000_000)}
# Milvus shows rows by ticks, of 20 ms in the stack: who asks more often learns no more.
POLL_MS = 20
SLOW_POLL_MS = 100
RATES = (10, 2_000)
RATE_SECONDS = 15
# Of one canary row each 2 s: how long Milvus takes to show a row depends on where in its tick it came.
VISIBLE_SLACK_SECONDS = 0.050
HEARTBEAT_SECONDS = 1
CALM_SECONDS_MAX = 90
CALM_LOOKS = 15
MIRROR_SECONDS = 25
BACKLOG_RATE = 100
PAUSE_SECONDS = 9
PAUSE_RATE = 20
CLOCK_OFF_SECONDS = 5
CLOCK_IDLE_SECONDS = 20
# What heartbeats tell of a clock is right within their way there and back, over a link of 30 ms.
CLOCK_BOUNDS_SECONDS_MAX = 1
PHASES = ("rates", "visible", "idle", "mirror", "backlog", "milvus", "clock")


class Truth:
    def __init__(self, tap, cluster, options):
        self.tap, self.cluster, self.options = tap, cluster, options
        self.next_ids = {source: first for source, (first, _) in BANDS.items()}

    def check(self, name, wrong):
        self.tap.check(name, wrong)

    def write(self, rates):
        """Starts a writer in each of the sources: {source: changes per second}."""
        writers = [Writer(self.cluster, SPEC, source, self.next_ids[source]) for source in rates]
        for writer in writers:
            writer.start(rates[writer.source])
        return writers

    def written(self, writers):
        for writer in writers:
            writer.stop()
            self.next_ids[writer.source] = writer.next

    def probe(self, region, every_ms, consistency="Strong"):
        """Of rows that are not written yet."""
        bands = [(self.next_ids[source], end) for source, (_, end) in BANDS.items()]
        return Probe(self.cluster.regions[region].milvus, SPEC.name, every_ms, bands, consistency)

    # --- rates ---

    def rates(self):
        lines = []
        for source in SOURCES:
            for rate in RATES:
                calm(self.cluster)
                self.tap.note(f"{rate} changes/s in {source} for {RATE_SECONDS} s")
                for region, (rows, looks, questions) in self.measured(source, rate).items():
                    line, wrong = compared(rows, reported(looks, source), questions)
                    lines.append([f"{source} → {region}", rate, *line])
                    self.check(f"the lag of {source} in {region} is right at {rate} changes/s", wrong)
        self.table(["source → region", "changes/s", *COMPARED], lines)

    def visible(self):
        lines = []
        for source in SOURCES:
            calm(self.cluster)
            for region, (rows, looks, questions) in self.measured(source, RATES[0], consistency="Eventually").items():
                shown = reported(looks, source, "visible")
                line, wrong = compared(rows, shown, questions, VISIBLE_SLACK_SECONDS)
                lines.append([f"{source} → {region}", RATES[0], *line])
                self.check(f"the lag of {source} in {region} until a row is visible is right, but for a tick or two", wrong)
        self.table(["source → region", "changes/s", *COMPARED], lines)

    def measured(self, source, rate, clock_off=0, consistency="Strong"):
        """Writes for a while; {region: (rows, what its worker reported, when its Milvus was asked)}."""
        probes = {region: self.probe(region, POLL_MS, consistency) for region in self.cluster.regions}
        looking = Looking(self.cluster.workers.values())
        try:
            for probe in probes.values():
                probe.wait_begun()
            writers = self.write({source: rate})
            time.sleep(RATE_SECONDS)
            self.written(writers)
            wait_found(self.cluster, writers, probes)
        finally:
            looks = looking.stop()
            for probe in probes.values():
                probe.stop()
        return {
            region: (rows_of(writers[0], probe, clock_off), looks[f"{region}-1"], probe.questions)
            for region, probe in probes.items()
        }

    # --- idle ---

    def idle(self):
        self.quiet("idle", self.options.idle)

    def quiet(self, when, seconds):
        calm(self.cluster)
        self.tap.note(f"{when}: looking for {seconds} s")
        looking = Looking(self.cluster.workers.values())
        time.sleep(seconds)
        for name, looks in looking.stop().items():
            wrong = [f"{each.began:.1f}: {each.lags}" for each in looks if not tells_zero(each)]
            few = [] if len(looks) > seconds else [f"only {len(looks)} looks in {seconds} s"]
            self.check(f"{when}: {name} reports 0 at every stage, without a flicker ({len(looks)} looks)", few + wrong)

    # --- MirrorMaker stopped ---

    def mirror(self):
        calm(self.cluster)
        self.cluster.stack("stop", "mm2")
        try:
            heard = {region: newest_heard(self.cluster.regions[region], peer) for region, peer in links()}
            looking = Looking(self.cluster.workers.values())
            time.sleep(MIRROR_SECONDS)
            looks = looking.stop()
        finally:
            self.cluster.stack("start", "mm2")
        lines = []
        for region, peer in links():
            shown = reported(looks[f"{region}-1"], peer)
            grown = [(at - heard[region], lag) for at, _, lag in shown if at - heard[region] > 3 * HEARTBEAT_SECONDS]
            lines.append([f"{peer} → {region}", *self.judge_silence(region, peer, grown)])
            own = [f"{ms(lag)} ms" for _, _, lag in reported(looks[f"{region}-1"], region) if lag]
            self.check(f"meanwhile the lag of {region} itself in {region} stays 0", own)
        head = ["looks", "nothing came for, ms", "reported then, ms", "report − truth, ms", "s each s"]
        self.table(["source → region", *head], lines)
        calm(self.cluster)
        self.check("with MirrorMaker back the lag is 0 again", [])

    def judge_silence(self, region, peer, grown):
        """`grown`: how long nothing had come, and the lag that was reported then."""
        off = [lag - truth for truth, lag in grown]
        wrong = [
            f"{ms(lag)} ms, and nothing had come for {ms(truth)} ms"
            for truth, lag in grown
            if abs(lag - truth) > HEARTBEAT_SECONDS
        ]
        self.check(f"without MirrorMaker the lag of {peer} in {region} is the age of what came last (f33 f69)", wrong)
        (first, at_first), (last, at_last) = grown[0], grown[-1]
        slope = (at_last - at_first) / (last - first)
        self.check(f"it grows by a second each second in {region}", [] if abs(slope - 1) < 0.05 else [f"by {slope:.3f}"])
        return len(grown), ms(last), ms(at_last), f"{ms(min(off))} to {ms(max(off))}", f"{slope:.3f}"

    # --- a worker that comes back to a backlog ---

    def backlog(self):
        calm(self.cluster)
        worker, seconds = self.cluster.workers["eu-1"], self.options.backlog
        worker.ask_to_stop()
        self.check("the worker of eu stops cleanly", [] if worker.wait_stopped() == 0 else ["it did not"])
        worker.process = None
        # Before there are rows: it asks for those that are not written yet.
        probe = self.probe("eu", SLOW_POLL_MS)
        try:
            probe.wait_begun()
            self.tap.note(f"{BACKLOG_RATE} changes/s in each region for {seconds} s, without a worker in eu")
            writers = self.write(dict.fromkeys(SOURCES, BACKLOG_RATE))
            time.sleep(seconds)
            looking, began = Looking([worker], every=0.1), time.time()
            worker.start()
            worker.wait_ready()
            time.sleep(5)
            self.written(writers)
            wait_found(self.cluster, writers, {"eu": probe})
            calm(self.cluster)
            looks = looking.stop()["eu-1"]
        finally:
            probe.stop()
        lines = [
            [f"{writer.source} → eu", *self.judge_backlog(writer.source, rows_of(writer, probe), looks, began)]
            for writer in writers
        ]
        head = ["first shown after, s", "reported then, ms", "truth then, ms", "below 1 s after, s"]
        self.table(["source → region", *head, "most that was left out, ms"], lines)

    def judge_backlog(self, source, rows, looks, began):
        seconds = self.options.backlog
        shown = [(at, lag, waiting(rows, at - STALE_SECONDS, ended)) for at, ended, lag in reported(looks, source)]
        wrong = [
            f"{at - began:.1f} s after the start: {ms(lag)} ms, and something had waited for {ms(truth)} ms"
            for at, lag, truth in shown
            if lag < truth - ACCURACY_SECONDS
        ]
        self.check(f"after {seconds} s without a worker never less is reported than what waits of {source}", wrong)
        at, lag, truth = shown[0] if shown else (began, 0, 0)
        below = next((at - began for at, lag, _ in shown if lag < 1), None)
        self.check(f"the backlog of {source} is worked off", [] if below else ["the lag never went below a second"])
        short = max((truth - lag for _, lag, truth in shown), default=0)
        return f"{at - began:.1f}", ms(lag), ms(truth), f"{below or 0:.1f}", ms(max(short, 0))

    # --- Milvus paused ---

    def milvus(self):
        calm(self.cluster)
        probe, looking = self.probe("eu", SLOW_POLL_MS), Looking(self.cluster.workers.values())
        try:
            probe.wait_begun()
            writers = self.write(dict.fromkeys(SOURCES, PAUSE_RATE))
            time.sleep(3)
            self.tap.note(f"milvus-eu paused for {PAUSE_SECONDS} s, {PAUSE_RATE} changes/s in each region")
            self.cluster.stack("pause", "milvus-eu")
            paused = time.time()
            time.sleep(PAUSE_SECONDS)
            resumed = time.time()
            self.cluster.stack("resume", "milvus-eu")
            self.written(writers)
            # It may end itself after that: its sessions are lost. Then somebody must start it.
            for _ in range(5):
                time.sleep(2)
                self.cluster.stack("start", "milvus-eu")
            wait_found(self.cluster, writers, {"eu": probe})
        finally:
            looks = looking.stop()
            probe.stop()
        lines = []
        for writer in writers:
            # What was written meanwhile was not taken, though nobody could be asked.
            source = writer.source
            rows = [
                replace(row, absent=max(row.absent, resumed)) if paused < row.appended < resumed else row
                for row in rows_of(writer, probe)
            ]
            shown = [each for each in reported(looks["eu-1"], source) if paused + 1 < each[0] and each[1] < resumed]
            lines.append([f"{source} → eu", *self.judge_hanging(source, rows, shown, paused)])
            spared = [lag for at, _, lag in reported(looks["us-1"], source) if paused < at < resumed and lag > 1]
            self.check(f"the lag of {source} in us is not touched by it", [f"{ms(lag)} ms" for lag in spared])
        self.table(["source → region", "looks", "truth at the end, ms", "reported, ms", "farthest outside, ms"], lines)
        calm(self.cluster)
        self.check("with Milvus back the lag is 0 again", [])

    def judge_hanging(self, source, rows, shown, paused):
        judged = [
            (at - paused, lag, waiting(rows, at - STALE_SECONDS, ended), waiting_at_most(rows, at, ended))
            for at, ended, lag in shown
        ]
        wrong = [
            f"{at:.1f} s into it: {ms(lag)} ms, and the truth is {ms(least)} to {ms(most)}"
            for at, lag, least, most in judged
            if not least - HEARTBEAT_SECONDS <= lag <= most + HEARTBEAT_SECONDS
        ]
        self.check(f"while Milvus hangs the lag of {source} in eu grows as it should", wrong if judged else ["no looks"])
        far = max((max(least - lag, lag - most, 0) for _, lag, least, most in judged), default=0)
        _, lag, least, most = judged[-1] if judged else (0, 0, 0, 0)
        return len(judged), f"{ms(least)} to {ms(most)}", ms(lag), ms(far)

    # --- a region's clock is wrong ---

    def clock(self):
        calm(self.cluster)
        self.tap.note(f"the clock of us' log goes {CLOCK_OFF_SECONDS} s ahead (f41)")
        self.restart_kafka(CLOCK_OFF_SECONDS)
        try:
            calm(self.cluster)
            left_open = {region: self.judge_bounds(f"{region}-1") for region in SOURCES}
            lines = []
            for region, (rows, looks, questions) in self.measured("us", RATES[0], CLOCK_OFF_SECONDS).items():
                line, wrong = compared(rows, reported(looks, "us"), questions, left_open[region] / 2)
                lines.append([f"us → {region}", RATES[0], *line])
                but = "but for half of what its clock's bounds leave open"
                self.check(f"the lag of us in {region} is right, {but}", wrong)
            self.table(["source → region", "changes/s", *COMPARED], lines)
            self.quiet(f"idle with a clock {CLOCK_OFF_SECONDS} s ahead", CLOCK_IDLE_SECONDS)
        finally:
            self.restart_kafka(0)
        calm(self.cluster)
        self.check("with that clock right again the lag is 0", [])

    def judge_bounds(self, name):
        """What a worker says of both clocks; how much it leaves open of the wrong one, in seconds."""
        ahead = look(self.cluster.workers[name]).ahead
        self.tap.note(f"{name}: clocks ahead, in seconds: {ahead}")
        for origin, truth in (("us", CLOCK_OFF_SECONDS), ("eu", 0)):
            told = ahead.get(origin, {"least": 99, "most": -99})
            narrow = told["most"] - told["least"] <= CLOCK_BOUNDS_SECONDS_MAX
            right = narrow and told["least"] - 0.005 <= truth <= told["most"] + 0.005
            self.check(f"{name} reports that the clock of {origin} is {truth} s ahead", [] if right else [f"{told}"])
        # A partition is put right by what it has heard itself, which may be less than all of them together have.
        sources = [source for task in self.cluster.workers[name].tasks() for source in task["sources"]]
        bounds = [source["clock_ahead_ms"] for source in sources if source["region"] == "us" and source["clock_ahead_ms"]]
        return max(most - least for least, most in bounds) / 1000

    def restart_kafka(self, seconds_ahead):
        self.cluster.stack("stop", "kafka-us")
        self.cluster.stack("clock", "kafka-us", str(seconds_ahead))
        self.cluster.stack("start", "kafka-us")
        self.cluster.check_alive()

    def table(self, head, lines):
        for cells in [head, ["---"] * len(head), *lines]:
            self.tap.note("| " + " | ".join(map(str, cells)) + " |")


def tells_zero(seen):
    """Of both sources, at all four stages."""
    return len(seen.lags) == 8 and not any(seen.lags.values())


def calm(cluster):
    """Waits until every worker has reported no lag of any source for a while."""
    deadline, quiet = time.monotonic() + CALM_SECONDS_MAX, 0
    while quiet < CALM_LOOKS:
        cluster.check_alive()
        looks = [look(worker) for worker in cluster.workers.values()]
        quiet = quiet + 1 if all(each and tells_zero(each) for each in looks) else 0
        if time.monotonic() > deadline:
            raise TimeoutError(f"still a lag after {CALM_SECONDS_MAX} s: {[each and each.lags for each in looks]}")
        time.sleep(0.2)


def links():
    """(region, the peer that it hears)"""
    return [(region, peer) for region in SOURCES for peer in SOURCES if peer != region]


def newest_heard(region, peer):
    """When the last record was appended, at the peer, of that partition of its mirror whose last record is oldest."""
    group = "stack-test-truth"  # never joined
    consumer = Consumer({"bootstrap.servers": region.kafka, "group.id": group, "enable.auto.commit": False})
    topic = mirror_of(peer)
    last = {}
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        last[partition] = end - 1
    consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in last.items()])
    times = {}
    deadline = time.monotonic() + 20
    while len(times) < len(last):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the last records of {topic} are not read: only {len(times)} of {len(last)}")
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            times[message.partition()] = message.timestamp()[1] / 1000
    consumer.close()
    return min(times.values())


def main():
    parser = argparse.ArgumentParser(usage=__doc__.partition("usage: ")[2])
    parser.add_argument("--idle", type=int, default=120)
    parser.add_argument("--backlog", type=int, default=60)
    parser.add_argument("phases", nargs="*", metavar="PHASE")
    options = parser.parse_args()
    for name in options.phases:
        if name not in PHASES:
            parser.error(f"no phase {name!r}; there are {' '.join(PHASES)}")

    def truth(tap, cluster):
        cluster.start()
        tap.note("workers ready")
        phases = Truth(tap, cluster, options)
        for name in options.phases or PHASES:
            began = time.monotonic()
            getattr(phases, name)()
            tap.note(f"--- {name}: {time.monotonic() - began:.0f} s")
        tap.check("workers stop cleanly on SIGTERM", cluster.stop())

    scenario.run("truth", [SPEC], {"us": 1, "eu": 1}, truth)


if __name__ == "__main__":
    main()

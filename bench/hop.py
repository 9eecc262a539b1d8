"""What MirrorMaker's own settings make of a link: the same changes, mirrored under one setting after another."""

import fnmatch
import os
import statistics

from paced import percentile, stopwatch
from results import spread, table

WARM_SECONDS = 8
VARIABLE = "DRIFTLESS_STACK_MIRRORMAKER"
LAST = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
IDEMPOTENT = "eu.producer.enable.idempotence=true\neu.producer.max.in.flight.requests.per.connection=5"
# Beside the source instead of beside the target: it reads locally and writes over the link.
PUSH = """\
us->eu.source.consumer.bootstrap.servers=${env:DRIFTLESS_US_KAFKA}
us->eu.source.admin.bootstrap.servers=${env:DRIFTLESS_US_KAFKA}
us->eu.producer.override.bootstrap.servers=${env:DRIFTLESS_EU_KAFKA_REMOTE}
"""
SETTINGS = {
    "as it is": "",
    "tasks.max=1": "tasks.max=1",
    "tasks.max=4": "tasks.max=4",
    "tasks.max=12": "tasks.max=12",
    "fetch.max.wait.ms=500": "us.consumer.fetch.max.wait.ms=500",
    "linger.ms=0": "eu.producer.linger.ms=0",
    "idempotent, 5 in flight": IDEMPOTENT,
    "push": PUSH,
    "push, idempotent, 5 in flight": PUSH + IDEMPOTENT,
    "push, idempotent, 5 in flight, tasks.max=12": f"{PUSH}{IDEMPOTENT}\ntasks.max=12",
}

ABOUT = """\
### MirrorMaker's settings

The hop alone, without workers and Milvus, at the same rate and as above: {seconds} s under each setting, {rounds} rounds.
*As it is*: `docker/mirrormaker/mm2.properties`; each other line says what is added to it. *Beyond* is what the hop takes
beyond a bare consumer of the source's own topic, in the same seconds, and the {delay} ms one way.

What a link leaves to a reader at its far end: a consumer has one fetch outstanding at a broker, and the next leaves when the
answer is there. So a record should wait for the next fetch, {delay} ms at the mean (none to a whole round trip of
{round_trip} ms), and the answer takes {delay} ms: {round_trip} ms at the mean and {most} at most. A fetch that finds nothing
waits at the leader, and then a record takes {delay} ms; but only where a consumer has less than one record in a round trip,
so at this rate nothing can be expected of a longer wait or of more tasks. *Push* turns the flow round: it reads beside the
source and writes over the link, where several requests may be under way at once. With one in flight, as Connect's producer
has it by itself, a record waits for the answer to the one before instead; with five (an idempotent producer keeps the order)
for a fifth of that.
"""


class Hop:
    def __init__(self, bench, cluster, paced, target, mirror, delay_ms):
        self.bench, self.cluster, self.paced = bench, cluster, paced
        self.target, self.mirror, self.delay_ms = target, mirror, delay_ms
        patterns = bench.options.peers
        self.settings = [name for name in SETTINGS if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]

    def section(self):
        options = self.bench.options
        figures = {name: [] for name in self.settings}
        for number in range(options.rounds):
            turn = number % max(len(self.settings), 1)
            for name in self.settings[turn:] + self.settings[:turn]:
                hop, local = self.measure(SETTINGS[name])
                figures[name].append((hop, local))
                told = ", ".join(f"{each} {percentile(hop, part):.0f}" for each, part in LAST.items())
                print(f"  round {number + 1} of {options.rounds}, {name}: {told} ms", flush=True)
        self.restart("")
        delay = self.delay_ms
        about = ABOUT.format(
            seconds=options.seconds, rounds=options.rounds, delay=delay, round_trip=2 * delay, most=3 * delay
        )
        head = ["setting", *(f"hop {each} ms, min / med / max" for each in LAST), "beyond, mean"]
        return f"{about}\n{table(head, [self.line(name, rounds) for name, rounds in figures.items()])}"

    def line(self, name, rounds):
        beyond = [statistics.fmean(hop) - statistics.fmean(local) - self.delay_ms for hop, local in rounds]
        return [name, *(spread([percentile(hop, part) for hop, _ in rounds]) for part in LAST.values()), spread(beyond)]

    def measure(self, setting):
        """ms since the write: in the hands of a consumer of the mirror, and of one of the source's own topic."""
        self.restart(setting)
        own = self.mirror.partition(".")[2]
        there = stopwatch(self.bench, "there", "consumer", self.cluster.regions[self.target].kafka, self.mirror)
        here = stopwatch(self.bench, "here", "consumer", self.bench.servers.kafka, own)
        try:
            there.wait_first(self.mirror, self.paced)
            self.paced.write(WARM_SECONDS)
            written = self.paced.write(self.bench.options.seconds)
            passed = there.wait(self.mirror, written.keys()), here.wait(own, written.keys())
        finally:
            there.end()
            here.end()
        return [[(at - stamp) / 1000 for stamp, at in each.items()] for each in passed]

    def restart(self, setting):
        os.environ[VARIABLE] = setting
        self.cluster.stack("stop", "mm2")
        self.cluster.stack("start", "mm2")

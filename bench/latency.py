"""NAME latency: from the producer's hands to what comes behind the merge, at a rate that is no load for anybody."""

import fnmatch
import statistics
import time

from changes import collection_of
from paced import Paced, Passing, percentile, stopwatch, with_stopwatches
from peers import NULL_SINK, Driftless, Input, Streams, create_topics, forget_state
from process import wait_idle
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 5, "seconds": 15, "dims": [128]}
RATE = 1_000
WARM_SECONDS = 10
CDC_TOPIC = "vector-cdc"
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
BARE = "bare-client"

ABOUT = """\
{rate:,} changes a second, each a new row, to a topic in 4 partitions that begins empty; {seconds} s of them, after {warm} s
that do not count. Each change's stamp is the microsecond in which one producer (librdkafka, `linger.ms=0`, `acks=all`) was
given it; a peer reads the same machine's clock when the change is there, and tells stamp and time, from which all figures
are made alike. *There* is: the node behind the merge for `driftless-1` (`examples/stopwatch.rs`: the worker, its sink writes
nowhere, both changelogs) and for `streams-STORE-KEEP-DECODE-1` (`bench/streams`, as in `worker` above); out of poll, for
`{bare}` (the same example: librdkafka and nothing else). Wanted: p50 < 0.5 ms, p99 < 2 ms.
"""


class Ours(Driftless):
    place = "merged"

    def passing(self, bench, application, given):
        return stopwatch(bench, application, "worker", self.configure(bench.servers, application, given.dimension))


class Bare:
    name = BARE
    place = CDC_TOPIC

    def passing(self, bench, application, _given):
        return stopwatch(bench, application, "consumer", bench.servers.kafka, CDC_TOPIC)


class TimedStreams(Streams):
    place = "nowhere"

    def passing(self, bench, application, given):
        return Passing(self.start(bench.servers, application, given))


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.serial = 0
        topology = bench.servers.folder / "null_sink.toml"
        topology.write_text(with_stopwatches(NULL_SINK.read_text()))
        everyone = [
            Ours(1, topology),
            Bare(),
            *(TimedStreams("memory", keep, 1, "lazy", passing="true") for keep in ("split", "metadata")),
        ]
        wanted = bench.options.peers
        self.peers = [peer for peer in everyone if any(fnmatch.fnmatch(peer.name, pattern) for pattern in wanted)]
        if not self.peers:
            raise SystemExit(f"no peer of {', '.join(wanted)}; there are {', '.join(peer.name for peer in everyone)}")

    def run(self):
        self.bench.kill_milvus()
        sections = [self.section(dimension, self.rounds(dimension)) for dimension in self.bench.options.dims]
        self.bench.kafka.delete([CDC_TOPIC])
        about = ABOUT.format(rate=RATE, seconds=self.bench.options.seconds, warm=WARM_SECONDS, bare=BARE)
        return "\n\n".join([about.strip(), *sections])

    def rounds(self, dimension):
        """{peer: of each round the ages of its changes, in ms}."""
        ages = {peer.name: [] for peer in self.peers}
        for number in range(self.bench.options.rounds):
            turn = number % len(self.peers)
            for peer in self.peers[turn:] + self.peers[:turn]:
                ages[peer.name].append(self.measure(peer, dimension))
                told = ", ".join(f"{name} {percentile(ages[peer.name][-1], part):.2f}" for name, part in SHARES.items())
                print(f"  round {number + 1} of {self.bench.options.rounds}, {peer.name}: {told} ms", flush=True)
        return ages

    def measure(self, peer, dimension):
        self.serial += 1
        application = f"bench-{peer.name}-{self.serial}-{int(time.time())}"
        self.bench.kafka.delete([CDC_TOPIC])
        create_topics(self.bench.servers, application, dimension)
        schema_id = self.bench.register_schema()
        if isinstance(peer, Ours):
            self.bench.start_milvus()
        wait_idle(self.bench.broker_pid)
        paced = Paced(self.bench.servers.kafka, schema_id, "us", collection_of(dimension), dimension, RATE, uuid_of)
        passing = peer.passing(self.bench, application, Input(dimension, 0, 0, schema_id, 0))
        try:
            passing.wait_first(peer.place, paced)
            if isinstance(peer, Ours):
                # It is asked once, before a worker begins.
                self.bench.kill_milvus()
            paced.write(WARM_SECONDS)
            written = paced.write(self.bench.options.seconds)
            passed = passing.wait(peer.place, written.keys())
        finally:
            passing.end()
        self.bench.kafka.forget(application)
        forget_state(self.bench.servers, application)
        return [(at - stamp) / 1000 for stamp, at in passed.items()]

    def section(self, dimension, ages):
        head = ["peer", *(f"{each} ms, min / med / max" for each in SHARES), f"p50, times {BARE}'s"]
        bare = middle(ages[BARE]) if BARE in ages else None
        rows = [
            [name, *(spread(of_rounds(rounds, part), 2) for part in SHARES.values()), f"{middle(rounds) / bare:.1f}" if bare else ""]
            for name, rounds in ages.items()
        ]
        return f"### {dimension} dimensions, {self.bench.options.rounds} rounds\n\n{table(head, rows)}"


def of_rounds(rounds, part):
    return [percentile(ages, part) for ages in rounds]


def middle(rounds):
    return statistics.median(of_rounds(rounds, 0.5))


def uuid_of(number):
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

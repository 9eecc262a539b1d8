"""New rows at a steady rate, each stamped with the microsecond in which it was handed to the client, and when each passed
some place (examples/stopwatch.rs, bench/streams)."""

import math
import struct
import time

import numpy
from changes import UPSERT, VECTORS, text, varint
from confluent_kafka import Producer
from lib.rawlog import CDC_TOPIC
from process import Process

ACKNOWLEDGED_SECONDS_MAX = 30
PASSED_SECONDS_MAX = 60
NO_METADATA = b"\0"
STOPWATCH = """
[[processor]]
name = "{place}"
type = "stopwatch"
parents = ["{parent}"]
options = {{ place = "{place}" }}
"""


class Paced:
    def __init__(self, kafka, schema_id, origin, collection, dimension, rate, key=str):
        """`key`: the id of the row of a number; numbers are given but once."""
        vectors = numpy.random.default_rng(7).standard_normal((VECTORS, dimension), dtype=numpy.float32)
        self.vectors = [varint(dimension) + vector.tobytes() + b"\0" for vector in vectors]
        self.begin = b"\0" + struct.pack(">I", schema_id) + UPSERT
        self.origin, self.collection = text(origin), text(collection)
        self.rate, self.key = rate, key
        self.number, self.stamp = 0, 0
        self.appended = {}
        self.producer = Producer({
            "bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random",
            "linger.ms": 0,
        })

    def write(self, seconds):
        """Returns when all is acknowledged: {stamp: key}, in Unix microseconds."""
        written, began = {}, time.monotonic()
        for step in range(int(seconds * self.rate)):
            if (early := began + step / self.rate - time.monotonic()) > 0:
                time.sleep(early)
            self.number += 1
            key = self.key(self.number)
            # Two of one microsecond could not be told apart.
            self.stamp = max(self.stamp + 1, time.time_ns() // 1000)
            value = self.value(self.stamp, self.number, key)
            self.producer.produce(CDC_TOPIC, value, key, on_delivery=self.noting(self.stamp))
            written[self.stamp] = key
            self.producer.poll(0)
        if self.producer.flush(ACKNOWLEDGED_SECONDS_MAX):
            raise TimeoutError(f"changes are not acknowledged within {ACKNOWLEDGED_SECONDS_MAX} s")
        return written

    def value(self, stamp, number, key):
        ms, microseconds = divmod(stamp, 1000)
        header = varint(ms << 16 | microseconds) + self.origin + varint(number) + self.collection + text(key)
        return self.begin + header + self.vectors[number % VECTORS] + NO_METADATA

    def noting(self, stamp):
        """The broker's append time, in ms: of what was written."""

        def delivered(error, message):
            if error:
                raise RuntimeError(f"a change was not taken: {error}")
            self.appended[stamp] = message.timestamp()[1]

        return delivered


class Passing:
    """A process that tells what passes its places."""

    def __init__(self, process):
        self.process = process
        self.heard = 0
        self.passed = {}

    def at(self, place):
        """{stamp: when it passed}, in Unix microseconds, of all that was told until now."""
        told = self.process.told
        while self.heard < len(told):
            line = told[self.heard]
            self.heard += 1
            if "passed" in line:
                self.passed.setdefault(line["place"], {}).update(line["passed"])
        return self.passed.get(place, {})

    def wait(self, place, wanted):
        """Until all of the stamps have passed; {stamp: when}."""
        deadline = time.monotonic() + PASSED_SECONDS_MAX
        while missing := wanted - self.at(place).keys():
            self.process.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(missing)} of {len(wanted)} changes have not passed {place} within {PASSED_SECONDS_MAX} s\n"
                    + self.process.log_tail()
                )
            time.sleep(0.05)
        passed = self.at(place)
        return {stamp: passed[stamp] for stamp in wanted}

    def wait_first(self, place, paced):
        """Writes until something has passed: it has begun to read."""
        deadline = time.monotonic() + PASSED_SECONDS_MAX
        while not self.at(place):
            self.process.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing passes {place} within {PASSED_SECONDS_MAX} s\n{self.process.log_tail()}")
            paced.write(0.5)

    def end(self):
        self.process.end()


def with_stopwatches(topology):
    """The text of a topology with `polled` behind its source and `merged` behind its merge."""
    for place, parent in (("polled", "changes"), ("merged", "lww_merge")):
        topology = topology.replace(f'parents = ["{parent}"]', f'parents = ["{place}"]')
        topology += STOPWATCH.format(place=place, parent=parent)
    return topology


def stopwatch(bench, name, *arguments):
    """A process of examples/stopwatch.rs."""
    log = bench.servers.folder / f"{name}.log"
    return Passing(Process(name, [bench.examples / "stopwatch", *map(str, arguments)], log))


def percentile(values, share):
    """The least value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]

"""The input: a change topic that is full before anybody reads it.

A function of its arguments and the time it begins at. Of each fifteen records three repeat the bytes of one of the last
RECENT, three are older than what holds their row, one deletes a row, two write a row again and six a new one; so nine
win, whoever reads.
"""

import struct
import time
from collections import deque

import numpy
from confluent_kafka import Producer
from lib import wire
from lib.rawlog import CDC_TOPIC

RECENT = 20_000
SHARES = ("duplicate",) * 3 + ("stale",) * 3 + ("delete",) + ("again",) * 2 + ("new",) * 6
VECTORS = 1_000
UPSERT, DELETE = b"\x00", b"\x02"
STAMP_STEP = 16  # room for older stamps between any two
SAID_EVERY = 100_000


def collection_of(dimension):
    return f"bench_{dimension}"


class Changes:
    def __init__(self, dimension, schema_id, records, origin="us", shares=SHARES, seed=7):
        rng = numpy.random.default_rng(seed)
        self.dimension = dimension
        self.records = records
        self.kinds = numpy.resize(numpy.array(shares), records)
        rng.shuffle(self.kinds)
        self.draws = rng.random(records)
        self.ids = rng.bytes(16 * records).hex()
        vectors = rng.standard_normal((VECTORS, dimension), dtype=numpy.float32)
        self.vectors = [varint(dimension) + vector.tobytes() + b"\0" for vector in vectors]
        self.frame = b"\0" + struct.pack(">I", schema_id)
        self.origin = text(origin)
        self.collection = text(collection_of(dimension))
        self.winners = 0

    def __iter__(self):
        """(key, value), and counts the winners."""
        base = wire.hlc(int(time.time() * 1000))
        keys, stamps, recent = [], [], deque(maxlen=RECENT)
        for number in range(self.records):
            kind, draw = self.kinds[number], self.draws[number]
            if kind == "duplicate" and recent:
                yield recent[int(draw * len(recent))]
                continue
            if kind == "new" or not keys:
                row, kind = len(keys), "new"
                keys.append(self._key(row))
                stamps.append(0)
            else:
                row = int(draw * len(keys))
            if kind == "stale":
                stamp = stamps[row] - 1 - number % (STAMP_STEP - 1)
            else:
                stamp = stamps[row] = base + STAMP_STEP * number
                self.winners += 1
            change = keys[row], self._value(kind, stamp, number, keys[row])
            recent.append(change)
            yield change

    def _key(self, row):
        return uuid_of(self.ids[32 * row : 32 * row + 32])

    def _value(self, kind, stamp, number, key):
        header = varint(stamp) + self.origin + varint(number) + self.collection + text(key)
        if kind == "delete":
            return self.frame + DELETE + header + b"\0\0"
        metadata = varint(2) + text("n") + varint(2) + varint(number) + text("lang") + varint(4) + text("en") + b"\0"
        return self.frame + UPSERT + header + self.vectors[number % VECTORS] + metadata


class HotKeys:
    """Upserts of few keys, drawn by Zipf's law; each beats all before it of its key."""

    def __init__(self, dimension, schema_id, keys, exponent, origin="us", seed=7):
        rng = numpy.random.default_rng(seed)
        digits = rng.bytes(16 * keys).hex()
        self.keys = [uuid_of(digits[32 * row : 32 * row + 32]) for row in range(keys)]
        weights = numpy.arange(1, keys + 1) ** -exponent
        self.ends = numpy.cumsum(weights / weights.sum())
        self.rng = rng
        vectors = rng.standard_normal((VECTORS, dimension), dtype=numpy.float32)
        tail = varint(1) + text("lang") + varint(4) + text("en") + b"\0"
        self.bodies = [varint(dimension) + vector.tobytes() + b"\0" + tail for vector in vectors]
        self.frame = b"\0" + struct.pack(">I", schema_id) + UPSERT
        self.origin = text(origin)
        self.rows = [text(collection_of(dimension)) + text(key) for key in self.keys]
        self.number = 0

    def draw(self, count):
        """So many (key, value), stamped now."""
        rows = numpy.minimum(numpy.searchsorted(self.ends, self.rng.random(count)), len(self.keys) - 1)
        return self._upserts(rows.tolist())

    def each(self):
        """One of each key."""
        return self._upserts(range(len(self.keys)))

    def _upserts(self, rows):
        stamp = wire.hlc(int(time.time() * 1000))
        for row in rows:
            self.number += 1
            header = varint(stamp) + self.origin + varint(self.number) + self.rows[row]
            yield self.keys[row], self.frame + header + self.bodies[self.number % VECTORS]


def uuid_of(digits):
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def producer_of(kafka, linger_ms):
    return Producer({
        "bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random",
        "linger.ms": linger_ms, "batch.size": 1 << 20, "queue.buffering.max.kbytes": 1 << 19,
    })


def fill(kafka, changes):
    """Writes all of it. Returns the bytes of the values."""
    producer = producer_of(kafka, 50)
    failed = []
    began, total = time.monotonic(), 0
    for number, (key, value) in enumerate(changes, 1):
        while True:
            try:
                producer.produce(CDC_TOPIC, value, key, on_delivery=lambda error, _: error and failed.append(error))
                break
            except BufferError:
                producer.poll(0.1)
        total += len(value)
        producer.poll(0)
        if number % SAID_EVERY == 0:
            rate = number / (time.monotonic() - began)
            left = (changes.records - number) / rate
            print(f"  filled {number:,} of {changes.records:,}, {rate:,.0f}/s, {left:.0f} s left", flush=True)
    producer.flush()
    if failed:
        raise RuntimeError(f"{len(failed)} changes were not taken: {failed[0]}")
    return total


def varint(number):
    """Avro's long."""
    rest = (number << 1) ^ (number >> 63)
    groups = bytearray()
    while rest > 0x7F:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    groups.append(rest)
    return bytes(groups)


def text(words):
    encoded = words.encode()
    return varint(len(encoded)) + encoded

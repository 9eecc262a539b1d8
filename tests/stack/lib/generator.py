"""The producer that is not Driftless code: a plan of good and bad records, and the load that writes it.

The plan is a function of its arguments alone (same seed, same bytes), apart from the base time that
all its stamps are counted from. It holds every share the issue asks for; `SHARES` says which.
"""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

import fastavro
import numpy
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from . import wire

SUBJECT = "vector-cdc-value"
UNKNOWN_SCHEMA_ID = 987_654
STAMP_SPAN_MS = 9 * 60_000  # by default all good stamps lie in the nine minutes before the load begins
STALE_BY_MS_MAX = 60_000
TWO_HOURS_MS = 2 * 3_600_000
HOT_ROWS, HOT_SHARE = 40, 0.15  # many changes of few rows: what a sink coalesces
# Not the greatest int64 itself: Milvus 2.3.5 stores and counts such a row, but no query returns it.
INT64_EDGES = ("0", str(-(1 << 63)), str((1 << 63) - 2))
# Two gateways per region. The second's sequences are negative as a long, so that only an unsigned
# comparison orders them after the first's.
WRITERS = {"us": (0x0001, 0x8001), "eu": (0x0002, 0x8002)}

# Share of all draws, by kind; the rest are fresh upserts. Some draws are two records, hence a
# little more than the 20, 20, 5 and 1 % of all records that must come out.
SHARES = {
    "duplicate": 0.21,  # bytes already sent
    "stale": 0.21,  # older than what the same origin sent before
    "delete": 0.055,
    "conflict": 0.01,  # one row, one timestamp, both regions
    "same-version": 0.003,  # one version, two contents: a producer's fault, the larger hash wins
    "same-stamp": 0.003,  # one origin and timestamp, two writers: the larger sequence wins
    "json": 0.015,  # two of three without a key
    "misdirected": 0.01,  # Avro without its key, under another key, or in another partition
    "newer-writer": 0.02,  # a field more than this release knows
}


@dataclass(frozen=True, slots=True)
class Send:
    region: str
    key: bytes | None
    value: bytes | None
    kind: str
    reason: str | None = None  # of the dead letter that must come of it
    partition: int = -1  # -1: by the partitioner


def register_schemas(registries):
    """Registers both writers' schemas; returns {region: {"current": id, "newer": id}}."""
    ids = {}
    for region, url in registries.items():
        client = SchemaRegistryClient({"url": url})
        # Shifts the ids, so that one resolved in the wrong region's registry shows.
        for number, unrelated in enumerate({"eu": ['"string"'], "ap": ['"string"', '"int"']}.get(region, [])):
            client.register_schema(f"unrelated-{number}-value", Schema(unrelated, "AVRO"))
        ids[region] = {
            name: client.register_schema(SUBJECT, Schema(json.dumps(schema), "AVRO"))
            for name, schema in (("current", wire.current_schema()), ("newer", wire.newer_schema()))
        }
    return ids


class Planner:
    def __init__(self, seed, base_ms, collections, schema_ids, partitions, rows, span_ms=STAMP_SPAN_MS):
        """Good stamps rise over the `span_ms` before `base_ms`."""
        self.span_ms = span_ms
        self.rng = random.Random(seed)
        self.vectors = numpy.random.default_rng(seed)
        self.base_ms = base_ms
        self.collections = collections
        self.schema_ids = schema_ids
        self.partitions = partitions
        self.regions = sorted(schema_ids)
        self.schemas = {
            "current": fastavro.parse_schema(wire.current_schema()),
            "newer": fastavro.parse_schema(wire.newer_schema()),
        }
        self.ids_made = 0
        self.sequences = Counter()
        self.rows = [self._new_row(self.rng.choice(collections)) for _ in range(rows)]
        self.rows += [(spec, edge) for spec in collections if spec.id_kind == "int64" for edge in INT64_EDGES]
        self.sent = {region: [] for region in self.regions}  # good records, for duplicates
        self.newest = {region: [] for region in self.regions}  # (row, hlc), for stale changes

    def plan(self, count, bad_of_each):
        """`count` good records and `bad_of_each` times every kind of bad one per region, in sending order."""
        placed = []
        kinds, weights = list(SHARES), list(SHARES.values())
        kinds.append("fresh")
        weights.append(1 - sum(weights))
        while len(placed) < count:
            kind = self.rng.choices(kinds, weights)[0]
            region = self.rng.choice(self.regions)
            hlc = self._stamp(len(placed) / count)
            for send in self._good(kind, region, hlc):
                placed.append((len(placed), send))
                self.sent[send.region].append(send)
        for region in self.regions:
            for _ in range(bad_of_each):
                placed += [(self.rng.uniform(0, count), send) for send in self._bad(region)]
        placed.sort(key=lambda entry: entry[0])
        return [send for _, send in placed]

    # --- good records ---

    def _good(self, kind, region, hlc):
        if kind == "duplicate" and self.sent[region]:
            again = self.rng.choice(self.sent[region])
            return [Send(region, again.key, again.value, kind, None, again.partition)]
        if kind == "stale" and self.newest[region]:
            row, newer_hlc = self.rng.choice(self.newest[region])
            older = newer_hlc - (self.rng.randint(1, STALE_BY_MS_MAX) << 16)
            return [self._avro(kind, self._change(region, row, older))]

        row = self._any_row()
        if kind == "conflict":
            return [self._avro(kind, self._change(each, row, hlc)) for each in self.regions]
        if kind == "same-version":
            one, other = self._change(region, row, hlc), self._change(region, row, hlc)
            other["sequence"] = one["sequence"]
            return [self._avro(kind, one), self._avro(kind, other)]
        if kind == "same-stamp":
            pair = [self._change(region, row, hlc, writer) for writer in WRITERS[region]]
            self.rng.shuffle(pair)
            return [self._avro(kind, change) for change in pair]
        if kind == "json":
            return [self._json(self._change(region, row, hlc), row[0].id_kind == "int64")]
        if kind == "misdirected":
            return [self._misdirected(self._change(region, row, hlc))]
        if kind == "newer-writer":
            return [self._avro(kind, self._change(region, row, hlc) | {"trace": "t-1"}, "newer")]

        change = self._change(region, row, hlc)
        if kind == "delete":
            change["op"] = "DELETE"
            if self.rng.random() < 0.9:  # the rest carry what a delete's reader must ignore
                change |= {"vector": [], "metadata": {}}
        self.newest[region].append((row, hlc))
        return [self._avro(kind, change)]

    def _change(self, region, row, hlc, writer=None):
        spec, vector_id = row
        writer = writer or self.rng.choice(WRITERS[region])
        self.sequences[writer] += 1
        return {
            "op": "UPSERT",
            "timestamp": hlc,
            "origin": region,
            "sequence": wire.signed(writer << 48 | self.sequences[writer]),
            "collection": spec.name,
            "vector_id": vector_id,
            "vector": self._vector(spec.dimension),
            "metadata": self._metadata(),
        }

    def _avro(self, kind, change, schema="current", reason=None):
        return Send(change["origin"], change["vector_id"].encode(), self._value(change, schema), kind, reason)

    def _value(self, change, schema="current", region=None):
        schema_id = self.schema_ids[region or change["origin"]][schema]
        return wire.frame(schema_id, wire.avro_body(self.schemas[schema], change))

    def _json(self, change, is_int64):
        hlc = change["timestamp"]
        unix_ms, logical = hlc >> 16, hlc & wire.LOGICAL_MAX
        # A TSO has 18 logical bits; those above 65 535 must be cut.
        tso = unix_ms << 18 | self.rng.choice([logical, 70_000 + logical])
        if self.rng.random() < 0.1:
            change |= {"op": "DELETE", "vector": [], "metadata": {}}
        key = change["vector_id"].encode() if self.rng.random() < 0.33 else None
        if is_int64 and self.rng.random() < 0.5:
            change["vector_id"] = int(change["vector_id"])  # JSON has numbers of its own
        value = wire.json_value(change, self.rng.choice([unix_ms, tso, hlc]))
        return Send(change["origin"], key, value, "json")

    def _misdirected(self, change):
        key = change["vector_id"].encode()
        wrong_partition = (wire.partition_of(key, self.partitions) + 1) % self.partitions
        key, partition = self.rng.choice([(None, -1), (b"another key", -1), (key, wrong_partition)])
        return Send(change["origin"], key, self._value(change), "misdirected", None, partition)

    def _stamp(self, progress):
        """Unique and rising, but not in the order of arrival across regions: each region writes at its own pace."""
        ms = self.base_ms - self.span_ms + int(progress * self.span_ms)
        return wire.hlc(ms, self.rng.getrandbits(16))

    def _any_row(self):
        if self.rng.random() < HOT_SHARE:
            return self.rows[self.rng.randrange(HOT_ROWS)]
        return self.rng.choice(self.rows)

    def _new_row(self, spec):
        self.ids_made += 1
        return spec, wire.new_id(spec, self.rng, self.ids_made)

    def _vector(self, dimension):
        vector = self.vectors.standard_normal(dimension, dtype=numpy.float32).tolist()
        if self.rng.random() < 0.01:
            vector[:2] = -0.0, 1.401298464324817e-45  # only a comparison of bits tells them from 0
        return vector

    def _metadata(self):
        choices = {
            "title": self.rng.choice(["", "Lamp", "größe 日本 😀", 'quote " and \\ slash', "line\nbreak"]),
            "price": self.rng.choice([self.rng.uniform(-1e6, 1e6), 3.0, 1e300]),
            "stock": self.rng.choice([7, -1, (1 << 53) + 1, -(1 << 63), (1 << 63) - 1]),
            "active": self.rng.random() < 0.5,
            "note": None,
            "a key.with dots": "x",
        }
        return {key: choices[key] for key in self.rng.sample(sorted(choices), self.rng.randrange(len(choices) + 1))}

    # --- bad records ---

    def _bad(self, region):
        """One of every kind, each on a row of its own.

        What is judged only for a change that would win stands above everything else on its row;
        half of those rows hold an older good change, which must stay.
        """
        for reason, send in self._refused_early(region):
            yield Send(region, send.key, send.value, "bad", reason)
        for reason, spoil in self._spoilers(region):
            row = self._new_row(self.rng.choice(self.collections))
            if self.rng.random() < 0.5:
                yield self._avro("below-bad", self._change(region, row, self._stamp(0)))
            key = row[1].encode()
            yield Send(region, key, spoil(self._change(region, row, self._stamp(1))), "bad", reason)

    def _refused_early(self, region):
        """(reason, record) of what is refused by its framing, header or stamp."""
        change, avro = self._change, self._avro

        def fresh(**fields):
            row = self._new_row(self.rng.choice(self.collections))
            return change(region, row, self._stamp(1)) | fields

        good = fresh()
        key = good["vector_id"].encode()
        value = self._value(good)
        yield "null-value", Send(region, key, None, "bad")
        yield "malformed", Send(region, key, b"", "bad")
        yield "malformed", Send(region, key, b"\1" + value[1:], "bad")
        yield "malformed", Send(region, key, value[:3], "bad")
        yield "malformed", Send(region, key, value[:12], "bad")
        yield "malformed", Send(region, key, b'{"type":"upsert","collection":', "bad")
        yield "malformed", Send(region, key, b'{"type":"upsert"}', "bad")
        yield "unknown-schema", Send(region, key, wire.frame(UNKNOWN_SCHEMA_ID, value[5:]), "bad")
        yield "unknown-collection", avro("bad", fresh(collection="nobody-configured-this"))
        peer = next(each for each in self.regions if each != region)
        for origin in (peer, "mars", "", "x" * 65):
            foreign = fresh(origin=origin)
            key = foreign["vector_id"].encode()
            yield "foreign-origin", Send(region, key, self._value(foreign, region=region), "bad")
        yield "early", avro("bad", fresh(timestamp=wire.hlc(self.base_ms + TWO_HOURS_MS + STAMP_SPAN_MS)))
        yield "late", avro("bad", fresh(timestamp=wire.hlc(self.base_ms - TWO_HOURS_MS)))
        for spec in self.collections:
            for vector_id in self._bad_ids(spec):
                yield "bad-id", avro("bad", fresh(collection=spec.name, vector_id=vector_id))

    def _bad_ids(self, spec):
        if spec.id_kind == "uuid":
            canonical = self._new_row(spec)[1]
            return ["", canonical[:-1].upper() + "F", canonical.replace("-", ""), f"{{{canonical}}}"]
        if spec.id_kind == "int64":
            return ["", "007", "+5", "-0", " 5", "5.0", str(1 << 63)]
        return ["", "é" * (spec.id_bytes_max // 2 + 1)]  # fewer letters than the limit, more bytes

    def _spoilers(self, region):
        """(reason, function from a good change to bytes) of what is refused after the header has won."""

        def with_vector(edit):
            return lambda change: self._value(change | {"vector": edit(change["vector"])})

        def with_metadata(metadata):
            return lambda change: self._value(change | {"metadata": metadata})

        yield "malformed", lambda change: self._value(change)[:-1]
        yield "malformed", lambda change: (value := self._value(change))[: len(value) // 2]
        yield "malformed", lambda change: self._value(change) + b"\0"
        yield "bad-dimension", with_vector(lambda vector: vector[:-1])
        yield "bad-dimension", with_vector(lambda vector: vector + [0.5])
        yield "bad-dimension", with_vector(lambda vector: [])
        for number in (float("nan"), float("inf"), float("-inf")):
            yield "not-finite", with_vector(lambda vector, number=number: [number] + vector[1:])
            yield "not-finite", with_metadata({"price": number})
        for name in ("", "$meta", "_hlc", "_anything", "id", "vector"):
            yield "reserved-key", with_metadata({name: 1})
        yield "metadata-too-large", with_metadata({"text": "x" * 33_000})


class Load:
    """Writes a plan into its regions, one thread each, evenly over `seconds`."""

    def __init__(self, sends, brokers, topic, seconds):
        self.seconds = seconds
        self.topic = topic
        self.refused = {}  # (region, partition, offset) -> the reason that must be given
        self.errors = []
        self.began = time.monotonic()
        self.threads = []
        for region, bootstrap in brokers.items():
            mine = [send for send in sends if send.region == region]
            self.threads.append(threading.Thread(target=self._write, args=(bootstrap, mine), daemon=True))

    def start(self):
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()

    def wait_until(self, share):
        """Sleeps until this share of the load is due."""
        time.sleep(max(0, self.began + share * self.seconds - time.monotonic()))

    def join(self):
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise RuntimeError(f"{len(self.errors)} records not produced, first: {self.errors[0]}")

    def _write(self, bootstrap, sends):
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "queue.buffering.max.messages": len(sends) + 1,
            }
        )
        for number, send in enumerate(sends):
            self.wait_until(number / len(sends))
            producer.produce(
                self.topic, send.value, send.key, send.partition, on_delivery=self._noting(send)
            )
            producer.poll(0)
        if producer.flush(60):
            self.errors.append(f"not acknowledged by {bootstrap} within 60 s")

    def _noting(self, send):
        def delivered(error, message):
            if error:
                self.errors.append(str(error))
            elif send.reason:
                self.refused[send.region, message.partition(), message.offset()] = send.reason

        return delivered

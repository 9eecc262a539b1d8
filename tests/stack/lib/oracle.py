"""What each region must hold, computed from its raw topics alone by the rules of DESIGN 4.

Per region: `rows` (the greatest good change of every row, unless it is a delete) and `dead_letters`
(source coordinate → reason). Order of arrival plays no part.
"""

import json
import math
from dataclasses import dataclass, field

import fastavro
import numpy
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from . import wire
from .rawlog import CDC_TOPIC

EARLY_MS_MAX = 60_000
LATE_MS_MAX = 3_600_000
ORIGIN_BYTES_MAX = 64
METADATA_BYTES_MAX = 32 * 1024
COLUMNS = {"id", "vector"}  # the others begin with "_" and are refused with all such names
HTTP_NOT_FOUND = 404


class Refused(Exception):
    """The reason of a dead letter."""


@dataclass(frozen=True)
class Row:
    """A row as Milvus must hold it."""

    vector: bytes  # float32, little-endian
    metadata: dict
    hlc: int
    origin: str
    seq: int


@dataclass
class Expected:
    rows: dict = field(default_factory=dict)  # collection -> {primary key: Row}
    winners: dict = field(default_factory=dict)  # (collection, vector id) -> (change, its bytes), deletes too
    dead_letters: dict = field(default_factory=dict)  # (topic, partition, offset) -> reason
    not_rekeyed: list = field(default_factory=list)  # good records without their key, never re-appended


class Schemas:
    """Writer schemas by id, asked of the origin's own registry."""

    def __init__(self, registries):
        self.clients = {region: SchemaRegistryClient({"url": url}) for region, url in registries.items()}
        self.known = {}

    def get(self, region, schema_id):
        if (region, schema_id) not in self.known:
            self.known[region, schema_id] = self._fetch(region, schema_id)
        return self.known[region, schema_id]

    def _fetch(self, region, schema_id):
        try:
            schema = self.clients[region].get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == HTTP_NOT_FOUND:
                return None
            raise
        return fastavro.parse_schema(json.loads(schema.schema_str))


class Oracle:
    def __init__(self, collections, schemas):
        self.collections = {spec.name: spec for spec in collections}
        self.schemas = schemas
        self.decoded = {}  # the same bytes come again: as duplicates, re-appended, mirrored

    def expect(self, log):
        """Judges every record of a region's own topic and of its mirrors."""
        expected = Expected(rows={name: {} for name in self.collections})
        best, bad_winners = {}, []
        own_keyed, own_keyless = set(), []
        for record in log.all_records():
            coordinate = record.topic, record.partition, record.offset
            try:
                change = self.judge_header(record, log.origin_of(record.topic))
            except (Refused, wire.Malformed) as refusal:
                expected.dead_letters[coordinate] = refusal_reason(refusal)
                continue
            if change["op"] == "HEARTBEAT":
                continue
            row_key = change["collection"], change["vector_id"]
            rank = rank_of(change, record.value)
            try:
                self.judge_content(change)
            except (Refused, wire.Malformed) as refusal:
                expected.dead_letters[coordinate] = refusal_reason(refusal)
                bad_winners.append((row_key, rank))
                continue
            if row_key not in best or rank > best[row_key][0]:
                best[row_key] = rank, change
                expected.winners[row_key] = change, record.value
            if record.topic == CDC_TOPIC:
                if has_its_key(record, change, log.partition_count):
                    own_keyed.add(record.value)
                else:
                    own_keyless.append(record)

        refuse_ambiguous(best, bad_winners)
        for (collection, vector_id), (_, change) in best.items():
            if change["op"] == "UPSERT":
                key = int(vector_id) if self.collections[collection].id_kind == "int64" else vector_id
                expected.rows[collection][key] = row_of(change)
        expected.not_rekeyed = [
            f"{log.region}: {record.topic}[{record.partition}]@{record.offset} was not re-appended under its key"
            for record in own_keyless
            if record.value not in own_keyed
        ]
        return expected

    def judge_header(self, record, region):
        """The verdicts before the merge, in DESIGN's order. Returns the change."""
        if record.value is None:
            raise Refused("null-value")
        change = self._decode(record, region)
        if change["op"] == "HEARTBEAT":
            return change
        spec = self.collections.get(change["collection"])
        if spec is None:
            raise Refused("unknown-collection")
        if not wire.is_canonical_id(spec, change["vector_id"]):
            raise Refused("bad-id")
        if change["origin"] != region or len(change["origin"].encode()) > ORIGIN_BYTES_MAX:
            raise Refused("foreign-origin")
        age_ms = record.appended_at_ms - (change["timestamp"] >> 16)
        if age_ms < -EARLY_MS_MAX:
            raise Refused("early")
        if age_ms > LATE_MS_MAX:
            raise Refused("late")
        return change

    def judge_content(self, change):
        """The verdicts on a change that would win."""
        if change["op"] == "DELETE":
            return
        if len(change["vector"]) != self.collections[change["collection"]].dimension:
            raise Refused("bad-dimension")
        numbers = [value for value in change["metadata"].values() if isinstance(value, float)]
        if not all(map(math.isfinite, change["vector"])) or not all(map(math.isfinite, numbers)):
            raise Refused("not-finite")
        for name in change["metadata"]:
            if name in COLUMNS or name in ("", "$meta") or name.startswith("_"):
                raise Refused("reserved-key")
        if len(json.dumps(change["metadata"], ensure_ascii=False).encode()) > METADATA_BYTES_MAX:
            raise Refused("metadata-too-large")

    def _decode(self, record, region):
        if record.value[:1] == b"{":
            return wire.read_json(record.value, region, record.appended_at_ms)
        if (region, record.value) not in self.decoded:
            self.decoded[region, record.value] = self._decode_avro(record.value, region)
        found = self.decoded[region, record.value]
        if isinstance(found, Exception):
            raise found
        return found

    def _decode_avro(self, value, region):
        try:
            schema = self.schemas.get(region, wire.schema_id_of(value))
            return Refused("unknown-schema") if schema is None else wire.read_avro(schema, value)
        except wire.Malformed as malformed:
            return malformed


def refusal_reason(refusal):
    return "malformed" if isinstance(refusal, wire.Malformed) else str(refusal)


def rank_of(change, value):
    """The version, and the content's hash between equal versions; sequence and hash unsigned."""
    return (
        change["timestamp"],
        change["origin"].encode(),
        wire.unsigned(change["sequence"]),
        wire.content_hash(value),
    )


def row_of(change):
    return Row(
        vector=numpy.array(change["vector"], dtype="<f4").tobytes(),
        metadata={key: value for key, value in change["metadata"].items() if value is not None},
        hlc=change["timestamp"],
        origin=change["origin"],
        seq=change["sequence"],
    )


def has_its_key(record, change, partitions):
    key = change["vector_id"].encode()
    return record.key == key and record.partition == wire.partition_of(key, partitions)


def refuse_ambiguous(best, bad_winners):
    """Whether a bad *loser* becomes a dead letter depends on the order of arrival: no input for an exact test."""
    for row_key, rank in bad_winners:
        if row_key in best and best[row_key][0] >= rank:
            raise AssertionError(f"the generator made a bad record of {row_key} that may lose")

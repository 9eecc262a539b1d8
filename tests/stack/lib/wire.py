"""A change on the wire, as an outside producer and an outside reader know it (DESIGN 3 and 4).

Owns: the framing, the Avro and JSON encodings, the partitioner, the content hash and the form of
ids. The generator writes with it, the oracle reads with it; neither shares code with the worker.
"""

import functools
import io
import json
import re
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

import fastavro
import xxhash

SCHEMA_FILE = Path(__file__).resolve().parents[3] / "schemas" / "vector_change.avsc"
HEARTBEAT_KEY_PREFIX = b"driftless/heartbeat/"
LOGICAL_MAX = 0xFFFF
UINT64 = 1 << 64


@dataclass(frozen=True)
class CollectionSpec:
    """A collection as the workers' configuration has it."""

    name: str
    id_kind: str  # "uuid", "int64" or "text"
    dimension: int
    metric: str
    id_bytes_max: int | None = None  # of text ids alone


class Malformed(Exception):
    """The bytes are no change."""


# --- versions -----------------------------------------------------------------------------------


def hlc(ms, logical=0):
    return ms << 16 | logical


def unsigned(value):
    return value % UINT64


def signed(value):
    """The INT64 that holds an unsigned 64-bit value."""
    return (value + (1 << 63)) % UINT64 - (1 << 63)


def content_hash(value):
    """Of an Avro record without its framing, whose schema id differs between registries; of a whole JSON record."""
    return xxhash.xxh3_64_intdigest(value[5:] if value[0] == 0 else value)


# --- keys ---------------------------------------------------------------------------------------


def murmur2(data):
    """Kafka's Java partitioner hash (org.apache.kafka.common.utils.Utils), as an unsigned 32-bit value."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    words = len(data) // 4
    for (k,) in struct.iter_unpack("<I", data[: words * 4]):
        k = k * multiplier & mask
        k = (k ^ k >> 24) * multiplier & mask
        h = h * multiplier & mask ^ k
    tail = data[words * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * multiplier & mask
    h = (h ^ h >> 13) * multiplier & mask
    return h ^ h >> 15


@functools.lru_cache(maxsize=200_000)
def partition_of(key, partitions):
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def is_canonical_id(spec, vector_id):
    if spec.id_kind == "uuid":
        return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", vector_id) is not None
    if spec.id_kind == "int64":
        plain = re.fullmatch(r"0|-?[1-9][0-9]{0,18}", vector_id) is not None
        return plain and -(1 << 63) <= int(vector_id) < 1 << 63
    return 0 < len(vector_id.encode()) <= spec.id_bytes_max


def new_id(spec, rng, number):
    """A canonical id that looks like what users have; `number` makes it unique."""
    if spec.id_kind == "uuid":
        return str(uuid.UUID(int=rng.getrandbits(96) << 32 | number))
    if spec.id_kind == "int64":
        return str((rng.getrandbits(31) - (1 << 30)) << 32 | number)
    # What a sink must quote in an expression, and letters of more than one byte.
    flavour = rng.choice(["sku", 'say "hi"', "back\\slash", "it's", "größe", "日本", "😀 x", "a,b]"])
    return f"{flavour}/{number}"


# --- Avro ---------------------------------------------------------------------------------------


def current_schema():
    return json.loads(SCHEMA_FILE.read_text())


def newer_schema():
    """What a producer of a later release writes: one more field, with a default."""
    schema = current_schema()
    schema["fields"].append({"name": "trace", "type": ["null", "string"], "default": None})
    return schema


def avro_body(parsed_schema, change):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed_schema, change)
    return out.getvalue()


def frame(schema_id, body):
    return b"\0" + struct.pack(">I", schema_id) + body


def schema_id_of(value):
    if len(value) < 5 or value[0] != 0:
        raise Malformed("no Confluent framing")
    return struct.unpack(">I", value[1:5])[0]


def read_avro(parsed_schema, value):
    body = io.BytesIO(value[5:])
    try:
        change = fastavro.schemaless_reader(body, parsed_schema)
    except (EOFError, IndexError, ValueError, struct.error) as error:
        raise Malformed(str(error)) from error
    if body.tell() != len(value) - 5:
        raise Malformed("bytes left over")
    return change


# --- JSON ---------------------------------------------------------------------------------------


def json_value(change, timestamp):
    """The `json` format of an upsert or delete; `timestamp` in whichever unit the producer likes."""
    fields = {
        "type": change["op"].lower(),
        "collection": change["collection"],
        "vector_id": change["vector_id"],
        "payload": change["vector"],
        "timestamp": timestamp,
        "metadata": change["metadata"],
    }
    return json.dumps(fields).encode()


def read_json(value, region, appended_at_ms):
    """A JSON record as the Avro change that it stands for."""
    try:
        fields = json.loads(value)
        return {
            "op": {"upsert": "UPSERT", "delete": "DELETE"}[fields["type"]],
            "timestamp": hlc_of_json_timestamp(fields["timestamp"], appended_at_ms),
            "origin": region,
            "sequence": signed(content_hash(value)),
            "collection": fields["collection"],
            "vector_id": str(fields["vector_id"]),
            "vector": fields["payload"],
            "metadata": fields.get("metadata", {}),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(str(error)) from error


def hlc_of_json_timestamp(timestamp, appended_at_ms):
    """Unix ms, Milvus' TSO (ms << 18) or an HLC (ms << 16): whichever names the time nearest to the append."""
    logical = min(timestamp & (1 << 18) - 1, LOGICAL_MAX)
    readings = {
        timestamp: hlc(timestamp),
        timestamp >> 18: hlc(timestamp >> 18, logical),
        timestamp >> 16: timestamp,
    }
    return readings[min(readings, key=lambda ms: abs(ms - appended_at_ms))]

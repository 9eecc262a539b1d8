"""Compares what a region holds, in Milvus and in its dead-letter topic, with what the oracle expects."""

import json

import numpy
from pymilvus import Collection, connections, utility

from .oracle import Row
from .rawlog import TopicTail

PAGE_ROWS = 4_000  # under Milvus' limit of 16 384, and a few MiB per reply
COORDINATE_HEADERS = "driftless.topic", "driftless.partition", "driftless.offset"
REASON_HEADER = "driftless.reason"
# Milvus' parser cannot read -9223372036854775808.
SMALLEST_INT64 = "-9223372036854775807 - 1"


def connect(region, uri):
    connections.connect(alias=region, uri=uri)


def drop_collections(region, collections):
    """Whatever an earlier run left under these names."""
    for spec in collections:
        for physical in utility.list_collections(using=region):
            if physical.startswith(f"{spec.name}__g"):
                for alias in utility.list_aliases(physical, using=region):
                    utility.drop_alias(alias, using=region)
                utility.drop_collection(physical, using=region)


def compare_rows(region, spec, expected):
    """Differences between a collection and its expected {primary key: Row}."""
    physical = f"{spec.name}__g1"
    if spec.name not in utility.list_aliases(physical, using=region):
        return [f"{region}: {spec.name} is no alias of {physical}"]
    collection = Collection(physical, using=region)
    actual = read_rows(collection, spec)
    differences = [f"{region}/{spec.name}: {key!r} is missing" for key in expected.keys() - actual.keys()]
    differences += [f"{region}/{spec.name}: {key!r} should not be there" for key in actual.keys() - expected.keys()]
    for key in expected.keys() & actual.keys():
        differences += [f"{region}/{spec.name}: {key!r}: {what}" for what in compare_row(expected[key], actual[key])]
    # Counted apart, so that a key stored twice shows, and a page that skipped rows.
    counted = collection.query("", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    if counted != len(expected):
        differences.append(f"{region}/{spec.name}: count(*) is {counted}, expected {len(expected)}")
    return sorted(differences)


def compare_row(expected, actual):
    differences = []
    for name in ("hlc", "origin", "seq"):
        wanted, found = getattr(expected, name), getattr(actual, name)
        if wanted != found:
            differences.append(f"_{name} is {found!r}, expected {wanted!r}")
    if expected.vector != actual.vector:
        wanted, found = (numpy.frombuffer(row.vector, "<f4")[:3] for row in (expected, actual))
        differences.append(f"vector begins {found}, expected {wanted}")
    # As text, since Python holds 3 == 3.0 == True, but a long must stay a long.
    wanted, found = (json.dumps(row.metadata, sort_keys=True) for row in (expected, actual))
    if wanted != found:
        differences.append(f"metadata is {found}, expected {wanted}")
    return differences


def read_rows(collection, spec):
    """All rows, page by page in the order of the primary key."""
    rows = {}
    after = f"id >= {SMALLEST_INT64}" if spec.id_kind == "int64" else 'id >= ""'
    while True:
        page = collection.query(
            after,
            output_fields=["*"],
            limit=PAGE_ROWS,
            consistency_level="Strong",
            # The page must be the smallest keys, not the first to be found.
            reduce_stop_for_best=True,
        )
        if not page:  # a short page does not mean the end: keys stored twice are folded after the limit
            return rows
        for fields in page:
            rows[fields.pop("id")] = Row(
                vector=numpy.array(fields.pop("vector"), dtype="<f4").tobytes(),
                hlc=fields.pop("_hlc"),
                origin=fields.pop("_origin"),
                seq=fields.pop("_seq"),
                metadata=fields,
            )
        after = f"id > {literal(max(rows, key=sort_key))}"


def sort_key(primary_key):
    """Milvus orders text by its bytes."""
    return primary_key.encode() if isinstance(primary_key, str) else primary_key


def literal(primary_key):
    """A key as Milvus' expressions write it."""
    return json.dumps(primary_key, ensure_ascii=False)


def compare_dead_letters(region, bootstrap, topic, expected):
    """Differences between a dead-letter topic and the expected {source coordinate: reason}.

    A coordinate may be there more than once: a worker that was killed refuses again.
    """
    tail = TopicTail(bootstrap, [topic])
    tail.catch_up()
    tail.close()
    actual, differences = {}, []
    for record in tail.all_records():
        source, partition, offset = (record.headers[name] for name in COORDINATE_HEADERS)
        coordinate = source, int(partition), int(offset)
        reason = record.headers[REASON_HEADER]
        if actual.setdefault(coordinate, reason) != reason:
            differences.append(f"{region}: {coordinate} is refused as {actual[coordinate]} and as {reason}")
    differences += [
        f"{region}: {each} was refused as {actual.get(each)}, expected {expected.get(each)}"
        for each in expected.keys() | actual.keys()
        if expected.get(each) != actual.get(each)
    ]
    return sorted(differences)

"""Both changelogs of a region against the oracle's winners: what a restore, and every recovery, would start from.

The last record of a row is what compaction keeps. In the vectors changelog it must be the winner's own bytes, in the
versions changelog an entry with its version. Rows that were never written are not there.
"""

import struct

from lib import wire
from lib.rawlog import TopicTail

ENTRY = struct.Struct(">BBQQQq")  # format, flags, hlc, sequence, content hash, offset in the vectors changelog
FORMAT = 1
TOMBSTONE = 1
SEPARATOR = b"\0"


def compare(cluster, region, winners):
    """Differences between the two changelogs and {(collection, vector id): (change, bytes)}."""
    application, bootstrap = cluster.application, cluster.regions[region].kafka
    vectors = last_of_each_row(bootstrap, f"{application}-vectors-changelog")
    versions = last_of_each_row(bootstrap, f"{application}-versions-changelog")
    differences = []
    for name, found in (("vectors", vectors), ("versions", versions)):
        differences += [f"{region} {name}: {row} should not be there" for row in found.keys() - winners.keys()]
    for row, (change, value) in winners.items():
        if row not in vectors or row not in versions:
            differences.append(f"{region}: {row} is missing in a changelog")
        elif vectors[row].value != value:
            differences.append(f"{region} vectors: {row} ends in another change than the winner's")
        else:
            differences += compare_entry(region, row, change, versions[row].value, vectors[row])
    return differences


def compare_entry(region, row, change, entry, vector):
    if entry is None:
        return [f"{region} versions: {row} is forgotten"]
    form, flags, hlc, sequence, _, offset = ENTRY.unpack_from(entry)
    found = form, flags & TOMBSTONE, hlc, sequence, entry[ENTRY.size :].decode(), offset
    tombstone = 1 if change["op"] == "DELETE" else 0
    wanted = FORMAT, tombstone, change["timestamp"], wire.unsigned(change["sequence"]), change["origin"]
    if found[:-1] != wanted:
        return [f"{region} versions: {row} is {found[:-1]}, expected {wanted}"]
    return [] if offset <= vector.offset else [f"{region} versions: {row} points to {offset}, behind its vector's end"]


def last_of_each_row(bootstrap, topic):
    tail = TopicTail(bootstrap, [topic])
    tail.catch_up()
    tail.close()
    last = {}
    for record in tail.all_records():
        if record.key and SEPARATOR in record.key:
            collection, vector_id = record.key.split(SEPARATOR, 1)
            last[collection.decode(), vector_id.decode()] = record
    return last

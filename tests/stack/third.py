#!/usr/bin/env python3
"""A third region joins two that have been written to for a while and are written to all along. Its mirrors hold nothing of
what came before: `driftless resync` brings that, from the changelogs of one of the others. Needs a stack with three
regions: `scripts/stack.sh up --brokers ap=1`."""

import time
import uuid

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from lib import compaction, rawlog, scenario, wire
from lib.cluster import PARTITIONS
from lib.commands import command, give_peers
from lib.wire import CollectionSpec
from lib.writer import Writer

COLLECTIONS = [CollectionSpec("third_products", "uuid", 128, "l2")]
SEED = 20_241_124
BEFORE, MEANWHILE = 20_000, 1_000
ROWS = 8_000
LOAD_SECONDS = 20
NEW, FROM = "ap", "us"
# What may cross the link beside what differs.
OVERHEAD_MAX = 0.05
SUPERSEDED_MAX = 0.02


def third(tap, cluster):
    give_peers(cluster)
    new = cluster.workers.pop(f"{NEW}-1")
    cluster.start()
    everywhere = scenario.open_logs(cluster)
    logs = {name: log for name, log in everywhere.items() if name != NEW}
    load = scenario.make_load(tap, cluster, SEED, BEFORE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.join()
    scenario.settle(tap, cluster, logs, "the first changes are in both regions")
    compact(tap, cluster)
    purge(cluster.regions[NEW], [rawlog.mirror_of(peer) for peer in logs])
    tap.note(f"{NEW} joins, with empty mirrors")
    load = scenario.make_load(tap, cluster, SEED + 1, MEANWHILE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    cluster.workers[new.name] = new
    new.start()
    new.wait_ready()
    bring(tap, cluster)
    load.join()
    scenario.settle(tap, cluster, everywhere, "everything is settled")
    scenario.verify_rows(tap, cluster, logs[FROM])
    code, after = command(cluster, NEW, "diff", "--from", FROM)
    tap.check("diff finds nothing afterwards", [] if code == 0 else [f"exit {code}: {str(after)[:600]}"])
    tap.check("workers stop cleanly", cluster.stop())


def compact(tap, cluster):
    """As a changelog is that has been written to for weeks: hardly anything in it has been written over since."""
    region, topics = cluster.regions[FROM], compaction.changelogs_of(cluster)
    writer = Writer(cluster, COLLECTIONS[0], FROM)
    # One of each partition: what is written last is what is superseded at the end.
    rows = {}
    for number in range(PARTITIONS * 20):
        row = str(uuid.UUID(int=1 << 100 | number, version=4))
        rows.setdefault((wire.murmur2(row.encode()) & 0x7FFFFFFF) % PARTITIONS, row)
    rows = list(rows.values())

    def superseded():
        keys = compaction.keys_of(region, topics[1:])
        over = len(keys) - len(set(keys))
        return [f"{over} of {len(keys)} records are superseded"] if over > SUPERSEDED_MAX * len(keys) else []

    left = compaction.compact([region], topics, lambda: writer.write("UPSERT", rows), superseded)
    tap.check(f"the changelogs of {FROM} are compacted", left)


def purge(region, topics):
    admin = AdminClient({"bootstrap.servers": region.kafka})
    known = admin.list_topics(timeout=10).topics
    ends = [TopicPartition(topic, partition, OFFSET_END) for topic in topics for partition in known[topic].partitions]
    for deletion in admin.delete_records(ends).values():
        deletion.result()


def bring(tap, cluster):
    code, planned = command(cluster, NEW, "resync", "--from", FROM, "--dry-run")
    tap.note(f"dry run: exit {code}, {planned}")
    brought, read = carried(planned)
    much = [f"{read} bytes were read for {brought} that differ"] if read > (1 + OVERHEAD_MAX) * brought else []
    tap.check(f"what crosses the link for it is what differs, and at most {OVERHEAD_MAX:.0%} more", much)
    began = time.monotonic()
    code, done = command(cluster, NEW, "resync", "--from", FROM)
    tap.note(f"resync: exit {code} after {time.monotonic() - began:.1f} s: {done}")
    tap.check("resync brings what was there before", [] if code == 0 and done.get("brought") else [f"exit {code}: {done}"])
    # More than the dry run: what has been written meanwhile is read too, and comes by the mirrors as well.
    brought, read = carried(done)
    tap.note(f"{brought} bytes of changes were brought, {read} read for it: {read / max(brought, 1):.3f} times as many")


def carried(told):
    """Bytes of the changes that are brought, and of all that is read for them but for the comparison."""
    return told.get("bytes_brought", 0), told.get("bytes_read", 0) - told.get("bytes_compared", 0)


if __name__ == "__main__":
    scenario.run("third", COLLECTIONS, {"us": 1, "eu": 1, NEW: 1}, third)

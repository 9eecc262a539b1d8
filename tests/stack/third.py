#!/usr/bin/env python3
"""A third region joins two that have been written to for a while and are written to all along. Its mirrors hold nothing of
what came before: `driftless resync` brings that, from the changelogs of one of the others. Needs a stack with three
regions: `scripts/stack.sh up --brokers ap=1`."""

import time

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from lib import rawlog, scenario, verifier
from lib.commands import command, give_peers
from lib.oracle import Oracle, Schemas
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("third_products", "uuid", 128, "l2")]
SEED = 20_241_124
BEFORE, MEANWHILE = 20_000, 6_000
ROWS = 8_000
LOAD_SECONDS = 20
NEW, FROM = "ap", "us"


def third(tap, cluster):
    give_peers(cluster)
    new = cluster.workers.pop(f"{NEW}-1")
    cluster.start()
    everywhere = scenario.open_logs(cluster)
    logs = {name: log for name, log in everywhere.items() if name != NEW}
    load = scenario.make_load(tap, cluster, SEED, BEFORE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.join()
    settle(tap, cluster, logs, "the first changes are in both regions")
    purge(cluster.regions[NEW], [rawlog.mirror_of(peer) for peer in logs])
    tap.note(f"{NEW} joins, with empty mirrors")
    load = scenario.make_load(tap, cluster, SEED + 1, MEANWHILE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    cluster.workers[new.name] = new
    new.start()
    new.wait_ready()
    bring(tap, cluster)
    load.join()
    settle(tap, cluster, everywhere, "everything is settled")
    verify(tap, cluster, logs)
    code, after = command(cluster, NEW, "diff", "--from", FROM)
    tap.check("diff finds nothing afterwards", [] if code == 0 else [f"exit {code}: {after}"])
    tap.check("workers stop cleanly", cluster.stop())


def purge(region, topics):
    admin = AdminClient({"bootstrap.servers": region.kafka})
    known = admin.list_topics(timeout=10).topics
    ends = [TopicPartition(topic, partition, OFFSET_END) for topic in topics for partition in known[topic].partitions]
    for deletion in admin.delete_records(ends).values():
        deletion.result()


def bring(tap, cluster):
    code, planned = command(cluster, NEW, "resync", "--from", FROM, "--dry-run")
    tap.note(f"dry run: exit {code}, {planned}")
    began = time.monotonic()
    code, done = command(cluster, NEW, "resync", "--from", FROM)
    tap.note(f"resync: exit {code} after {time.monotonic() - began:.1f} s: {done}")
    tap.check("resync brings what was there before", [] if code == 0 and done.get("brought") else [f"exit {code}: {done}"])
    brought, read = done.get("bytes_brought", 0), done.get("bytes_read", 0) - done.get("bytes_compared", 0)
    # What has been written over since lies between, until the changelog is compacted.
    tap.note(f"{brought} bytes of changes were brought, {read} read for it: {read / max(brought, 1):.2f} times as many")


def settle(tap, cluster, logs, name):
    tap.check(name, rawlog.wait_settled(logs, cluster.application, scenario.SETTLE_SECONDS, cluster.check_alive))


def verify(tap, cluster, logs):
    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    expected = Oracle(cluster.collections, schemas).expect(logs[FROM])
    for region in cluster.regions.values():
        for spec in cluster.collections:
            tap.check(
                f"Milvus {region.name} holds exactly the oracle's {len(expected.rows[spec.name])} rows of {spec.name}",
                verifier.compare_rows(region.name, spec, expected.rows[spec.name]),
            )


if __name__ == "__main__":
    scenario.run("third", COLLECTIONS, {"us": 1, "eu": 1, NEW: 1}, third)

#!/usr/bin/env python3
"""A gap on real servers: eu's worker is down, both regions are written to, and eu's mirror is purged past it. eu must know
that it is incomplete, `diff` must tell exactly what differs, `resync` must bring that and no more, and refuse to bring
anything *from* eu; afterwards both hold what the oracle computes from us' raw topics, which have everything.

Faults: f34 (records deleted before they were read)."""

import time

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from lib import rawlog, scenario
from lib.commands import command, give_peers
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("resync_products", "uuid", 64, "l2")]
SEED = 20_240_607
CHANGES = 12_000
ROWS = 4_000
LOAD_SECONDS = 20
INCOMPLETE_SECONDS = 90


def resync(tap, cluster):
    give_peers(cluster)
    cluster.start()
    tap.note("workers ready")
    logs = scenario.open_logs(cluster)
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.wait_until(0.4)
    tap.note("eu's worker stops; the load goes on")
    eu = cluster.workers["eu-1"]
    eu.ask_to_stop()
    tap.check("eu's worker stops cleanly", [] if eu.wait_stopped() == 0 else ["it did not"])
    load.wait_until(0.8)
    purge_mirror(cluster.regions["eu"])
    tap.note("eu's mirror of us is purged past what eu has read")
    eu.start()
    eu.wait_ready()
    load.join()
    lost = wait_incomplete(eu)
    tap.check("eu says that it is incomplete", [] if lost else ["driftless_incomplete_partitions stayed 0"])
    tap.note(f"{lost:.0f} partitions are incomplete")
    unsettled = rawlog.wait_settled(logs, cluster.application, scenario.SETTLE_SECONDS, cluster.check_alive)
    tap.check("everything that is left is settled", unsettled)
    bring(tap, cluster)
    scenario.verify_rows(tap, cluster, logs["us"])
    tap.check("workers stop cleanly", cluster.stop())


def purge_mirror(region):
    admin = AdminClient({"bootstrap.servers": region.kafka})
    mirror = rawlog.mirror_of("us")
    partitions = admin.list_topics(mirror, timeout=10).topics[mirror].partitions
    for deletion in admin.delete_records([TopicPartition(mirror, each, OFFSET_END) for each in partitions]).values():
        deletion.result()


def wait_incomplete(worker):
    deadline = time.monotonic() + INCOMPLETE_SECONDS
    while time.monotonic() < deadline:
        if lost := worker.metric("driftless_incomplete_partitions"):
            return lost
        time.sleep(0.5)
    return 0


def bring(tap, cluster):
    code, before = command(cluster, "eu", "diff", "--from", "us")
    different = before.get("different", 0)
    tap.note(f"diff: exit {code}, {different} keys differ, {before.get('bytes')} bytes read {before.get('error', '')}")
    tap.check("diff finds that eu lacks something", [] if code == 3 and different else [f"exit {code}: {before}"[:300]])
    code, refused = command(cluster, "us", "resync", "--from", "eu")
    tap.check("an incomplete peer is refused", [] if code == 2 else [f"exit {code}: {refused}"])
    code, planned = command(cluster, "eu", "resync", "--from", "us", "--dry-run")
    tap.note(f"dry run: {planned}")
    tap.check("a dry run says that there is something to do", [] if code == 3 else [f"exit {code}"])
    began = time.monotonic()
    code, done = command(cluster, "eu", "resync", "--from", "us")
    tap.note(f"resync: exit {code} after {time.monotonic() - began:.1f} s: {done}")
    tap.check("resync brings all of it", [] if code == 0 else [f"exit {code}: {done}"])
    tap.check(
        "it brings what differs and no more",
        [] if done.get("brought", 0) + done.get("deleted", 0) == different else [f"{done}, and {different} keys differed"],
    )
    code, after = command(cluster, "eu", "diff", "--from", "us")
    tap.check("diff finds nothing afterwards", [] if code == 0 else [f"exit {code}: {after.get('different')}"])
    lost = cluster.metric("driftless_incomplete_partitions")
    tap.check("no partition is incomplete any more", [] if lost == 0 else [f"{lost:.0f} are"])


if __name__ == "__main__":
    scenario.run("resync", COLLECTIONS, {"us": 1, "eu": 1}, resync)

#!/usr/bin/env python3
"""A region that lost everything: the disks of eu's Kafka and Milvus and its worker's state are gone. It is started empty
while both regions are written to, MirrorMaker brings what us' change topic still holds, and `driftless resync` the rest,
which only us' changelogs remember. Then both hold what the oracle computes from us' raw topics."""

import shutil
import time

from lib import scenario, verifier
from lib.commands import command, give_peers
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("lost_products", "uuid", 64, "l2"), CollectionSpec("lost_articles", "int64", 32, "cosine")]
SEED = 20_241_123
BEFORE, MEANWHILE = 12_000, 6_000
ROWS = 5_000
LOAD_SECONDS = 15
DISKS = ("kafka-eu", "milvus-eu")


def lost(tap, cluster):
    give_peers(cluster)
    cluster.start()
    logs = scenario.open_logs(cluster)
    load = scenario.make_load(tap, cluster, SEED, BEFORE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.join()
    scenario.settle(tap, cluster, logs, "the first changes are everywhere")
    began = time.monotonic()
    lose(cluster)
    tap.note(f"eu is there again, empty, after {time.monotonic() - began:.1f} s")
    logs["eu"].close()
    logs = {"us": logs["us"], "eu": scenario.open_log(cluster, "eu")}
    load = scenario.make_load(tap, cluster, SEED + 1, MEANWHILE, bad_of_each=0, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.wait_until(0.3)
    bring(tap, cluster)
    load.join()
    scenario.settle(tap, cluster, logs, "everything is settled")
    scenario.verify_rows(tap, cluster, logs["us"])
    code, after = command(cluster, "eu", "diff", "--from", "us")
    tap.check("diff finds nothing afterwards", [] if code == 0 else [f"exit {code}: {after}"])
    tap.check("workers stop cleanly", cluster.stop())


def lose(cluster):
    worker = cluster.workers["eu-1"]
    worker.kill()
    cluster.stack("kill", "mm2", *DISKS)
    cluster.stack("wipe", *DISKS)
    shutil.rmtree(cluster.folder / "state-eu-1", ignore_errors=True)
    cluster.stack("start", *DISKS)
    # Before MirrorMaker, which would not find its mirror if it was made afterwards.
    cluster.create_topics("eu")
    cluster.stack("start", "mm2")
    verifier.connect("eu", cluster.regions["eu"].milvus)
    worker.start()
    worker.wait_ready()


def bring(tap, cluster):
    code, before = command(cluster, "eu", "diff", "--from", "us")
    tap.note(f"diff: exit {code}, {before}")
    tap.check("diff finds that eu lacks something", [] if code == 3 and before.get("different") else [f"exit {code}: {before}"])
    began = time.monotonic()
    code, done = command(cluster, "eu", "resync", "--from", "us")
    tap.note(f"resync: exit {code} after {time.monotonic() - began:.1f} s: {done}")
    tap.check("resync brings what is lacking", [] if code == 0 and done.get("brought") else [f"exit {code}: {done}"])


if __name__ == "__main__":
    scenario.run("lost", COLLECTIONS, {"us": 1, "eu": 1}, lost)

#!/usr/bin/env python3
"""One of two collections is out of Milvus' reach in one region, its alias gone, under load: the other collection's
rows are all there meanwhile, and once the alias is back nothing is lost."""

import time

from pymilvus import utility

from lib import rawlog, scenario, verifier
from lib.oracle import Oracle, Schemas
from lib.wire import CollectionSpec

STUCK, OTHER = COLLECTIONS = [
    CollectionSpec("products", "uuid", 128, "l2"),
    CollectionSpec("articles", "uuid", 128, "cosine"),
]
SEED = 20_240_604
CHANGES = 20_000
ROWS = 8_000
LOAD_SECONDS = 40
# Small, so that the load is many times what may be held.
LIMITS = ['[worker]\nbuffer_bytes = "128KiB"', '[sink]\nbatch_bytes = "64KiB"']
PARKED_MIN = 1_000
OTHER_SECONDS = 60
PARKED = "driftless_parked_changes"


def stuck(tap, cluster):
    cluster.start()
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=2, rows=ROWS, seconds=LOAD_SECONDS)
    logs = scenario.open_logs(cluster)
    load.start()
    load.wait_until(0.1)
    utility.drop_alias(STUCK.name, using="us")
    tap.note(f"{STUCK.name} has no alias in us any more")
    load.join()
    waiting_for = wait_for_other(cluster, logs)
    worker = cluster.workers["us-1"]
    parked = worker.metric(PARKED)
    tap.note(f"{parked:.0f} changes of {STUCK.name} are parked")
    tap.check(f"every row of {OTHER.name} is in us while {STUCK.name} is stuck", waiting_for)
    tap.check("most of what waits is in the log", [] if parked > PARKED_MIN else [f"only {parked:.0f} are parked"])
    utility.create_alias(f"{STUCK.name}__g1", STUCK.name, using="us")
    tap.note(f"{STUCK.name} has its alias back")
    scenario.verify(tap, cluster, load, logs)
    left = worker.metric(PARKED)
    tap.check("nothing is parked any more", [f"{left:.0f} are"] if left else [])
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def wait_for_other(cluster, logs):
    """Until us holds all that was written of the other collection; returns what it lacks at the deadline."""
    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    deadline = time.monotonic() + OTHER_SECONDS
    while True:
        cluster.check_alive()
        rawlog.read_on(logs)
        expected = Oracle(cluster.collections, schemas).expect(logs["us"])
        lacking = rawlog.unmirrored(logs) or verifier.compare_rows("us", OTHER, expected.rows[OTHER.name])
        if not lacking or time.monotonic() > deadline:
            return lacking
        time.sleep(1)


if __name__ == "__main__":
    scenario.run("stuck", COLLECTIONS, {"us": 1, "eu": 1}, stuck, LIMITS)

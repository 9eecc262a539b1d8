#!/usr/bin/env python3
"""Workers killed by SIGKILL at moments drawn at random: while they process, commit and write their store, and while they
start and restore again. us keeps its versions on disk, eu in memory. After each round both Milvus and the dead letters
are held against the oracle. Faults f01, f02, f57.

usage: kill.py [KILLS [SEED]]     default 10 kills, seed 1; about 13 s a round of one to three kills"""

import random
import sys
import time

from lib import rawlog, scenario, settling, verifier
from lib.cluster import PARTITIONS
from lib.generator import Load, Planner
from lib.oracle import Oracle, Schemas
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("killed_products", "uuid", 16, "l2"), CollectionSpec("killed_notes", "int64", 16, "cosine")]
STORES = {"us": "disk", "eu": "memory"}
KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
CHANGES = 2_000  # of a round, both regions together
ROWS = 2_500
LOAD_SECONDS = 4
BAD_EVERY_ROUNDS = 5
# Until a worker that has just been started is killed again: it starts, joins, restores.
AGAIN_SECONDS_MAX = 1.5
SETTLE_SECONDS = 120


def kill(tap, cluster):
    cluster.start()
    logs = scenario.open_logs(cluster)
    rng = random.Random(SEED)
    planner = Planner(SEED, 0, cluster.collections, cluster.schema_ids, PARTITIONS, ROWS, span_ms=LOAD_SECONDS * 1_000)
    oracle = Oracle(cluster.collections, Schemas({region.name: region.registry for region in cluster.regions.values()}))
    refused, kills, rounds = {}, 0, 0
    while kills < KILLS:
        victim = ("us-1", "eu-1")[rounds % 2]
        load = plan(cluster, planner, rounds)
        load.start()
        times = min(rng.choice((1, 1, 2, 3)), KILLS - kills)
        moments = kill_often(cluster.workers[victim], rng, times)
        load.join()
        refused |= load.refused
        took, left = settling.wait_settled(logs, cluster.application, SETTLE_SECONDS, cluster.check_alive)
        kills, rounds = kills + times, rounds + 1
        what = f"round {rounds}: {victim} ({STORES[victim[:2]]}) killed {moments}, both regions equal the oracle"
        tap.check(what, left or differences(cluster, oracle, logs, refused))
        tap.note(f"settled {took:.1f} s after the load")
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def plan(cluster, planner, rounds):
    planner.base_ms = int((time.time() + LOAD_SECONDS) * 1_000)
    sends = planner.plan(CHANGES, 1 if rounds % BAD_EVERY_ROUNDS == 0 else 0)
    brokers = {region.name: region.kafka for region in cluster.regions.values()}
    return Load(sends, brokers, rawlog.CDC_TOPIC, LOAD_SECONDS)


def kill_often(worker, rng, times):
    """The moments, as text: the first after the load's begin, each further one after a start."""
    waits = [rng.uniform(0, LOAD_SECONDS)] + [rng.uniform(0, AGAIN_SECONDS_MAX) for _ in range(times - 1)]
    for wait in waits:
        time.sleep(wait)
        worker.kill()
        worker.start()
    worker.wait_ready()
    return " and again after ".join(f"{wait:.2f} s" for wait in waits)


def differences(cluster, oracle, logs, refused):
    found = []
    for region in cluster.regions.values():
        expected = oracle.expect(logs[region.name])
        for spec in cluster.collections:
            found += verifier.compare_rows(region.name, spec, expected.rows[spec.name])
        topic = f"{cluster.application}-dead-letter"
        found += verifier.compare_dead_letters(region.name, region.kafka, topic, expected.dead_letters)
        own = {key[1:] for key in refused if key[0] == region.name}
        judged = {(partition, offset) for topic, partition, offset in expected.dead_letters if topic == rawlog.CDC_TOPIC}
        found += [f"{region.name}: the oracle and the generator differ about {each}" for each in sorted(own ^ judged)]
    return found


if __name__ == "__main__":
    scenario.run("kill", COLLECTIONS, {"us": 1, "eu": 1}, kill, stores=STORES)

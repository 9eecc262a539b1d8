#!/usr/bin/env python3
"""Every part of two regions killed, stopped, cut off, slowed down or filled up under load, one after the other; after
each fault all that was written before its end must be settled in both regions, and at the end everything must be what
the oracle computes from the raw topics.

    chaos.py short|full|PATTERN [SEED]

`short` draws one fault of each family, `full` plays them all, a pattern those whose names it is found in. Region us has three
brokers (three replicas, two in sync), region eu one: `scripts/stack.sh up --brokers us=3`.
"""

import random
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "stack"))

import changelogs
import faults
import stream
from lib import scenario, settling
from lib.cluster import regions_from_environment
from lib.wire import CollectionSpec

COLLECTIONS = [
    CollectionSpec("products", "uuid", 32, "l2"),
    CollectionSpec("notes", "text", 32, "cosine", id_bytes_max=64),
]
CHANGES_PER_SECOND = 120  # in both regions together
WARM_UP_SECONDS = 5
BETWEEN_SECONDS = 2
SETTLE_SECONDS_MAX = 240  # of which most is slack for a busy machine


def main():
    asked, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    played = chosen(asked, seed)
    if regions_from_environment()["us"].brokers != 3:
        raise SystemExit("region us must have three brokers: scripts/stack.sh up --brokers us=3")

    def chaos(tap, cluster):
        tap.note(f"{asked}, seed {seed}: {len(played)} faults")
        play(tap, cluster, played, seed)

    scenario.run("chaos", COLLECTIONS, {"us": 2, "eu": 1}, chaos)


def chosen(asked, seed):
    match asked:
        case "short":
            return faults.short(random.Random(seed))
        case "full":
            return faults.FULL
        case pattern:
            return [fault for fault in faults.FULL if re.search(pattern, fault.name)]


def play(tap, cluster, played, seed):
    cluster.start()
    load = stream.Stream(cluster, seed, CHANGES_PER_SECOND)
    logs = scenario.open_logs(cluster)
    load.start()
    scene = faults.Scene(tap, cluster, load)
    scene.stay(WARM_UP_SECONDS)
    for fault in played:
        strike(tap, scene, fault, logs)
        scene.stay(BETWEEN_SECONDS)
    scene.supervise()
    tap.check("Kafka took every record in the end", load.stop())
    tap.note(f"{load.written} records written")
    expected = scenario.verify(tap, cluster, load, logs)
    tap.check("f19 every acknowledged record is in its topic", stream.acknowledged_and_missing(load, logs))
    for region, each in expected.items():
        tap.check(
            f"the changelogs of {region} hold the oracle's winners, deletes too, as the last of each row",
            changelogs.compare(cluster, region, each.winners),
        )
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def strike(tap, scene, fault, logs):
    tap.note(f"--- {fault.name}")
    began, written = time.monotonic(), scene.stream.written
    fault.strike(scene)
    lasted, written = time.monotonic() - began, scene.stream.written - written
    took, left = settling.wait_settled(logs, scene.cluster.application, SETTLE_SECONDS_MAX, scene.supervise)
    tap.note(
        f"{fault.name}: {lasted:.1f} s, {written} records written meanwhile; settled everywhere {took:.1f} s after"
    )
    if left:
        tap.note(f"what the tasks say of themselves is in {scene.describe(fault.name)}")
    tap.check(f"{fault.name}: all written before its end is settled in both regions", left)


if __name__ == "__main__":
    main()

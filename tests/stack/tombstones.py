#!/usr/bin/env python3
"""A deleted vector never comes back. A third of the rows is deleted while eu has no worker; nobody forgets the deletes
before eu has seen them. Then both forget them, and compaction, set as hard as nobody should, leaves no word of them in
the changelogs. After that: a cold restore, the old writes again through the mirror and in the region's own topic, and a
disk store put back from a backup made before the deletes, once within the time that its changelog keeps deletes and
once a day later by the worker's clock. Faults f28, f44, f70.

usage: tombstones.py        about 4 minutes"""

import shutil
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import Producer

from lib import compaction, scenario, verifier
from lib.cluster import PARTITIONS
from lib.commands import command
from lib.oracle import Oracle, Schemas
from lib.rawlog import CDC_TOPIC, mirror_of
from lib.scrubbing import wait_scrubbed
from lib.wire import CollectionSpec
from lib.writer import Writer

SPEC = CollectionSpec("buried_rows", "uuid", 16, "l2")
ROWS, DELETED = 1_500, 500
LATENESS_SECONDS = 10
# Added to it: how far below all that is settled the floor lies.
FLOOR_SECONDS = LATENESS_SECONDS + 60
PASS_SECONDS = 5
TABLES = [
    f'[admission]\nmax_lateness = "{LATENESS_SECONDS}s"',
    # What a store wrongly holds is soon in Milvus.
    f'[scrub]\npass_min = "{PASS_SECONDS}s"',
]
FORGOTTEN_SECONDS_MAX = 120
SCRUBBED_SECONDS_MAX = 60
DROPPED_SECONDS_MAX = 90
A_DAY = 25 * 3_600
WRONG_CLOCK = Path(__file__).resolve().parents[2] / "scripts/stack/wrong_clock.c"


def tombstones(tap, cluster):
    cluster.start()
    logs = scenario.open_logs(cluster)
    us, eu = cluster.workers["us-1"], cluster.workers["eu-1"]
    writer = Writer(cluster, SPEC, "us")
    ids = [str(uuid.UUID(int=number << 64 | number, version=4)) for number in range(1, ROWS + 1)]
    deleted = ids[:DELETED]
    writer.write("UPSERT", ids)
    old = list(writer.written)
    scenario.settle(tap, cluster, logs, "the rows are everywhere")
    backup = back_up(tap, cluster, us)

    # eu is away.
    eu.kill()
    writer.write("DELETE", deleted)
    tap.note(f"{DELETED} of {ROWS} rows deleted while eu has no worker; waiting for {FLOOR_SECONDS + 10} s")
    time.sleep(FLOOR_SECONDS + 10)
    forgotten = us.metric("driftless_tombstones_forgotten_total")
    tap.check("nobody forgets a delete that eu has not seen (f70)", [f"{forgotten:.0f} forgotten"] if forgotten else [])
    eu.start()
    eu.wait_ready()
    scenario.settle(tap, cluster, logs, "eu has seen them")
    verify(tap, cluster, logs, "eu is back")

    began = time.monotonic()
    tap.check("then both forget them", until(FORGOTTEN_SECONDS_MAX, lambda: remembered(us, eu)))
    tap.note(f"forgotten {time.monotonic() - began:.0f} s later")

    # The store of before the deletes: what its changelog says since is read.
    tap.check("the worker of us stops cleanly", [] if stop(us) == 0 else ["it did not"])
    put_back(cluster, backup)
    us.start()
    us.wait_ready()
    tap.check("a backup that is young enough is built on", [] if "is dropped" not in us.log.read_text() else ["it was not"])
    again(tap, cluster, logs, old)
    verify(tap, cluster, logs, "a disk store from before the deletes, put back")

    # No word of them is left.
    compact_hard(tap, cluster, deleted)
    eu.kill()
    eu.start()
    eu.wait_ready()
    again(tap, cluster, logs, old)
    verify(tap, cluster, logs, "the changelogs compacted hard, eu restored from nothing")

    tap.check("the worker of us stops cleanly again", [] if stop(us) == 0 else ["it did not"])
    put_back(cluster, backup)
    us.start(**a_day_later(cluster))
    tap.check("a backup from before what the changelog remembers is not (f28)", until(DROPPED_SECONDS_MAX, lambda: kept(us)))
    # A broker takes nothing with the time of tomorrow.
    us.kill()
    us.start()
    us.wait_ready()
    again(tap, cluster, logs, old)
    verify(tap, cluster, logs, "a day later, with that disk store again")
    for region in cluster.regions:
        code, told = command(cluster, region, "explain", SPEC.name, deleted[0])
        wrong = code != 0 or not told.get("agrees")
        tap.check(f"explain finds {region} of one mind about a deleted row", [f"exit {code}: {told}"] if wrong else [])
    tap.check("workers stop cleanly", cluster.stop())


def stop(worker):
    worker.ask_to_stop()
    code = worker.wait_stopped()
    worker.process = None
    return code


def back_up(tap, cluster, worker):
    tap.check("the worker of us stops for a backup", [] if stop(worker) == 0 else ["it did not stop cleanly"])
    backup = cluster.folder / "backup"
    shutil.copytree(state_of(cluster), backup)
    worker.start()
    worker.wait_ready()
    return backup


def put_back(cluster, backup):
    shutil.rmtree(state_of(cluster))
    shutil.copytree(backup, state_of(cluster))


def state_of(cluster):
    return cluster.folder / "state-us-1"


def remembered(*workers):
    counts = {worker.name: worker.metric("driftless_tombstones_forgotten_total") for worker in workers}
    return [f"{name} has forgotten {count:.0f} of {DELETED}" for name, count in counts.items() if count < DELETED]


def until(seconds, missing):
    """What is still missing when the time is over."""
    deadline = time.monotonic() + seconds
    while (left := missing()) and time.monotonic() < deadline:
        time.sleep(1)
    return left


def again(tap, cluster, logs, old):
    """The old writes once more: by MirrorMaker, as they were; and by a producer that sends them again, too late."""
    mirror = Producer({"bootstrap.servers": cluster.regions["eu"].kafka, "acks": "all"})
    own = Producer({"bootstrap.servers": cluster.regions["us"].kafka, "acks": "all"})
    for partition, key, value, at_ms in old:
        mirror.produce(mirror_of("us"), value, key, partition, timestamp=at_ms)
        own.produce(CDC_TOPIC, value, key, partition)
    if mirror.flush(30) + own.flush(30):
        raise TimeoutError("the old writes are not taken within 30 s")
    scenario.settle(tap, cluster, logs, "the old writes come again, and are settled")


def compact_hard(tap, cluster, deleted):
    regions, topics = list(cluster.regions.values()), compaction.changelogs_of(cluster)
    began = time.monotonic()
    writers = [Writer(cluster, SPEC, region.name) for region in regions]
    extra = [str(uuid.UUID(int=1 << 100 | number, version=4)) for number in range(300)]
    wanted = {vector_id.encode() for vector_id in deleted}

    def write():
        for writer in writers:
            writer.write("UPSERT", extra)

    def words_left():
        counts = {
            region.name: sum(key.rpartition(b"\0")[2] in wanted for key in compaction.keys_of(region, topics))
            for region in regions
        }
        return [f"{name}: {count} records" for name, count in counts.items() if count]

    tap.check("compaction leaves no word of the deleted rows", compaction.compact(regions, topics, write, words_left))
    tap.note(f"compacted after {time.monotonic() - began:.0f} s")


def a_day_later(cluster):
    library, setting = cluster.folder / "wrong_clock.so", cluster.folder / "clock"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, WRONG_CLOCK, "-ldl"], check=True)
    setting.write_text(str(A_DAY))
    return {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(setting)}


def kept(worker):
    dropped = worker.log.read_text(errors="replace").count("is dropped, and restored from the beginning: it is older")
    return [] if dropped == PARTITIONS else [f"{dropped} of {PARTITIONS} stores were dropped"]


def verify(tap, cluster, logs, when):
    """After the scrubber has gone round: a row that only a store believes in would be in Milvus by then."""
    tap.check(f"{when}: the scrubber has gone round", wait_scrubbed(cluster, SCRUBBED_SECONDS_MAX))
    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    expected = Oracle(cluster.collections, schemas).expect(logs["us"]).rows[SPEC.name]
    if len(expected) < ROWS - DELETED:
        raise RuntimeError(f"the oracle expects {len(expected)} rows")
    for region in cluster.regions:
        tap.check(f"{when}: {region} holds exactly the rows that were not deleted", verifier.compare_rows(region, SPEC, expected))


if __name__ == "__main__":
    scenario.run("tombstones", [SPEC], {"us": 1, "eu": 1}, tombstones, TABLES, {"us": "disk"})

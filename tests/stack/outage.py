#!/usr/bin/env python3
"""Milvus of one region stopped for a minute under load: the worker holds what its limits allow and no more,
stays a member of its group, goes on by itself when Milvus is back, and nothing is lost. Faults f09, f14."""

import time

from lib import scenario
from lib.cluster import PARTITIONS
from lib.wire import CollectionSpec

COLLECTIONS = [
    CollectionSpec("products", "uuid", 128, "l2"),
    CollectionSpec("articles", "uuid", 128, "cosine"),
]
SEED = 20_240_603
CHANGES = 45_000
ROWS = 20_000
LOAD_SECONDS = 50
OUTAGE_SECONDS = 60
# Small, so that the load is many times what may be held.
BUFFER_KIB = 128
BATCH_KIB = 64
LIMITS = [f'[worker]\nbuffer_bytes = "{BUFFER_KIB}KiB"', f'[sink]\nbatch_bytes = "{BATCH_KIB}KiB"']
# One round of polling may overshoot a full buffer.
BUFFERED_BYTES_MAX = PARTITIONS * 2 * BUFFER_KIB * 1024 + 1024 * 1024
# librdkafka may hold 64 MiB of fetched records; the rest is the process itself and what the limits allow.
GROWTH_BYTES_MAX = 120 * 1024 * 1024


def outage(tap, cluster):
    cluster.start()
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=2, rows=ROWS, seconds=LOAD_SECONDS)
    logs = scenario.open_logs(cluster)
    load.start()
    load.wait_until(0.1)
    worker = cluster.workers["us-1"]
    before = worker.resident_bytes()
    tap.note(f"milvus-us stopped for {OUTAGE_SECONDS} s; the worker has {before >> 20} MiB resident")
    cluster.stack("stop", "milvus-us")
    resident, buffered, members = watch(cluster, worker)
    cluster.stack("start", "milvus-us")
    tap.note(f"milvus-us is back; at most {resident >> 20} MiB resident and {buffered / 1024:.0f} KiB buffered meanwhile")
    tap.check("memory stays bounded", [f"grew by {(resident - before) >> 20} MiB"] if resident - before > GROWTH_BYTES_MAX else [])
    tap.check("buffers keep their limit", [f"{buffered:.0f} bytes"] if buffered > BUFFERED_BYTES_MAX else [])
    tap.check("buffers were full", [] if buffered > PARTITIONS * BUFFER_KIB * 1024 / 2 else [f"only {buffered:.0f} bytes"])
    tap.check("the worker keeps its membership", [f"{count} members" for count in members if count != 1])
    load.join()
    scenario.verify(tap, cluster, load, logs)
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def watch(cluster, worker):
    """The greatest memory and buffers during the outage, and the group's size at each look."""
    resident, buffered, members = 0, 0, []
    end = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < end:
        cluster.check_alive()
        resident = max(resident, worker.resident_bytes())
        buffered = max(buffered, worker.metric("driftless_buffered_bytes"))
        members.append(cluster.group_members("us"))
        time.sleep(2)
    return resident, buffered, members


if __name__ == "__main__":
    scenario.run("outage", COLLECTIONS, {"us": 1, "eu": 1}, outage, LIMITS)

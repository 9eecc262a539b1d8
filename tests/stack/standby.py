#!/usr/bin/env python3
"""The active worker of one region killed under load, with a standby in the other one: the tasks go on from what the
standby has read, within a second of their assignment, and nothing is lost."""

import json
import re
import time
import urllib.request
from datetime import datetime

from lib import scenario
from lib.cluster import PARTITIONS
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("products", "uuid", 128, "l2"), CollectionSpec("articles", "uuid", 128, "cosine")]
SEED = 20_261_122
CHANGES = 40_000
ROWS = 20_000
LOAD_SECONDS = 60
STANDBYS = ["[worker]\nstandby_replicas = 1"]
FOLLOW_SECONDS = 60
LAG_RECORDS_MAX = 1_000
TAKEOVER_SECONDS = 40
# From the assignment to the task that runs; the session time-out comes before it.
PROMOTED_SECONDS_MAX = 1.0

STAMP = r"(\d{4}-\d\d-\d\dT[\d:.]+)Z"


def standby(tap, cluster):
    cluster.start()
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=2, rows=ROWS, seconds=LOAD_SECONDS)
    logs = scenario.open_logs(cluster)
    load.start()
    load.wait_until(0.4)
    killed, survivor = cluster.workers["us-1"], cluster.workers["us-2"]
    missing = until(FOLLOW_SECONDS, lambda: standbys_missing(killed) + standbys_missing(survivor))
    tap.check("each keeps a standby of every task of the other, and it follows", missing)
    before = survivor.log.stat().st_size
    killed.kill()
    tap.note("us-1 killed")
    tap.check("the survivor takes over all tasks", until(TAKEOVER_SECONDS, lambda: takeover_missing(survivor)))
    takeovers = promotions(survivor.log.read_bytes()[before:].decode(errors="replace"))
    for task, seconds, warm in takeovers:
        tap.note(f"task {task}: restored {seconds * 1000:.0f} ms after its assignment, {'by' if warm else 'without'} a standby")
    tap.check("each goes on from its standby", [task for task, _, warm in takeovers if not warm] or ([] if takeovers else ["none"]))
    slow = [f"task {task} after {seconds:.2f} s" for task, seconds, _ in takeovers if seconds > PROMOTED_SECONDS_MAX]
    tap.check(f"each runs within {PROMOTED_SECONDS_MAX:.0f} s of its assignment", slow)
    killed.start()
    load.join()
    scenario.verify(tap, cluster, load, logs)
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def standbys_missing(worker):
    """Under load they are never quite at the end; each has read what there is once at the least."""
    with urllib.request.urlopen(f"{worker.url}/tasks", timeout=5) as reply:
        standbys = json.load(reply)["standby_tasks"]
    followed = sum(each["entries"] > 0 and each["lag_records"] <= LAG_RECORDS_MAX for each in standbys)
    return [] if followed == PARTITIONS // 2 else [f"{worker.name} keeps {len(standbys)}, {followed} of them follow"]


def takeover_missing(worker):
    tasks = worker.metric("driftless_tasks")
    return [] if tasks == PARTITIONS and worker.is_ready() else [f"{tasks:.0f} tasks"]


def until(seconds, missing):
    """What is still missing when the time is over."""
    deadline = time.monotonic() + seconds
    while (left := missing()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def promotions(log):
    """Of each task restored: its name, the seconds since the last assignment, and whether a standby had read it."""
    found, assigned = [], None
    for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines():
        stamp = re.search(STAMP, line)
        at = datetime.fromisoformat(stamp.group(1)).timestamp() if stamp else None
        if at and "assigned" in line and "partitions=" in line:
            assigned = at
        elif at and assigned and (restored := re.search(r"restored.*\btask=(\S+).*\bfrom_standby=(true|false)", line)):
            found.append((restored.group(1), at - assigned, restored.group(2) == "true"))
    return found


if __name__ == "__main__":
    scenario.run("standby", COLLECTIONS, {"us": 2, "eu": 1}, standby, STANDBYS)

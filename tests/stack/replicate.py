#!/usr/bin/env python3
"""The main job on real servers: 66 000 changes written in both regions at once, while a worker is killed,
another is stopped past its session and continued, and the link is cut. Afterwards both regions must hold
what the oracle computes from the raw topics, and a clean restart must have nothing left to do.

Faults: f01 (a worker stopped past its session, with writes under way), f38 (unknown schema ids), f40 (records in wrong
partitions), f41 (stamps hours off), f43 (equal stamps with other contents), f45 (many changes of few rows)."""

import time

from lib import rawlog, scenario
from lib.wire import CollectionSpec

COLLECTIONS = [
    CollectionSpec("products", "uuid", 128, "l2"),
    CollectionSpec("articles", "uuid", 128, "cosine"),
]
SEED = 20_240_601
CHANGES = 66_000
ROWS = 20_000
LOAD_SECONDS = 50
STOPPED_SECONDS = 15  # longer than the session time-out of 10 s
CUT_SECONDS = 10
RESTART_SECONDS = 60


def replicate(tap, cluster):
    cluster.start()
    tap.note("workers ready")
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=4, rows=ROWS, seconds=LOAD_SECONDS)
    logs = scenario.open_logs(cluster)
    load.start()
    hurt(tap, cluster, load, logs)
    load.join()
    tap.note("load written")
    scenario.verify(tap, cluster, load, logs)
    restart(tap, cluster, logs)


def hurt(tap, cluster, load, logs):
    """All in mid-flight: the load goes on throughout. Checks that each blow did land."""
    first, second = cluster.workers["us-1"], cluster.workers["us-2"]
    load.wait_until(0.15)
    tap.note("SIGKILL us-2")
    second.kill()
    load.wait_until(0.25)
    tap.note("us-2 started again")
    second.start()
    load.wait_until(0.40)
    tap.note(f"SIGSTOP us-1 for {STOPPED_SECONDS} s")
    first.pause()
    time.sleep(STOPPED_SECONDS)
    members = cluster.group_members("us")
    tap.check("a stopped worker loses its place in the group", [] if members == 1 else [f"{members} members"])
    first.resume()
    load.wait_until(0.75)
    tap.note(f"link cut for {CUT_SECONDS} s")
    cluster.link("cut")
    time.sleep(CUT_SECONDS / 2)
    before = mirror_ends(logs)
    time.sleep(CUT_SECONDS / 2)
    after = mirror_ends(logs)
    tap.check("nothing crosses a cut link", [f"{source} grew" for source in before if after[source] != before[source]])
    cluster.link("heal")


def mirror_ends(logs):
    return {
        source: end for log in logs.values() for source, (_, end) in log.ends().items() if source[0] != rawlog.CDC_TOPIC
    }


def restart(tap, cluster, logs):
    applied = cluster.metric("driftless_sink_rows_total")
    tap.check("driftless_sink_rows_total counts applied rows", [] if applied else ["it is 0, or missing"])
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())
    cluster.start()
    # Heartbeats go on: once a worker has committed past what was there, it has looked at everything.
    behind = rawlog.wait_committed(logs, cluster.application, RESTART_SECONDS, cluster.check_alive)
    tap.check("restarted workers commit past all that was there", behind)
    for metric in ("driftless_sink_rows_total", "driftless_sink_reasserted_rows_total"):
        rows = cluster.metric(metric)
        tap.check(f"a clean restart leaves {metric} at 0", [f"it is {rows:.0f}"] if rows else [])
    tap.check("workers stop cleanly again", cluster.stop())


if __name__ == "__main__":
    scenario.run("replicate", COLLECTIONS, {"us": 2, "eu": 1}, replicate)

#!/usr/bin/env python3
"""Every kind of primary key, int64, UUID and text, through the whole path: bad ids of each kind, the edges of
int64, and text that a Milvus expression must quote."""

from lib import scenario
from lib.wire import CollectionSpec

COLLECTIONS = [
    CollectionSpec("by_number", "int64", 32, "l2"),
    CollectionSpec("by_uuid", "uuid", 32, "ip"),
    CollectionSpec("by_text", "text", 32, "cosine", id_bytes_max=64),
]
SEED = 20_240_602
CHANGES = 9_000
ROWS = 2_500
LOAD_SECONDS = 6


def keys(tap, cluster):
    cluster.start()
    load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=2, rows=ROWS, seconds=LOAD_SECONDS)
    load.start()
    load.join()
    scenario.verify(tap, cluster, load, scenario.open_logs(cluster))
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


if __name__ == "__main__":
    scenario.run("keys", COLLECTIONS, {"us": 1, "eu": 1}, keys)

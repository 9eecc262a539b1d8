#!/usr/bin/env python3
"""A collection that Milvus held before Driftless came is taken on while both regions write: `driftless import` renames it,
brings its rows into both regions, is killed half-way and begun again; nothing is lost, nothing deleted comes back.

usage: import.py [ROWS]     rows of the old collection [20000]"""

import json
import random
import signal
import subprocess
import sys
import time

import numpy
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, utility

from lib import rawlog, scenario, verifier, wire
from lib.wire import CollectionSpec
from undo import Writer

SPEC = CollectionSpec("undo_products", "uuid", 32, "l2")  # undo.py's writer writes to it
OLD = f"{SPEC.name}__before"
ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
SEED = 20_240_615
INSERT_ROWS = 5_000
ROWS_PER_SECOND = max(500, ROWS // 60)
SETTLE_SECONDS = 120 + ROWS // 200
COMMAND_SECONDS = 300 + ROWS // 100


def take_on(tap, cluster):
    rng = random.Random(SEED)
    rows = [wire.new_id(SPEC, rng, number) for number in range(ROWS)]
    fill_old(rows)
    tap.note(f"{ROWS} rows in us, in a collection that is called {SPEC.name} itself")
    planned = json.loads(run(cluster, "--dry-run", "--json").stdout)
    tap.check("a dry run counts them", [] if planned["written"] == ROWS else [str(planned)])
    importing = start(cluster, "--yes")
    wait_for(lambda: utility.has_collection(OLD, using="us"), 30, "the old collection is renamed")
    cluster.start()
    logs = scenario.open_logs(cluster)
    us, eu = Writer(cluster, "us", 1), Writer(cluster, "eu", 2)
    touched = rng.sample(rows, 400)
    overwritten, deleted = touched[:200], touched[200:]
    wait_for(lambda: count_of("eu") > ROWS // 10, COMMAND_SECONDS, "a tenth has arrived in eu")
    for number, row in enumerate(overwritten):
        (us, eu)[number % 2].upsert(row, "new")
    for number, row in enumerate(deleted):
        (us, eu)[number % 2].delete(row)
    us.flush(), eu.flush()
    importing.send_signal(signal.SIGKILL)
    importing.wait()
    tap.note(f"killed with {count_of('us')} rows in us")
    began = time.monotonic()
    output = run(cluster, "--yes", "--json", codes=(0,))
    done = json.loads(output.stdout)
    tap.note(f"begun again, done after {time.monotonic() - began:.1f} s: {done}")
    tap.check("every row is known afterwards", [] if done["missing"] == done["unfit"] == 0 else [str(done)])
    tap.check("what was there is not written again", [] if 0 < done["known"] < ROWS else [str(done)])
    tap.check("all is settled", rawlog.wait_settled(logs, cluster.application, SETTLE_SECONDS, cluster.check_alive))
    old = Collection(OLD, using="us")
    tap.check("the old collection is as it was", [] if counted(old) == ROWS else [f"{counted(old)} rows"])
    for region in cluster.regions:
        compare(tap, region, rows, set(overwritten), set(deleted))
    tap.check("workers stop cleanly", cluster.stop())


def fill_old(rows):
    """With names of its own, and a column for what Driftless keeps as metadata."""
    for stale in (SPEC.name, OLD):
        if utility.has_collection(stale, using="us"):
            utility.drop_collection(stale, using="us")
    fields = [
        FieldSchema("sku", DataType.VARCHAR, is_primary=True, max_length=36),
        FieldSchema("embedding", DataType.FLOAT_VECTOR, dim=SPEC.dimension),
        FieldSchema("price", DataType.INT64),
    ]
    old = Collection(SPEC.name, CollectionSchema(fields), using="us")
    for begin in range(0, len(rows), INSERT_ROWS):
        part = rows[begin : begin + INSERT_ROWS]
        old.insert([part, [vector_of(row) for row in part], [price_of(row) for row in part]])
    old.flush()
    old.create_index("embedding", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    old.load()


def vector_of(row):
    return numpy.random.default_rng(price_of(row)).random(SPEC.dimension, dtype="<f4")


def price_of(row):
    return int(row[:8], 16)


def compare(tap, region, rows, overwritten, deleted):
    actual = verifier.read_rows(Collection(f"{SPEC.name}__g1", using=region), SPEC)
    differences = []
    for row in rows:
        found = actual.get(row)
        if row in deleted:
            differences += [f"{row} is deleted and there"] if found else []
        elif found is None:
            differences.append(f"{row} is missing")
        elif row in overwritten:
            differences += [] if found.metadata.get("deploy") == "new" else [f"{row} is not what was written"]
        elif (found.vector, found.metadata) != (vector_of(row).tobytes(), {"price": price_of(row)}):
            differences.append(f"{row} is not as it was: {found.metadata}")
    differences += [f"{row} comes from nowhere" for row in actual.keys() - set(rows)]
    tap.check(f"Milvus {region} holds exactly what it should ({len(rows) - len(deleted)} rows)", sorted(differences))


def count_of(region):
    physical = f"{SPEC.name}__g1"
    return counted(Collection(physical, using=region)) if utility.has_collection(physical, using=region) else 0


def counted(collection):
    return collection.query("", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def start(cluster, *arguments):
    config = cluster.workers["us-1"].command[-1]
    line = [cluster.binary, "import", SPEC.name, "--config", config, "--rows-per-second", str(ROWS_PER_SECOND), *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(cluster, *arguments, codes=(0,)):
    process = start(cluster, *arguments)
    output, errors = process.communicate(timeout=COMMAND_SECONDS)
    if process.returncode not in codes:
        raise RuntimeError(f"import ended with {process.returncode}: {errors[-600:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


if __name__ == "__main__":
    scenario.run("import", [SPEC], {"us": 1, "eu": 1}, take_on)

#!/usr/bin/env python3
"""Two of three workers are stopped past their session, each with a write to Milvus under way that gets no further than
a gate before Milvus. The third takes over and writes a newer version of both rows. Then the gates open, one within the
new owner's safety window and one after it: the newest version must be back, at the window's end and within the scrub
period."""

import json
import time
import urllib.error
import urllib.request
import uuid

from confluent_kafka import Producer
from pymilvus import Collection

from lib import scenario, wire
from lib.cluster import PARTITIONS
from lib.gate import Gate
from lib.rawlog import CDC_TOPIC
from lib.wire import CollectionSpec

# A row is larger than anything else that a worker asks Milvus for, so that it is known when it has been sent.
ROWS = CollectionSpec("zombie_rows", "uuid", 1024, "l2")
PASS_SECONDS = 10
TABLES = [f'[scrub]\npass_min = "{PASS_SECONDS}s"']
SAFETY_WINDOW_SECONDS = 30
# Less than the deadline of a request, after which the worker counts it as lost.
HELD_SECONDS = 3
# Until each of the three has its share and keeps it.
BALANCED_SECONDS, STEADY_SECONDS = 60, 3
TAKEOVER_SECONDS = 60
SEEN_SECONDS = 15
# Milvus closes a connection whose client has been silent for 70 s: the second gate must open before.
SLACK_SECONDS = 3


def zombie(tap, cluster):
    gates = {name: put_gate(cluster, name) for name in ("us-1", "us-2")}
    cluster.start()
    tap.check("each of three workers has its share", unbalanced([cluster.workers[f"us-{number}"] for number in (1, 2, 3)]))
    rows = Rows(cluster)
    # The first goes through its gate within the safety window, the other after it.
    keys = {name: key_of(cluster.workers[name]) for name in gates}
    for key in keys.values():
        rows.write(key, 1)
    tap.check("rows are written", [key for key in keys.values() if not rows.wait(key, 1, SEEN_SECONDS)])

    stop_with_writes_under_way(tap, cluster, rows, gates, keys)
    taken_over = take_over(tap, cluster, rows, keys)

    in_window, after_window = (keys[name] for name in gates)
    land(tap, rows, gates["us-1"], in_window)
    left = taken_over + SAFETY_WINDOW_SECONDS - time.monotonic()
    restored(tap, rows, in_window, left + SEEN_SECONDS, "at the end of the safety window")

    time.sleep(max(0, taken_over + SAFETY_WINDOW_SECONDS + SLACK_SECONDS - time.monotonic()))
    scrubbed = cluster.workers["us-3"].metric("driftless_scrub_rows_total")
    tap.check("the scrubber compares rows meanwhile", [] if scrubbed else ["driftless_scrub_rows_total is 0"])
    land(tap, rows, gates["us-2"], after_window)
    restored(tap, rows, after_window, 2 * PASS_SECONDS + SEEN_SECONDS, "within two passes of the scrubber")

    for name in gates:
        cluster.workers[name].resume()
    tap.note("SIGCONT us-1 and us-2")
    tap.check("each of three workers has its share again", unbalanced(list(cluster.workers.values())[:3]))
    tap.check("zombies that go on undo nothing", [key for key in keys.values() if rows.version(key) != 3])
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def put_gate(cluster, name):
    """Between a worker and its Milvus."""
    milvus = cluster.regions["us"].milvus
    gate = Gate(milvus.removeprefix("http://").rstrip("/"))
    config = cluster.folder / f"{name}.toml"
    config.write_text(config.read_text().replace(milvus, f"http://{gate.address}"))
    return gate


def running(worker):
    """The partitions that it holds and processes."""
    try:
        with urllib.request.urlopen(f"{worker.url}/tasks", timeout=5) as reply:
            return {task["partition"] for task in json.load(reply)["tasks"] if task["state"] == "running"}
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return set()


def unbalanced(workers):
    """Until each holds as many partitions as the others, all of them together, and keeps them for a while; what they
    hold if that does not come about."""
    deadline = time.monotonic() + BALANCED_SECONDS
    steady, since = None, time.monotonic()
    while time.monotonic() < deadline:
        held = [running(worker) for worker in workers]
        if held != steady:
            steady, since = held, time.monotonic()
        shared = all(len(each) == PARTITIONS // len(workers) for each in held) and len(set().union(*held)) == PARTITIONS
        if shared and time.monotonic() - since >= STEADY_SECONDS:
            return []
        time.sleep(0.2)
    return [f"{worker.name} holds {sorted(partitions)}" for worker, partitions in zip(workers, held, strict=True)]


def key_of(worker):
    """An id of which the worker holds the partition."""
    held = running(worker)
    while True:
        key = str(uuid.uuid4())
        if wire.partition_of(key.encode(), PARTITIONS) in held:
            return key


class Rows:
    """Writes versions 1, 2, 3 of a row in us, and reads which one Milvus holds."""

    def __init__(self, cluster):
        self.producer = Producer(
            {"bootstrap.servers": cluster.regions["us"].kafka, "acks": "all", "partitioner": "murmur2_random"}
        )
        self.collection = Collection(f"{ROWS.name}__g1", using="us")
        self.base_ms = int(time.time() * 1000)

    def write(self, key, version):
        change = {
            "op": "UPSERT",
            "collection": ROWS.name,
            "vector_id": key,
            "vector": [float(version)] * ROWS.dimension,
            "metadata": {"version": version},
        }
        self.producer.produce(CDC_TOPIC, wire.json_value(change, self.base_ms + version), key.encode())
        self.producer.flush(10)

    def version(self, key):
        """0: none."""
        found = self.collection.query(f'id == "{key}"', output_fields=["_hlc"], consistency_level="Strong")
        return (found[0]["_hlc"] >> 16) - self.base_ms if found else 0

    def wait(self, key, version, seconds):
        """How long it took; None if it did not come in time."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.version(key) == version:
                return max(time.monotonic() - began, 1e-3)
            time.sleep(0.1)
        return None


def stop_with_writes_under_way(tap, cluster, rows, gates, keys):
    for gate in gates.values():
        gate.shut()
    before = {name: gate.held_bytes for name, gate in gates.items()}
    for key in keys.values():
        rows.write(key, 2)
    deadline = time.monotonic() + HELD_SECONDS
    row_bytes = ROWS.dimension * 4
    held = {}
    while len(held) < len(gates) and time.monotonic() < deadline:
        held = {name for name, gate in gates.items() if gate.held_bytes - before[name] > row_bytes}
        time.sleep(0.02)
    for name in gates:
        cluster.workers[name].pause()
    tap.note("SIGSTOP us-1 and us-2")
    tap.check("each is stopped with a write under way", [f"{name} has sent nothing" for name in gates.keys() - held])


def take_over(tap, cluster, rows, keys):
    """Until us-3 has all partitions, and has written the rows anew; answers when it was ready."""
    survivor = cluster.workers["us-3"]
    deadline = time.monotonic() + TAKEOVER_SECONDS
    while len(running(survivor)) < PARTITIONS and time.monotonic() < deadline:
        time.sleep(0.2)
    taken_over = time.monotonic()
    tap.note("us-3 holds every partition")
    for key in keys.values():
        rows.write(key, 3)
    late = [key for key in keys.values() if not rows.wait(key, 3, SEEN_SECONDS)]
    tap.check("the new owner writes the newest version", late)
    return taken_over


def land(tap, rows, gate, key):
    gate.open()
    took = rows.wait(key, 2, SEEN_SECONDS)
    tap.check("the stopped worker's write lands on the newer row", [] if took else ["it does not"])


def restored(tap, rows, key, seconds, when):
    took = rows.wait(key, 3, seconds)
    tap.note(f"newest version back after {took:.1f} s" if took else f"not back after {seconds:.0f} s")
    tap.check(f"the newest version is back {when}", [] if took else [f"version {rows.version(key)}"])


if __name__ == "__main__":
    scenario.run("zombie", [ROWS], {"us": 3, "eu": 1}, zombie, TABLES)

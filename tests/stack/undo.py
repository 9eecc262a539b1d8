#!/usr/bin/env python3
"""Rebuild and roll-back on real servers. Both regions write; one of them then writes a bad deploy while the other goes
on. `driftless rollback` shows what it would do, does just that, and both regions hold, of each row, the greatest change
that is not of the deploy. Then `driftless rebuild` makes the collection anew while a reader, who asks by the alias for
rows that are there, never misses one; killed half-way, the alias still stands for the old collection. Writes begun
after the roll-back win; `driftless explain` says what became of a row.

usage: undo.py [ROWS]     rows that the deploy overwrites [2000]; it deletes a twentieth and adds a fortieth of that"""

import datetime
import json
import random
import signal
import subprocess
import sys
import threading
import time

import fastavro
from confluent_kafka import Producer
from pymilvus import Collection, utility

from lib import rawlog, scenario, settling, verifier, wire
from lib.oracle import Oracle, Schemas
from lib.scrubbing import wait_scrubbed
from lib.wire import CollectionSpec

SPEC = CollectionSpec("undo_products", "uuid", 32, "l2")
OVERWRITTEN = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
DELETED, ADDED = OVERWRITTEN // 20, OVERWRITTEN // 40
OTHERS = OVERWRITTEN // 2  # rows that the deploy does not touch
SEED = 20_240_611
SETTLE_SECONDS = 120 + OVERWRITTEN // 200
COMMAND_SECONDS = 300 + OVERWRITTEN // 50
PACE_SECONDS = 0.01  # between two changes of the region that goes on
SCRUB_PERIOD = "4m"  # of a million rows
SCRUBBED_SECONDS_MAX = 600
SAMPLE_ROWS = 200  # that the reader asks for, again and again


class Writer:
    """One region's gateway: stamps by its clock, and remembers what it wrote."""

    def __init__(self, cluster, region, number):
        self.region, self.sequence = region, number << 48
        self.schema_id = cluster.schema_ids[region]["current"]
        self.schema = fastavro.parse_schema(wire.current_schema())
        self.producer = Producer(
            {
                "bootstrap.servers": cluster.regions[region].kafka,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self.errors = []
        self.rng = random.Random(number)

    def upsert(self, row, deploy):
        vector = [self.rng.random() for _ in range(SPEC.dimension)]
        self._send("UPSERT", row, vector, {"deploy": deploy, "number": self.sequence % 1_000})

    def delete(self, row):
        self._send("DELETE", row, [], {})

    def flush(self):
        if self.producer.flush(120):
            self.errors.append(f"not all acknowledged in {self.region}")
        if self.errors:
            raise RuntimeError(self.errors[0])

    def _send(self, op, row, vector, metadata):
        self.sequence += 1
        change = {
            "op": op,
            "timestamp": wire.hlc(int(time.time() * 1_000), self.sequence % 60_000),
            "origin": self.region,
            "sequence": wire.signed(self.sequence),
            "collection": SPEC.name,
            "vector_id": row,
            "vector": vector,
            "metadata": metadata,
        }
        value = wire.frame(self.schema_id, wire.avro_body(self.schema, change))
        self.producer.produce("vector-cdc", value, row.encode(), on_delivery=self._delivered)
        self.producer.poll(0)

    def _delivered(self, error, _message):
        if error:
            self.errors.append(str(error))


class GoingOn(threading.Thread):
    """A region's users, who write on while all this is done."""

    def __init__(self, writer, rows):
        super().__init__(daemon=True)
        self.writer, self.rows, self.ends, self.written = writer, rows, threading.Event(), 0

    def run(self):
        rng = random.Random(SEED + 1)
        while not self.ends.wait(PACE_SECONDS):
            self.writer.upsert(rng.choice(self.rows), "good")
            self.written += 1

    def end(self):
        self.ends.set()
        self.join()
        self.writer.flush()


class Reader(threading.Thread):
    """Asks by the alias, over and over, for rows that are there all along."""

    def __init__(self, region, ids):
        super().__init__(daemon=True)
        self.region, self.ids, self.ends = region, ids, threading.Event()
        self.missing, self.rounds, self.failures = [], 0, []

    def run(self):
        collection = Collection(SPEC.name, using=self.region)
        wanted = ", ".join(json.dumps(each) for each in self.ids)
        while not self.ends.is_set():
            try:
                found = collection.query(f"id in [{wanted}]", output_fields=["id"])
            except Exception as error:  # told, not passed over: a reader would have met it
                self.failures.append(repr(error)[:200])
                continue
            absent = set(self.ids) - {row["id"] for row in found}
            if absent:
                self.missing.append(f"round {self.rounds}: {len(absent)} rows, such as {min(absent)}")
            self.rounds += 1

    def end(self):
        self.ends.set()
        self.join()


def undo(tap, cluster):
    cluster.start()
    logs = scenario.open_logs(cluster)
    us, eu = Writer(cluster, "us", 1), Writer(cluster, "eu", 2)
    rng = random.Random(SEED)
    rows = [wire.new_id(SPEC, rng, number) for number in range(OVERWRITTEN + DELETED + ADDED + OTHERS)]
    overwritten, rest = rows[:OVERWRITTEN], rows[OVERWRITTEN:]
    deleted, added, others = rest[:DELETED], rest[DELETED : DELETED + ADDED], rest[DELETED + ADDED :]
    for number, row in enumerate([*overwritten, *deleted, *others]):
        (us, eu)[number % 2].upsert(row, "first")
    us.flush(), eu.flush()
    scenario.settle(tap, cluster, logs, "the first rows are there")
    tap.note(f"{len(rows) - ADDED} rows; eu goes on, us deploys")
    going_on = GoingOn(eu, [*overwritten[::50], *others])
    going_on.start()
    time.sleep(1)
    undone = rollback(tap, cluster, logs, us, (overwritten, deleted, added))
    going_on.end()
    tap.note(f"eu wrote {going_on.written} changes all along")
    scenario.settle(tap, cluster, logs, "all is quiet")
    compare(tap, cluster, logs, undone, "after the roll-back")
    explain(tap, cluster, overwritten[1])
    # Not what the reader asks for: an upsert takes a row away and puts it back, which 2.3 may show.
    asked, written = others[:SAMPLE_ROWS], others[SAMPLE_ROWS:]
    going_on = GoingOn(us, [*overwritten[::50], *added, *written])
    going_on.start()
    rebuild(tap, cluster, asked)
    going_on.end()
    tap.note(f"us wrote {going_on.written} changes during the rebuild")
    scenario.settle(tap, cluster, logs, "everything is settled")
    compare(tap, cluster, logs, undone, "after the rebuild")
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def rollback(tap, cluster, logs, us, rows):
    overwritten, deleted, added = rows
    to_ms = int(time.time() * 1_000)
    to = datetime.datetime.fromtimestamp(to_ms / 1_000, datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    time.sleep(0.05)
    began = time.monotonic()
    for row in (*overwritten, *added):
        us.upsert(row, "bad")
    for row in deleted:
        us.delete(row)
    us.flush()
    tap.note(f"bad deploy written in {time.monotonic() - began:.1f} s: {len(overwritten)} overwritten, {DELETED} deleted, {ADDED} new")
    time.sleep(0.05)
    arguments = ["rollback", "--to", to, "--origin", "us", "--collection", SPEC.name, "--json"]
    preview = json.loads(run(cluster, "us-1", *arguments, "--dry-run").stdout)
    tap.note(f"preview: {preview['restored']} restored, {preview['deleted']} deleted, {preview['bytes']} bytes to each peer")
    began = time.monotonic()
    done = json.loads(run(cluster, "us-1", *arguments, "--yes").stdout)
    tap.note(f"rolled back in {time.monotonic() - began:.1f} s: {done['written']}")
    planned = {name: done[name] for name in ("restored", "deleted", "bytes")}
    tap.check("what is done is what was shown", [] if planned == done["written"] else [f"{planned}, done {done['written']}"])
    # eu goes on, so that it may win back some of the rows between the two.
    fewer = preview["restored"] - done["restored"]
    tap.check(
        "the preview said it before",
        [] if 0 <= fewer <= len(overwritten[::50]) and preview["deleted"] == done["deleted"] == ADDED
        else [f"preview {preview['restored']}/{preview['deleted']}, done {done['restored']}/{done['deleted']}"],
    )
    tap.check("ten rows are shown", [] if len(preview["sample"]) == 10 else [f"{len(preview['sample'])}"])
    took, left = settling.wait_settled(logs, cluster.application, SETTLE_SECONDS, cluster.check_alive)
    tap.check("the roll-back is everywhere", left)
    tap.note(f"{took:.1f} s after it was written")
    again = json.loads(run(cluster, "us-1", *arguments, "--yes").stdout)
    tap.check("a second run changes nothing", [] if again["written"]["bytes"] == 0 else [str(again["written"])])
    return {"us": (wire.hlc(to_ms, 0xFFFF), wire.hlc(int(time.time() * 1_000)))}


def explain(tap, cluster, row):
    for worker in ("us-1", "eu-1"):
        story = json.loads(run(cluster, worker, "explain", SPEC.name, row, "--json").stdout)
        verdicts = [change["verdict"] for change in story["changes"]]
        good = story["agrees"] and verdicts.count("winner") >= 3 and "roll-back" in story["changes"][-1]["why"]
        tap.check(f"explain tells the story of a row in {worker}", [] if good else [str(story)[:600]])


def rebuild(tap, cluster, ids):
    region = "us"
    arguments = ["rebuild", "--collection", SPEC.name]
    reader = Reader(region, ids)
    reader.start()
    killed = start(cluster, "us-1", *arguments)
    wait_for(lambda: f"{SPEC.name}__g2" in utility.list_collections(using=region), 60, "the new collection is begun")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    stands_for = alias_of(region)
    tap.check("killed, the alias stands for the old collection", [] if stands_for == f"{SPEC.name}__g1" else [stands_for])
    began = time.monotonic()
    output = run(cluster, "us-1", *arguments)
    tap.note(f"rebuilt in {time.monotonic() - began:.1f} s: {output.stdout.strip()}")
    for line in output.stderr.strip().splitlines():
        tap.note(f"  {line}")
    time.sleep(2)
    reader.end()
    tap.check("the alias stands for the new collection", [] if alias_of(region) == f"{SPEC.name}__g3" else [alias_of(region)])
    tap.note(f"the reader asked {reader.rounds} times for {len(reader.ids)} rows")
    tap.check("a reader by the alias never misses a row", reader.missing + ([] if reader.rounds > 5 else ["it hardly asked"]))
    tap.check("a reader by the alias never meets an error", reader.failures)
    run(cluster, "us-1", "rebuild", "--drop-old", "--yes")
    left = [name for name in utility.list_collections(using=region) if name.startswith(f"{SPEC.name}__g")]
    tap.check("the old collection is dropped when told", [] if left == [f"{SPEC.name}__g3"] else left)


def alias_of(region):
    for physical in utility.list_collections(using=region):
        if SPEC.name in utility.list_aliases(physical, using=region):
            return physical
    return "nothing"


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def start(cluster, worker, command, *arguments):
    config = cluster.workers[worker].command[-1]
    line = [cluster.binary, command, "--config", config, *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(cluster, worker, command, *arguments):
    process = start(cluster, worker, command, *arguments)
    output, errors = process.communicate(timeout=COMMAND_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors[-600:]}")
    return subprocess.CompletedProcess(process.args, 0, output, errors)


def compare(tap, cluster, logs, undone, when):
    """Milvus against the raw topics: as if what is undone had never been written. A row's version is the roll-back's
    where it was put back, so vectors and metadata are what is compared."""
    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    expected = {}
    for region in cluster.regions:
        oracle = Oracle(cluster.collections, schemas)
        expected[region] = oracle.expect(Without(logs[region], oracle, undone)).rows[SPEC.name]
    lost = sum(len(differences(region, rows)) for region, rows in expected.items())
    if lost:
        # Starved, Milvus 2.3 acknowledges an upsert and goes on showing the row's older self beside the new one.
        tap.note(f"{lost} rows are not what was acknowledged: the scrubber's work")
        began = time.monotonic()
        tap.check(f"the scrubber has gone round {when}", wait_scrubbed(cluster, SCRUBBED_SECONDS_MAX))
        tap.note(f"twice, in {time.monotonic() - began:.0f} s")
    for region, rows in expected.items():
        tap.check(f"Milvus {region} holds exactly what it should {when} ({len(rows)} rows)", differences(region, rows))


def differences(region, expected):
    collection = Collection(alias_of(region), using=region)
    actual = verifier.read_rows(collection, SPEC)
    found = [f"{key} is missing" for key in expected.keys() - actual.keys()]
    found += [f"{key} should not be there" for key in actual.keys() - expected.keys()]
    for key in expected.keys() & actual.keys():
        wanted, row = expected[key], actual[key]
        if (wanted.vector, wanted.metadata) != (row.vector, row.metadata):
            found.append(f"{key} holds deploy {row.metadata.get('deploy')}, expected {wanted.metadata.get('deploy')}")
    count = collection.query("", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    if count > len(actual):
        found += ["a row is there twice"] * (count - len(actual))
    return sorted(found)


class Without:
    """A region's raw log without what a roll-back has undone, and without its own writes."""

    def __init__(self, log, oracle, undone):
        self.log, self.oracle, self.undone = log, oracle, undone
        self.partition_count = log.partition_count

    def __getattr__(self, name):
        return getattr(self.log, name)

    def all_records(self):
        return [record for record in self.log.all_records() if not self._is_left_out(record)]

    def _is_left_out(self, record):
        if "driftless.rolled_back_to" in record.headers:
            return True
        origin = self.log.origin_of(record.topic)
        if origin not in self.undone:
            return False
        after, until = self.undone[origin]
        return after < self.oracle.judge_header(record, origin)["timestamp"] < until


if __name__ == "__main__":
    scenario.run("undo", [SPEC], {"us": 1, "eu": 1}, undo, [f'[scrub]\nperiod = "{SCRUB_PERIOD}"'])

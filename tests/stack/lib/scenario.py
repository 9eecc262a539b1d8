"""What the stack tests have in common: load, settle, verify, and an exit that tells what happened."""

import sys
import time
import traceback

from . import rawlog, verifier
from .cluster import PARTITIONS, Cluster
from .generator import WRITERS, Load, Planner
from .oracle import Oracle, Schemas
from .tap import Tap

SETTLE_SECONDS = 180
LINE_SHOWN = 300


def run(name, collections, workers, scenario, tables=(), stores=None):
    """Runs `scenario(tap, cluster)` on an emptied stack; exits with 1 if any check failed."""
    tap = Tap()
    cluster = Cluster(name, collections, workers, tables, stores)
    try:
        cluster.prepare()
        tap.note(f"{name}: application {cluster.application}, files in {cluster.folder}")
        scenario(tap, cluster)
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            tap.note(line[:LINE_SHOWN])
        tap.check(f"{name}: runs to its end", [repr(error)[:LINE_SHOWN]])
    else:
        tap.check(f"{name}: runs to its end", [])
    finally:
        cluster.close(keep_files=tap.failed > 0)
    tap.note(f"{name}: done")
    sys.exit(1 if tap.failed else 0)


def make_load(tap, cluster, seed, count, bad_of_each, rows, seconds):
    """Written in the two first regions; a third one only reads."""
    now_ms = int(time.time() * 1000)
    schema_ids = {region: cluster.schema_ids[region] for region in WRITERS}
    planner = Planner(seed, now_ms, cluster.collections, schema_ids, PARTITIONS, rows)
    sends = planner.plan(count, bad_of_each)
    bad = sum(send.reason is not None for send in sends)
    tap.note(f"plan of seed {seed}: {len(sends)} records, {bad} of them bad, over {seconds} s")
    brokers = {region: cluster.regions[region].kafka for region in WRITERS}
    return Load(sends, brokers, rawlog.CDC_TOPIC, seconds)


def open_logs(cluster):
    return {name: open_log(cluster, name) for name in cluster.regions}


def open_log(cluster, region):
    return rawlog.RawLog(region, cluster.peers_of(region), cluster.regions[region].kafka)


def settle(tap, cluster, logs, name):
    """Waits until every change is everywhere and committed past."""
    tap.check(name, rawlog.wait_settled(logs, cluster.application, SETTLE_SECONDS, cluster.check_alive))


def verify_rows(tap, cluster, log):
    """Every Milvus against what the oracle computes from one region's raw topics."""
    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    expected = Oracle(cluster.collections, schemas).expect(log)
    for region in cluster.regions.values():
        for spec in cluster.collections:
            tap.check(
                f"Milvus {region.name} holds exactly the oracle's {len(expected.rows[spec.name])} rows of {spec.name}",
                verifier.compare_rows(region.name, spec, expected.rows[spec.name]),
            )


def verify(tap, cluster, load, logs):
    """Waits until all is settled, then holds Milvus and the dead letters against the oracle; returns its words."""
    unsettled = rawlog.wait_settled(logs, cluster.application, SETTLE_SECONDS, cluster.check_alive)
    tap.check("every change is mirrored, and committed offsets have passed the last one", unsettled)
    tap.note("settled" if not unsettled else f"not settled within {SETTLE_SECONDS} s")

    schemas = Schemas({region.name: region.registry for region in cluster.regions.values()})
    oracle = Oracle(cluster.collections, schemas)
    expected = {name: oracle.expect(log) for name, log in logs.items()}
    rows = sum(len(rows) for rows in expected["us"].rows.values())
    tap.note(f"oracle: {rows} rows in us, dead letters {({n: len(e.dead_letters) for n, e in expected.items()})}")
    tap.check("the oracle refuses exactly the generator's bad records", own_refusals_differ(expected, load))
    tap.check("the oracle expects the same rows in both regions", expected_rows_differ(expected))
    tap.check(
        "keyless and mis-keyed changes were re-appended under their keys",
        [line for each in expected.values() for line in each.not_rekeyed],
    )
    for region in cluster.regions.values():
        for spec in cluster.collections:
            tap.check(
                f"Milvus {region.name} holds exactly the oracle's rows of {spec.name}",
                verifier.compare_rows(region.name, spec, expected[region.name].rows[spec.name]),
            )
        tap.check(
            f"dead letters of {region.name} are exactly the bad records, each with its reason",
            verifier.compare_dead_letters(
                region.name,
                region.kafka,
                f"{cluster.application}-dead-letter",
                expected[region.name].dead_letters,
            ),
        )
    return expected


def own_refusals_differ(expected, load):
    """In the topics the generator wrote itself, against its own notes."""
    by_oracle = {
        (region, partition, offset): reason
        for region, each in expected.items()
        for (topic, partition, offset), reason in each.dead_letters.items()
        if topic == rawlog.CDC_TOPIC
    }
    return [
        f"{coordinate}: {by_oracle.get(coordinate)} by the oracle, {load.refused.get(coordinate)} by the generator"
        for coordinate in sorted(by_oracle.keys() | load.refused.keys())
        if by_oracle.get(coordinate) != load.refused.get(coordinate)
    ]


def expected_rows_differ(expected):
    us, eu = expected["us"].rows, expected["eu"].rows
    return [
        f"{collection}: {key!r} differs"
        for collection in us
        for key in us[collection].keys() | eu[collection].keys()
        if us[collection].get(key) != eu[collection].get(key)
    ]

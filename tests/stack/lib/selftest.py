#!/usr/bin/env python3
"""Checks the oracle's own pieces, and what lag is judged by, without any server: `python tests/stack/lib/selftest.py`."""

import random
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastavro
from lib import generator, lag, oracle, wire
from lib.rawlog import Record
from lib.tap import Tap

NOW_MS = 1_760_000_000_000
PRODUCTS = wire.CollectionSpec("products", "uuid", 4, "l2")
NUMBERS = wire.CollectionSpec("numbers", "int64", 4, "l2")
NOTES = wire.CollectionSpec("notes", "text", 4, "l2", 64)
SCHEMA_IDS = {"eu": {"current": 7, "newer": 8}, "us": {"current": 1, "newer": 2}}
PARTITIONS = 12


class KnownSchemas:
    """The registries' answers, without registries."""

    def get(self, region, schema_id):
        names = {number: name for name, number in SCHEMA_IDS[region].items()}
        schema = {"current": wire.current_schema(), "newer": wire.newer_schema()}.get(names.get(schema_id))
        return schema and fastavro.parse_schema(schema)


class FixedLog:
    """Records as if they had been read from the own topic of `us`."""

    region, partition_count = "us", PARTITIONS

    def __init__(self, records):
        self.records = records

    def all_records(self):
        return self.records

    def origin_of(self, _topic):
        return self.region


def murmur2_agrees_with_kafka():
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    hashes = {text: struct.unpack("i", struct.pack("I", wire.murmur2(text)))[0] for text in known}
    return [f"{text}: {hashes[text]}, expected {known[text]}" for text in known if hashes[text] != known[text]]


def xxh3_agrees_with_its_reference():
    # From xxHash's own sanity test: the empty input, seed 0.
    found = wire.content_hash(b"\0\0\0\0\7")
    return [] if found == 0x2D06800538D394C2 else [f"{found:#x}"]


def versions_are_ordered_as_designed():
    def rank(hlc, origin, sequence, value=b"\0\0\0\0\1body"):
        return oracle.rank_of({"timestamp": hlc, "origin": origin, "sequence": sequence}, value)

    ascending = [
        rank(1, "us", -1),
        rank(2, "eu", 5),
        rank(2, "us", 5),
        rank(2, "us", -1),  # unsigned: the largest sequence of all
        rank(3, "a", 0),
    ]
    differences = [] if ascending == sorted(ascending) else ["hlc, then origin, then unsigned sequence"]
    if rank(1, "us", 1, b"\0\0\0\0\1body") != rank(1, "us", 1, b"\0\0\0\0\2body"):
        differences.append("the schema id is part of the content")
    return differences


def json_timestamps_are_told_apart():
    ms = NOW_MS - 3_000
    cases = {
        ms: wire.hlc(ms),
        ms << 18 | 5: wire.hlc(ms, 5),
        ms << 18 | 200_000: wire.hlc(ms, 65_535),
        wire.hlc(ms, 9): wire.hlc(ms, 9),
    }
    found = {stamp: wire.hlc_of_json_timestamp(stamp, NOW_MS) for stamp in cases}
    return [f"{stamp}: {found[stamp]}, expected {cases[stamp]}" for stamp in cases if found[stamp] != cases[stamp]]


def ids_are_judged_by_their_bytes():
    good = [
        (PRODUCTS, "0a6c0d3c-5a1f-4a52-9a3e-0f6d0b6d7c11"),
        (NUMBERS, "0"),
        (NUMBERS, "-9223372036854775808"),
        (NOTES, "é" * 32),
    ]
    bad = [(PRODUCTS, "0A6C0D3C-5a1f-4a52-9a3e-0f6d0b6d7c11"), (PRODUCTS, "")]
    bad += [(NUMBERS, text) for text in ("", "007", "+5", "-0", "9223372036854775808", "٣")]
    bad += [(NOTES, ""), (NOTES, "é" * 33)]
    differences = [f"{spec.id_kind} {text!r} refused" for spec, text in good if not wire.is_canonical_id(spec, text)]
    return differences + [f"{spec.id_kind} {text!r} taken" for spec, text in bad if wire.is_canonical_id(spec, text)]


def admission_includes_its_bounds():
    judge = oracle.Oracle([PRODUCTS], KnownSchemas()).judge_header
    planner = new_planner(1)
    row = planner.rows[0]

    def verdict(age_ms):
        value = planner._value(planner._change("us", row, wire.hlc(NOW_MS - age_ms)))
        try:
            judge(Record("vector-cdc", 0, 0, NOW_MS, b"", value, {}), "us")
        except oracle.Refused as refused:
            return str(refused)
        return "good"

    cases = {-60_001: "early", -60_000: "good", 3_600_000: "good", 3_600_001: "late"}
    return [f"{age} ms: {verdict(age)}" for age, wanted in cases.items() if verdict(age) != wanted]


def equal_seeds_give_equal_plans():
    def plan(seed):
        return new_planner(seed).plan(2_000, 1)

    differences = [] if plan(1) == plan(1) else ["seed 1 gives two plans"]
    return differences + (["seeds 1 and 2 give one plan"] if plan(1) == plan(2) else [])


def oracle_agrees_with_the_generator_whatever_the_order():
    planner = new_planner(3, [PRODUCTS, NUMBERS, NOTES])
    sends = [send for send in planner.plan(6_000, 3) if send.region == "us"]
    records = [record_of(number, send) for number, send in enumerate(sends)]
    judge = oracle.Oracle([PRODUCTS, NUMBERS, NOTES], KnownSchemas())
    expected = judge.expect(FixedLog(records))
    reasons = {("vector-cdc", record_of(n, s).partition, n): s.reason for n, s in enumerate(sends) if s.reason}
    differences = []
    if expected.dead_letters != reasons:
        for key in expected.dead_letters.keys() | reasons.keys():
            if expected.dead_letters.get(key) != reasons.get(key):
                differences.append(f"{key}: {expected.dead_letters.get(key)}, generator says {reasons.get(key)}")
    random.Random(4).shuffle(records)
    if judge.expect(FixedLog(records)).rows != expected.rows:
        differences.append("the rows depend on the order of arrival")
    without_key = {send.value for send in sends if send.kind in ("json", "misdirected")}
    wanted = sum(send.value in without_key for send in sends)  # duplicates among them
    if not 0 < len(expected.not_rekeyed) <= wanted:
        differences.append(f"{len(expected.not_rekeyed)} records count as not re-appended, generator made {wanted}")
    return differences


def shares_are_what_the_issue_asks_for():
    sends = [send for send in new_planner(5).plan(20_000, 1) if send.reason is None]
    least = {"duplicate": 0.195, "stale": 0.195, "delete": 0.05, "conflict": 0.01}
    found = {kind: sum(send.kind == kind for send in sends) / len(sends) for kind in least}
    return [f"{kind}: {found[kind]:.3f}" for kind in least if found[kind] < least[kind]]


def lag_is_judged_by_when_rows_were_found():
    """Against a worker that reports by the rule, as of its last word, and one that is off by 60 ms."""
    draw = random.Random(6)
    acknowledged = [(at, at + draw.uniform(0.03, 0.09)) for at in (number / 10 for number in range(150))]
    questions = [number * 0.02 for number in range(800)]
    rows = [found(appended, at, draw.uniform(0.02, 0.06)) for appended, at in acknowledged]
    looks = [0.13 + 0.21 * number for number in range(70)]
    shown = [(at, at + 0.005, lag_by_the_rule(acknowledged, at // 0.2 * 0.2)) for at in looks]
    _, differences = lag.compared(rows, shown, questions)
    for wrong in (-0.06, 0.06):
        _, found_out = lag.compared(rows, [(began, ended, each + wrong) for began, ended, each in shown], questions)
        differences += [] if found_out else [f"{wrong} s more go unnoticed"]
    waits = lag.waiting([lag.Row(1, 4, 5, 5), lag.Row(2, 9, 10, 10)], 3.5, 4.5)
    return differences + ([] if waits == 1.5 else [f"what waits: {waits}"])


def found(appended, acknowledged, shown_after):
    """By questions every 20 ms, which Milvus answers as of the next tick, every 20 ms too."""
    asked = acknowledged // 0.02 * 0.02
    return lag.Row(appended, asked - 0.02, asked, acknowledged + shown_after)


def lag_by_the_rule(acknowledged, now):
    waiting = [now - appended for appended, at in acknowledged if appended <= now < at]
    lately = [at - appended for appended, at in acknowledged if now // 1 - 1 <= at // 1 and at <= now]
    return max(waiting + lately, default=0)


def new_planner(seed, collections=(PRODUCTS,)):
    return generator.Planner(seed, NOW_MS, list(collections), SCHEMA_IDS, PARTITIONS, rows=400)


def record_of(number, send):
    partition = send.partition if send.partition >= 0 else wire.partition_of(send.key or b"", PARTITIONS)
    return Record("vector-cdc", partition, number, NOW_MS, send.key, send.value, {})


def main():
    tap = Tap()
    for test in (
        murmur2_agrees_with_kafka,
        xxh3_agrees_with_its_reference,
        versions_are_ordered_as_designed,
        json_timestamps_are_told_apart,
        ids_are_judged_by_their_bytes,
        admission_includes_its_bounds,
        equal_seeds_give_equal_plans,
        oracle_agrees_with_the_generator_whatever_the_order,
        shares_are_what_the_issue_asks_for,
        lag_is_judged_by_when_rows_were_found,
    ):
        tap.check(f"self-test: {test.__name__.replace('_', ' ')}", test())
    sys.exit(1 if tap.failed else 0)


if __name__ == "__main__":
    main()

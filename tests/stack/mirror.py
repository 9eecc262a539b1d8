#!/usr/bin/env python3
"""The stack itself: what MirrorMaker, the link and the registries do, on which all other tests rest.

Fault f36: nothing is mirrored back."""

import json
import os
import socket
import time
import urllib.request
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

US, EU = os.environ["DRIFTLESS_US_KAFKA"], os.environ["DRIFTLESS_EU_KAFKA"]
PARTITIONS = 3
RETENTION_MS, MIRROR_RETENTION_MS = "259200000", "1209600000"
# A topic of this run alone, which MirrorMaker's filter lets through.
TOPIC = f"vector-cdc-{uuid.uuid4().hex[:8]}"
SECONDS_MAX = 60
PRODUCERS = {kafka: Producer({"bootstrap.servers": kafka, "linger.ms": 0}) for kafka in (US, EU)}
ADMINS = {kafka: AdminClient({"bootstrap.servers": kafka}) for kafka in (US, EU)}


def check(name, good, detail=""):
    print(f"{'ok' if good else 'not ok'} - {name}" + (f" ({detail})" if detail else ""), flush=True)


def link(command):
    host, port = os.environ["DRIFTLESS_LINK_CTL"].split(":")
    with socket.create_connection((host, int(port))) as control:
        control.sendall(command.encode() + b"\n")
        return json.loads(control.makefile().readline())


def eventually(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result


def create_topic(kafka, topic, **config):
    [done] = ADMINS[kafka].create_topics([NewTopic(topic, PARTITIONS, 1, config=config)]).values()
    done.result()


def topics(kafka):
    return ADMINS[kafka].list_topics(timeout=10).topics


def settings(kafka, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    [done] = ADMINS[kafka].describe_configs([resource]).values()
    return {name: entry.value for name, entry in done.result().items()}


def reader(kafka, topic):
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "mirror-test", "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    return consumer


def read(consumer, count, seconds_max=SECONDS_MAX):
    deadline = time.monotonic() + seconds_max
    messages = []
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            messages.append(message)
    return messages


def write(kafka, values):
    for value in values:
        PRODUCERS[kafka].produce(TOPIC, value, key=value, headers=[("h", b"1")])
    PRODUCERS[kafka].flush(10)


def mirror_is_faithful():
    # As `driftless topics create` does it: the mirrors first, with a retention of their own.
    sides = ((EU, US, "us"), (US, EU, "eu"))
    for here, _, source in sides:
        create_topic(here, f"{source}.{TOPIC}", **{"retention.ms": MIRROR_RETENTION_MS})
    for here, _, _ in sides:
        config = {"message.timestamp.type": "LogAppendTime", "retention.ms": RETENTION_MS}
        # No default, so that it must arrive at the mirror: then settings have been synchronised.
        create_topic(here, TOPIC, **config, **{"max.message.bytes": "2000000"})
    for here, there, source in sides:
        mirror = f"{source}.{TOPIC}"

        def synchronised():
            return settings(here, mirror)["max.message.bytes"] == "2000000"

        check(f"{source}'s mirror follows other settings", eventually(synchronised))
        found = settings(here, mirror)
        check(f"{source}'s mirror stays CreateTime", found["message.timestamp.type"] == "CreateTime")
        check(f"{source}'s mirror keeps its own retention", found["retention.ms"] == MIRROR_RETENTION_MS)

        sent = [b"%s-%d" % (source.encode(), i) for i in range(300)]
        write(there, sent)
        original = read(reader(there, TOPIC), len(sent))
        copy = read(reader(here, mirror), len(sent))

        def content(messages):
            return sorted(
                (m.partition(), m.offset(), m.key(), m.value(), m.timestamp()[1], m.headers())
                for m in messages
            )

        same = len(copy) == len(sent) and content(original) == content(copy)
        check(f"{source}'s mirror holds the same bytes, offsets, times and headers", same)
    echoes = [t for kafka in (US, EU) for t in topics(kafka) if t.startswith(("us.eu.", "eu.us."))]
    check("nothing is mirrored back", not echoes, " ".join(echoes))


def link_delays_and_cuts():
    consumer = reader(EU, f"us.{TOPIC}")
    read(consumer, 300)

    def seconds_to_arrive(value):
        begin = time.monotonic()
        write(US, [value])
        arrived = read(consumer, 1)
        return time.monotonic() - begin if arrived and arrived[0].value() == value else None

    def median_ms():
        samples = sorted(seconds_to_arrive(b"timed") or SECONDS_MAX for _ in range(15))
        return samples[len(samples) // 2] * 1000

    near = (link("delay 0 us"), median_ms())[1]
    far = (link("delay 100 us"), median_ms())[1]
    link("delay 30 us")
    usual = median_ms()
    # A fetch is answered over the link, so it takes one way at least; the request may have waited
    # at the broker already.
    check("a delay of 100 ms is felt", far - near > 80, f"p50 {near:.0f}, {usual:.0f}, {far:.0f} ms at 0, 30, 100")

    link("cut us")
    write(US, [b"during the cut"])
    check("nothing passes a cut link", read(consumer, 1, seconds_max=3) == [])
    begin = time.monotonic()
    link("heal us")
    healed = read(consumer, 1)
    took = f"{time.monotonic() - begin:.1f} s"
    check("a healed link brings what was written meanwhile", [m.value() for m in healed] == [b"during the cut"], took)


def registries_give_different_ids():
    ids = []
    for region in ("US", "EU"):
        url = f"{os.environ[f'DRIFTLESS_{region}_REGISTRY']}/subjects/{TOPIC}-value/versions"
        schema = {"type": "record", "name": "T" + TOPIC.replace("-", ""), "fields": [{"name": "x", "type": "long"}]}
        request = urllib.request.Request(
            url,
            json.dumps({"schema": json.dumps(schema)}).encode(),
            {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        ids.append(json.load(urllib.request.urlopen(request))["id"])
    check("one schema has different ids in the two registries", ids[0] != ids[1], f"us {ids[0]}, eu {ids[1]}")


mirror_is_faithful()
link_delays_and_cuts()
registries_give_different_ids()

"""Changelogs compacted as nobody should: at once, and without memory of what was deleted."""

import time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from .rawlog import TopicTail

HARD = {
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "1000",
}
COMPACTED_SECONDS_MAX = 180


def changelogs_of(cluster):
    return [f"{cluster.application}-{kind}-changelog" for kind in ("versions", "vectors")]


def compact(regions, topics, write, left):
    """Until `left()` is empty, which it answers with. The cleaner leaves a log's newest segment alone, so `write()` puts
    something behind what it is to clean."""
    usual = {region.name: configure(region, topics, HARD) for region in regions}
    deadline = time.monotonic() + COMPACTED_SECONDS_MAX
    try:
        while True:
            write()
            time.sleep(2)
            if not (lines := left()) or time.monotonic() > deadline:
                return lines
    finally:
        for region in regions:
            configure(region, topics, usual[region.name])


def configure(region, topics, wanted):
    """Sets them; answers with what they were."""
    admin = AdminClient({"bootstrap.servers": region.kafka})
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    found = admin.describe_configs(resources)
    before = {name: found[resources[0]].result()[name].value for name in wanted}
    for topic in topics:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for change in admin.incremental_alter_configs([resource]).values():
            change.result()
    return before


def keys_of(region, topics):
    """The keys of all records, in the order of each partition."""
    tail = TopicTail(region.kafka, topics)
    try:
        read_to_the_end(tail)
        return [record.key for record in tail.all_records() if record.key]
    finally:
        tail.close()


def read_to_the_end(tail):
    """A compacted log ends in holes: by position, not by the last record."""
    ends = {each: end for each, (first, end) in tail.ends().items() if first < end}
    deadline = time.monotonic() + 60
    while ends:
        for message in tail.consumer.consume(5_000, timeout=0.5):
            if not message.error():
                tail.take(message)
        for position in tail.consumer.position([TopicPartition(*each) for each in ends]):
            if position.offset >= ends[position.topic, position.partition]:
                del ends[position.topic, position.partition]
        if time.monotonic() > deadline:
            raise TimeoutError(f"the changelogs are not read to their ends: {ends}")

"""The raw topics of one region, read with a plain client: what the oracle judges and what `settled` means."""

import time
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from . import wire

CDC_TOPIC = "vector-cdc"
POLL_SECONDS = 1.0
# What a client is told while brokers are killed and started; it reads on by itself.
PASSING_ERRORS = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT}


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict


def mirror_of(region):
    return f"{region}.{CDC_TOPIC}"


class TopicTail:
    """All records of some topics of one cluster; `catch_up` reads on to their present ends."""

    def __init__(self, bootstrap, topics):
        self.bootstrap = bootstrap
        self.consumer = self._connect()
        self.partitions = []
        for topic in topics:
            metadata = self.consumer.list_topics(topic, timeout=10).topics[topic]
            if metadata.error:
                raise KafkaException(metadata.error)
            self.partitions += [(topic, partition) for partition in sorted(metadata.partitions)]
        self.next_offset = dict.fromkeys(self.partitions, 0)
        self.records = {each: [] for each in self.partitions}
        self._assign()

    def _connect(self):
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "stack-test-oracle",  # never joined: partitions are assigned by hand
                "enable.auto.commit": False,
                # Where a test has deleted records that were not read yet.
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
            }
        )

    def _assign(self):
        self.consumer.assign([TopicPartition(*each, self.next_offset[each] or OFFSET_BEGINNING) for each in self.partitions])

    def ends(self):
        """{(topic, partition): (first offset kept, end offset)}"""
        try:
            return {
                each: self.consumer.get_watermark_offsets(TopicPartition(*each), timeout=10)
                for each in self.partitions
            }
        except KafkaException:
            # A broker that is starting may have told this client of topics and no brokers. Then it has nobody left to
            # ask, for ever (librdkafka's issue 5301): only another client goes on.
            self.consumer.close()
            self.consumer = self._connect()
            self._assign()
            raise

    def catch_up(self, deadline_seconds=60):
        ends = self.ends()
        deadline = time.monotonic() + deadline_seconds
        while any(first < end and self.next_offset[each] < end for each, (first, end) in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"topics not read to their ends within {deadline_seconds} s")
            for message in self.consumer.consume(5_000, timeout=0.2):
                if not message.error():
                    self.take(message)
                elif message.error().code() not in PASSING_ERRORS:
                    raise KafkaException(message.error())

    def all_records(self):
        return [record for records in self.records.values() for record in records]

    def close(self):
        self.consumer.close()

    def take(self, message):
        source = message.topic(), message.partition()
        self.next_offset[source] = message.offset() + 1
        if (message.key() or b"").startswith(wire.HEARTBEAT_KEY_PREFIX):
            return
        _, appended_at_ms = message.timestamp()
        headers = {name: value.decode() for name, value in message.headers() or []}
        self.records[source].append(
            Record(*source, message.offset(), appended_at_ms, message.key(), message.value(), headers)
        )


class RawLog(TopicTail):
    """A region's own change topic and its mirrors of the peers'."""

    def __init__(self, region, peers, bootstrap):
        super().__init__(bootstrap, [CDC_TOPIC] + [mirror_of(peer) for peer in peers])
        self.region = region
        self.peers = peers
        self.partition_count = sum(topic == CDC_TOPIC for topic, _ in self.partitions)

    def origin_of(self, topic):
        return self.region if topic == CDC_TOPIC else topic.removesuffix(f".{CDC_TOPIC}")

    def committed(self, group):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False})
        try:
            found = consumer.committed([TopicPartition(*each) for each in self.partitions], timeout=10)
            return {(each.topic, each.partition): each.offset for each in found}
        finally:
            consumer.close()


def unmirrored(logs):
    """Of each (source, destination): partitions whose last change has not arrived. MM2 keeps their order."""
    missing = []
    for source in logs.values():
        for destination in (log for log in logs.values() if log is not source):
            for partition in range(source.partition_count):
                own = source.records[CDC_TOPIC, partition]
                mirrored = destination.records[mirror_of(source.region), partition]
                if own and not any(same_record(own[-1], copy) for copy in reversed(mirrored)):
                    way = f"{source.region} → {destination.region}"
                    missing.append(f"{way}: partition {partition} offset {own[-1].offset} not mirrored")
    return missing


def same_record(record, copy):
    return (record.appended_at_ms, record.key, record.value) == (copy.appended_at_ms, copy.key, copy.value)


def uncommitted(log, group, targets):
    """Where the group's committed offset lies before the target offset."""
    committed = log.committed(group)
    return [
        f"{log.region}: {topic}[{partition}] committed {committed[topic, partition]} of {target}"
        for (topic, partition), target in targets.items()
        if committed[topic, partition] < target
    ]


def wait_settled(logs, group, deadline_seconds, still_alive):
    """Until every change is mirrored and committed past in every region; returns what still is not by the deadline."""
    return wait_until_empty(lambda: changes_unsettled(logs, group), deadline_seconds, still_alive)


def wait_committed(logs, group, deadline_seconds, still_alive):
    """Until everything that is there now, heartbeats too, is committed past."""
    targets = {name: {each: end for each, (_, end) in log.ends().items()} for name, log in logs.items()}

    def behind():
        return [line for name, log in logs.items() for line in uncommitted(log, group, targets[name])]

    return wait_until_empty(behind, deadline_seconds, still_alive)


def wait_until_empty(waiting_for, deadline_seconds, still_alive):
    deadline = time.monotonic() + deadline_seconds
    while True:
        still_alive()
        waiting = waiting_for()
        if not waiting or time.monotonic() > deadline:
            return waiting
        time.sleep(POLL_SECONDS)


def changes_unsettled(logs, group):
    seen = read_on(logs)
    waiting = unmirrored(logs)
    for log in logs.values():
        targets = {each: records[-1].offset + 1 for each, records in log.records.items() if records}
        waiting += uncommitted(log, group, targets)
    if not waiting and read_on(logs) != seen:
        waiting = ["changes were appended while the offsets were read"]
    return waiting


def read_on(logs):
    for log in logs.values():
        log.catch_up()
    return sum(len(records) for log in logs.values() for records in log.records.values())

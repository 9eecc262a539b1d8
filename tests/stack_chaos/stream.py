"""Load that goes on until it is told to stop: the plans of `lib.generator`, one short chunk after the other."""

import threading
import time

import xxhash
from confluent_kafka import Producer
from lib import rawlog
from lib.cluster import PARTITIONS
from lib.generator import Planner

CHUNK_SECONDS = 4
ROWS = 3_000
# Kept for longer than any fault lasts: nothing is given up, so nothing is missing from what the oracle reads.
DELIVERY_MS_MAX = 600_000
BAD_EVERY_CHUNKS = 5  # one of every kind of bad record, in each region


class Stream:
    def __init__(self, cluster, seed, changes_per_second):
        self.per_chunk = changes_per_second * CHUNK_SECONDS
        self.planner = Planner(
            seed, 0, cluster.collections, cluster.schema_ids, PARTITIONS, ROWS, span_ms=CHUNK_SECONDS * 1000
        )
        self.refused = {}  # (region, partition, offset) -> the reason that must be given
        self.acknowledged = {region: {} for region in cluster.regions}  # {(partition, offset): hash of the value}
        self.written = 0
        self.errors = []
        self.producers = {region.name: self._producer(region.kafka) for region in cluster.regions.values()}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def acks(self, region):
        return len(self.acknowledged[region])

    def stop(self):
        """Ends the load; returns what Kafka did not take."""
        self.stopping.set()
        self.thread.join()
        for region, producer in self.producers.items():
            left = producer.flush(120)
            if left:
                self.errors.append(f"{left} records not acknowledged by {region}")
        return self.errors

    def _producer(self, bootstrap):
        return Producer({
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.timeout.ms": DELIVERY_MS_MAX,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
        })  # fmt: skip

    def _run(self):
        try:
            chunk = 0
            while not self.stopping.is_set():
                # Stamped as it is sent, as a live producer does it.
                began = time.monotonic()
                self.planner.base_ms = int((time.time() + CHUNK_SECONDS) * 1000)
                sends = self.planner.plan(self.per_chunk, 1 if chunk % BAD_EVERY_CHUNKS == 0 else 0)
                for number, send in enumerate(sends):
                    due = began + number / len(sends) * CHUNK_SECONDS
                    while (early := due - time.monotonic()) > 0:
                        self._poll(min(early, 0.05))
                    self._send(send)
                chunk += 1
        except Exception as error:  # A thread's exception is seen by nobody else.
            self.errors.append(repr(error))

    def _poll(self, seconds):
        for producer in self.producers.values():
            producer.poll(seconds / len(self.producers))

    def _send(self, send):
        producer = self.producers[send.region]
        producer.produce(rawlog.CDC_TOPIC, send.value, send.key, send.partition, on_delivery=self._noting(send))
        self.written += 1
        producer.poll(0)

    def _noting(self, send):
        def delivered(error, message):
            if error:
                self.errors.append(f"{send.region}: {error}")
                return
            coordinate = message.partition(), message.offset()
            self.acknowledged[send.region][coordinate] = hash_of(send.value)
            if send.reason:
                self.refused[send.region, *coordinate] = send.reason

        return delivered


def hash_of(value):
    return None if value is None else xxhash.xxh3_64_intdigest(value)


def acknowledged_and_missing(stream, logs):
    """What Kafka acknowledged and does not have, or has otherwise."""
    missing = []
    for region, acknowledged in stream.acknowledged.items():
        there = {
            (record.partition, record.offset): hash_of(record.value)
            for record in logs[region].all_records()
            if record.topic == rawlog.CDC_TOPIC
        }
        missing += [
            f"{region}: partition {partition} offset {offset} is {'another record' if (partition, offset) in there else 'missing'}"
            for (partition, offset), value in acknowledged.items()
            if there.get((partition, offset), "nothing") != value
        ]
    return missing

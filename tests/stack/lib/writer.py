"""Single changes of one collection, as a test wants them."""

import time

import fastavro
from confluent_kafka import Producer

from . import wire
from .rawlog import CDC_TOPIC


class Writer:
    """Writes to a region as applications do; remembers what it wrote."""

    def __init__(self, cluster, spec, region):
        self.spec, self.region = spec, region
        self.schema = fastavro.parse_schema(wire.current_schema())
        self.schema_id = cluster.schema_ids[region]["current"]
        settings = {"bootstrap.servers": cluster.regions[region].kafka, "acks": "all", "partitioner": "murmur2_random"}
        self.producer = Producer(settings)
        self.sequence = 0
        self.written = []  # (partition, key, value, append time in ms)

    def write(self, op, ids):
        for vector_id in ids:
            self.sequence += 1
            change = {
                "op": op,
                "timestamp": wire.hlc(int(time.time() * 1000)),
                "origin": self.region,
                "sequence": self.sequence,
                "collection": self.spec.name,
                "vector_id": vector_id,
                "vector": [self.sequence % 97 / 97] * self.spec.dimension if op == "UPSERT" else [],
                "metadata": {},
            }
            value = wire.frame(self.schema_id, wire.avro_body(self.schema, change))
            self.producer.produce(CDC_TOPIC, value, vector_id, on_delivery=self._note)
            self.producer.poll(0)
        if self.producer.flush(30):
            raise TimeoutError(f"{self.region} has not taken all within 30 s")

    def _note(self, error, message):
        if error:
            raise RuntimeError(f"not written: {error}")
        self.written.append((message.partition(), message.key(), message.value(), message.timestamp()[1]))

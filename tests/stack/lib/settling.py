"""How long after a fault everything written before its end is settled everywhere, while the load goes on."""

import time

from confluent_kafka import KafkaException

from . import rawlog

POLL_SECONDS = 0.5


class Settling:
    """What each region's own topic holds at one moment, until all of it is mirrored and committed past everywhere."""

    def __init__(self, logs, group):
        self.logs = logs
        self.group = group
        read_on(logs)
        self.waiting = []  # (source, destination, the last record of a partition of the source)
        for source, log in logs.items():
            for partition in range(log.partition_count):
                records = log.records[rawlog.CDC_TOPIC, partition]
                if records:
                    self.waiting += [(source, destination, records[-1]) for destination in logs]

    def unsettled(self):
        """What is still to come, as text."""
        read_on(self.logs)
        committed = {region: log.committed(self.group) for region, log in self.logs.items()}
        self.waiting = [waiting for waiting in self.waiting if not self._is_settled(*waiting, committed)]
        return [
            f"{source} → {destination}: partition {record.partition} at {record.offset}"
            for source, destination, record in self.waiting
        ]

    def _is_settled(self, source, destination, record, committed):
        topic, copy = rawlog.CDC_TOPIC, record
        if source != destination:
            topic = rawlog.mirror_of(source)
            copies = reversed(self.logs[destination].records[topic, record.partition])
            copy = next((copy for copy in copies if rawlog.same_record(record, copy)), None)
        return copy is not None and committed[destination][topic, record.partition] > copy.offset


def read_on(logs):
    for log in logs.values():
        log.catch_up()


def wait_settled(logs, group, seconds_max, still_alive):
    """(seconds it took, what is unsettled at the deadline)."""
    began = time.monotonic()
    settling = None
    while True:
        still_alive()
        try:
            settling = settling or Settling(logs, group)
            left = settling.unsettled()
        except (KafkaException, TimeoutError) as error:
            left = [f"a broker does not answer yet: {error}"]
        took = time.monotonic() - began
        if not left or took > seconds_max:
            return took, left
        time.sleep(POLL_SECONDS)

"""What the benchmark asks of Kafka itself: topics' ends, what a group has committed, and to forget what is done with."""

import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType,
)

GONE_SECONDS = 30


class Kafka:
    def __init__(self, servers):
        self.servers = servers
        self.admin = AdminClient({"bootstrap.servers": servers, "log_level": 3})

    def forget_quickly(self):
        """A deleted topic's files stay for a minute otherwise: a disk of many rounds."""
        wanted = ConfigEntry("log.segment.delete.delay.ms", "1000", incremental_operation=AlterConfigOpType.SET)
        for broker in self.admin.list_topics(timeout=10).brokers:
            resource = ConfigResource(ResourceType.BROKER, str(broker), incremental_configs=[wanted])
            for done in self.admin.incremental_alter_configs([resource]).values():
                done.result()

    def topics(self):
        return self.admin.list_topics(timeout=10).topics

    def partitions(self, topic):
        return [TopicPartition(topic, partition) for partition in self.topics()[topic].partitions]

    def ends(self, partitions):
        """End offset of each, in one request."""
        asked = self.admin.list_offsets({each: OffsetSpec.latest() for each in partitions}, request_timeout=10)
        return {(each.topic, each.partition): answer.result().offset for each, answer in asked.items()}

    def end_sum(self, partitions):
        return sum(self.ends(partitions).values())

    def committed(self, group, partitions):
        """Committed offset of each; 0 where there is none."""
        request = [ConsumerGroupTopicPartitions(group, partitions)]
        answer = self.admin.list_consumer_group_offsets(request)[group].result()
        return {(each.topic, each.partition): max(each.offset, 0) for each in answer.topic_partitions}

    def delete(self, names):
        """Returns once no broker knows them any more."""
        names = [name for name in names if name in self.topics()]
        if not names:
            return
        for done in self.admin.delete_topics(names).values():
            done.result()
        deadline = time.monotonic() + GONE_SECONDS
        while left := [name for name in names if name in self.topics()]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"deleted {GONE_SECONDS} s ago and still there: {left}")
            time.sleep(0.1)

    def forget(self, application):
        """Its topics, and its group, which must have no member any more or time out by itself."""
        self.delete([name for name in self.topics() if name.startswith(f"{application}-")])
        for done in self.admin.delete_consumer_groups([application]).values():
            try:
                done.result()
            except KafkaException:
                pass  # Members that were killed are in it until their session ends; it costs nothing.

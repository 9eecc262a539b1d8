//! A look at the group through its coordinator (DescribeGroups).

use super::error::kafka_error;
use super::native::{DescribedMember, describe_group};
use super::rebalance::log_line;
use super::revival::Revival;
use super::settings::{KafkaSettings, unusable};
use crate::base::error::Result;
use crate::base::ids::TopicPartition;
use crate::port::group::{GroupMember, GroupView};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// For one question to the coordinator.
const PATIENCE: Duration = Duration::from_secs(5);

/// Members of one process have one client id, and no other process has it ([`KafkaSettings::client_id`]).
pub struct KafkaGroupView {
    consumer: BaseConsumer<ViewContext>,
    group: String,
    revival: Revival,
}

/// What goes wrong comes back from the call that asks.
struct ViewContext;

impl KafkaGroupView {
    pub fn new(settings: &KafkaSettings) -> Result<Self> {
        let consumer = settings.log_reader()?.create_with_context(ViewContext).map_err(|error| unusable(&error))?;
        Ok(Self { consumer, group: settings.application_id.clone(), revival: settings.revival()? })
    }
}

impl GroupView for KafkaGroupView {
    fn members(&mut self) -> Result<Option<Vec<GroupMember>>> {
        // Lets librdkafka deliver its log lines; nothing is subscribed to.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        match describe_group(&self.consumer, &self.group, PATIENCE) {
            Ok(found) => Ok(found.is_stable.then(|| found.members.into_iter().map(member).collect())),
            // Nobody has joined yet.
            Err(RDKafkaErrorCode::GroupIdNotFound) => Ok(None),
            Err(code) => {
                // It rests between its questions, and finds out by asking in vain that its brokers have gone.
                self.revival.revive(self.consumer.client());
                Err(kafka_error(code, &format!("asking for the members of group {}", self.group), ""))
            }
        }
    }
}

fn member(found: DescribedMember) -> GroupMember {
    let partitions = found.partitions.into_iter().map(|(topic, partition)| TopicPartition::new(topic, partition));
    GroupMember { id: found.id, process: found.client_id, partitions: partitions.collect() }
}

impl ConsumerContext for ViewContext {}

impl ClientContext for ViewContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the client that looks at the group reports a fault");
    }
}

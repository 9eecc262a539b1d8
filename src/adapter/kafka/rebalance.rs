//! The consumer's callbacks: what librdkafka tells us while it is polled.
//!
//! They run inside of `poll`, on the polling thread, and only note what happened. An assignment is answered at
//! once and with nothing: to own a partition and to fetch it are two things to librdkafka, and we fetch nothing
//! before we know from where. A revocation is left unanswered until the engine has let go: librdkafka waits for
//! the unassign call, goes on sending heartbeats, and keeps *all* partitions paused meanwhile.

use super::error::kafka_error;
use super::fetch_state::stopped_partitions;
use crate::base::error::Error;
use crate::base::ids::TopicPartition;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) enum Notice {
    Assigned(Vec<TopicPartition>),
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
    /// A snapshot of the statistics: the partitions whose fetcher does not run.
    Stopped(Vec<(std::sync::Arc<str>, i32)>),
    Fault(Error),
}

/// Statistics are looked at only after an error that means a partition has stopped, and that many times: the
/// first ones may have been taken before.
const SNAPSHOTS_AFTER_ERROR: u8 = 6;

#[derive(Default)]
struct State {
    notices: Vec<Notice>,
    /// Events served since the last look.
    served: bool,
    closing: bool,
    snapshots_due: u8,
    /// librdkafka's text for the error that the poll under way is about to return.
    reason: String,
}

#[derive(Default)]
pub(super) struct GroupContext {
    state: Mutex<State>,
}

impl GroupContext {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so the state is good even then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what has been noted to `notices`. True if any event was served since the last call: then a poll
    /// that returned nothing does not mean that the queue is empty.
    pub fn take(&self, notices: &mut Vec<Notice>) -> bool {
        let mut state = self.state();
        notices.append(&mut state.notices);
        std::mem::take(&mut state.served)
    }

    pub fn take_reason(&self) -> String {
        std::mem::take(&mut self.state().reason)
    }

    /// From now on revocations are answered by the callback itself, or closing would wait for ever.
    pub fn set_closing(&self) {
        self.state().closing = true;
    }

    fn answer_assign(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<()> {
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&TopicPartitionList::new()),
            _ => consumer.assign(&TopicPartitionList::new()),
        }
    }
}

/// Gives up everything that is being fetched, in answer to a revocation.
pub(super) fn unassign_all(consumer: &BaseConsumer<GroupContext>) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&consumer.assignment()?),
        _ => consumer.unassign(),
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<_> =
            list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect();
        let closing = self.state().closing;
        let answer = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let answer = self.answer_assign(consumer);
                self.state().notices.push(Notice::Assigned(partitions));
                answer
            }
            // With nothing to give up, nobody would ever release it.
            _ if closing || partitions.is_empty() => unassign_all(consumer),
            _ => {
                let lost = consumer.assignment_lost();
                self.state().notices.push(Notice::Revoked { partitions, lost });
                Ok(())
            }
        };
        let mut state = self.state();
        state.served = true;
        if let Err(error) = answer {
            state.notices.push(Notice::Fault(Error::fatal(format!("the group's assignment was not taken: {error}"))));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let mut state = self.state();
        state.served = true;
        if let Err(error) = result {
            tracing::debug!(%error, "offsets were not committed; the progress record rules");
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.state().served = true;
        log_line(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let mut state = self.state();
        state.served = true;
        if state.snapshots_due == 0 {
            return;
        }
        state.snapshots_due -= 1;
        match stopped_partitions(statistics) {
            Ok(stopped) => state.notices.push(Notice::Stopped(stopped)),
            Err(error) => tracing::warn!(%error, "librdkafka's statistics can't be read; a stopped partition may go unnoticed"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut state = self.state();
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            state.snapshots_due = SNAPSHOTS_AFTER_ERROR;
        }
        state.reason = reason.to_owned();
    }
}

/// The error that a poll returned.
pub(super) fn polled_error(consumer: &BaseConsumer<GroupContext>, error: &KafkaError) -> (RDKafkaErrorCode, Error) {
    let reason = consumer.context().take_reason();
    if let (KafkaError::MessageConsumptionFatal(_), Some((code, text))) = (error, consumer.client().fatal_error()) {
        return (RDKafkaErrorCode::Fatal, fatal(code, &text));
    }
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    (code, kafka_error(code, "Kafka consumer", &reason))
}

fn fatal(code: RDKafkaErrorCode, text: &str) -> Error {
    let error = kafka_error(code, "Kafka consumer", text);
    Error::new(crate::base::error::Remedy::Fatal, error)
}

/// librdkafka's log, as ours.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // All clients are given the same pass-through properties; each grumbles about those that are not for it.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

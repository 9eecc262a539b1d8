//! Reads single partitions by offset, outside of the group: restore, tails, look-ups.

use super::error::kafka_error;
use super::native::{Copier, PartitionCursor, Taken, describe_topic};
use super::rebalance::log_line;
use super::revival::Revival;
use super::settings::{KafkaSettings, unusable};
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::base::time::UnixMs;
use crate::port::log::{Bounds, LogReader, TopicDescription};
use crate::record::raw::RawRecord;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For one question to the brokers.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the next record of the opened partition.
const READ_PATIENCE: Duration = Duration::from_millis(20);

pub struct KafkaLogReader {
    consumer: Arc<BaseConsumer<ReaderContext>>,
    opened: Option<Opened>,
    copier: Copier,
    revival: Revival,
}

struct Opened {
    partition: TopicPartition,
    cursor: PartitionCursor<ReaderContext>,
    position: i64,
    /// Taken from librdkafka, which has moved on, and not yet given to the caller.
    taken: VecDeque<Taken>,
}

/// Keeps librdkafka's last word on why the brokers can't be reached, for the error of the call that then times out.
#[derive(Default)]
struct ReaderContext {
    trouble: Mutex<Option<String>>,
    served: AtomicBool,
}

impl KafkaLogReader {
    pub fn new(settings: &KafkaSettings) -> Result<Self> {
        let consumer = settings.log_reader()?.create_with_context(ReaderContext::default()).map_err(|error| unusable(&error))?;
        Ok(Self { consumer: Arc::new(consumer), opened: None, copier: Copier::default(), revival: settings.revival()? })
    }

    fn end_of(&self, partition: &TopicPartition, which: Offset) -> Result<i64> {
        let doing = format!("asking for the ends of {partition}");
        match self.ask_for(partition, which, &doing)? {
            Offset::Offset(offset) => Ok(offset),
            _ => Err(Error::retry(format!("{doing}: no answer for it; it is asked again"))),
        }
    }

    /// What the partition's leader answers to one question: `Beginning`, `End`, or a time in place of an offset.
    fn ask_for(&self, partition: &TopicPartition, question: Offset, doing: &str) -> Result<Offset> {
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(&partition.topic, partition.partition, question)
            .map_err(|error| self.failed(&error, doing))?;
        let answered = self.consumer.offsets_for_times(asked, PATIENCE).map_err(|error| self.failed(&error, doing))?;
        let answer = answered.find_partition(&partition.topic, partition.partition);
        let answer = answer.ok_or_else(|| Error::retry(format!("{doing}: no answer for it; it is asked again")))?;
        answer.error().map_err(|error| self.failed(&error, doing))?;
        Ok(answer.offset())
    }

    fn failed(&self, error: &KafkaError, doing: &str) -> Error {
        self.failed_with(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), doing)
    }

    /// A reader that rests between its questions isn't told when its brokers go: it finds out by asking in vain.
    fn failed_with(&self, code: RDKafkaErrorCode, doing: &str) -> Error {
        self.revival.revive(self.consumer.client());
        serve(&self.consumer);
        kafka_error(code, doing, &self.consumer.context().take_trouble(code))
    }
}

impl LogReader for KafkaLogReader {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        let doing = format!("asking for the partitions of {topic}");
        // Whoever answers this is asked for the id too: left to itself librdkafka asks the controller, and waits for it
        // while there is none. A broker that was only named to begin with has no number yet.
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|error| self.failed(&error, &doing))?;
        let living = metadata.brokers().first().map(|broker| broker.id());
        let answered = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).or(living);
        match describe_topic(&self.consumer, topic, answered, PATIENCE) {
            Ok(found) => Ok(Some(found)),
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Err(code) => Err(self.failed_with(code, &doing)),
        }
    }

    /// Two questions, not librdkafka's query for both ends: with an error in one of its two replies that returns the
    /// other end as both, and the partition seems empty.
    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        let first = self.end_of(partition, Offset::Beginning)?;
        let end = self.end_of(partition, Offset::End)?;
        Ok(Bounds { first, end })
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        let doing = format!("asking for the offset of {partition} at {at} ms");
        match self.ask_for(partition, Offset::Offset(at.0.max(0)), &doing)? {
            Offset::Offset(offset) => Ok(offset),
            _ => self.end_of(partition, Offset::End),
        }
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.close();
        let offset = offset.max(0);
        let topic = Arc::clone(&partition.topic);
        let cursor = PartitionCursor::start(Arc::clone(&self.consumer), topic, partition.partition, offset)
            .map_err(|code| kafka_error(code, &format!("reading {partition} from {offset}"), ""))?;
        self.opened = Some(Opened { partition: partition.clone(), cursor, position: offset, taken: VecDeque::new() });
        Ok(())
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        let Some(opened) = &mut self.opened else {
            return Err(Error::fatal("no partition is open: call open before read"));
        };
        serve(opened.cursor.consumer());
        if opened.taken.is_empty() {
            let read = opened.cursor.take(READ_PATIENCE, &mut self.copier, &mut opened.taken);
            read.map_err(|code| kafka_error(code, &format!("reading {}", opened.partition), ""))?;
        }
        opened.give(records)
    }

    fn close(&mut self) {
        self.opened = None;
    }
}

impl Opened {
    /// An error is told alone: what was read before it has been given, and what comes after it stays for the next read.
    /// Else a caller that reads on after a passing error would miss records and not know.
    fn give(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        let mut given = false;
        while let Some(taken) = self.taken.pop_front() {
            match taken {
                Taken::Record(record) if record.offset < self.position => {}
                Taken::Record(record) => {
                    self.position = record.offset + 1;
                    records.push(record);
                    given = true;
                }
                Taken::End(end) => self.position = self.position.max(end),
                failed @ Taken::Failed(..) if given => {
                    self.taken.push_front(failed);
                    break;
                }
                Taken::Failed(code, text) => {
                    let doing = format!("reading {} at {}", self.partition, self.position);
                    return Err(kafka_error(code, &doing, &text));
                }
            }
        }
        Ok(self.position)
    }
}

/// Lets librdkafka deliver its log lines and errors. Records don't come this way. A poll that served one returns
/// no more than one that found nothing.
fn serve(consumer: &BaseConsumer<ReaderContext>) {
    loop {
        let polled = consumer.poll(Duration::ZERO).is_some();
        if !consumer.context().served.swap(false, Ordering::Relaxed) && !polled {
            return;
        }
    }
}

impl ReaderContext {
    /// The text for an error that itself says no more than that nobody answered.
    fn take_trouble(&self, code: RDKafkaErrorCode) -> String {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        let nobody_answered = matches!(
            code,
            RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown
        );
        trouble.filter(|_| nobody_answered).unwrap_or_default()
    }
}

impl ConsumerContext for ReaderContext {}

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.store(true, Ordering::Relaxed);
        log_line(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {
        self.served.store(true, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            // The errors before it say which and why.
            return;
        }
        let reason = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

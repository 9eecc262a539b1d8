//! The log: a group consumer, an appender and a reader.
//!
//! All three are driven by polling from one thread and never block. Where an implementation has threads of
//! its own, it calls the [`Wake`] it was given when a poll would find something new.

use crate::base::error::{Error, Result};
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::time::UnixMs;
use crate::record::raw::{Headers, RawRecord};
use bytes::Bytes;
use std::sync::Arc;

/// Wakes the thread that polls; cheap, callable from any thread, allowed to be called for nothing.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a poll of the group consumer may bring.
#[derive(Debug)]
pub enum LogEvent {
    /// These partitions of the *subscribed* topics are ours now. Nothing of them is fetched before
    /// [`GroupConsumer::fetch_from`] says where to begin.
    Assigned(Vec<TopicPartition>),
    /// These partitions of the subscribed topics are to be given up. The group waits until
    /// [`GroupConsumer::release`] is called; do so soon (well under the session time-out).
    Revoked(Vec<TopicPartition>),
    /// These partitions have already gone to another member, or may have: nothing of them may be settled
    /// or committed any more. `release` is still to be called.
    Lost(Vec<TopicPartition>),
    Record(RawRecord),
    /// The partition's position does not exist in the log any more (or not yet): fetching has stopped there.
    OffsetOutOfRange(TopicPartition),
    /// A fault worth telling: passing ones carry [`crate::base::error::Remedy::Retry`], others end the thread.
    Fault(Error),
}

/// A member of the consumer group, subscribed to the local change topics only.
pub trait GroupConsumer: Send {
    /// Appends at most `max` events to `events`. Does not block.
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>);

    /// Begins (or begins again) to fetch at `offset`. The partition is an assigned one or a co-partition of
    /// one: a mirror's partition with the same number. Records fetched earlier from it are dropped, and it is not
    /// paused afterwards.
    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()>;

    /// Stops fetching partitions that the group does not own by itself (mirrors).
    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Answers `Revoked` or `Lost`: lets go of these subscribed partitions and of every co-partition that
    /// was being fetched beside them. Until then a log may hold back every other partition too, as Kafka does.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Commits, asynchronously and for tools only, the next offset to be read of each partition.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]);

    /// Leaves the group. Revocations still due are answered by the implementation itself.
    fn leave(&mut self);
}

/// A record to append. The partition is always explicit.
#[derive(Debug, Clone)]
pub struct Append {
    pub to: TopicPartition,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// The fate of an append: its offset, or why it failed. Acks of one partition come in append order.
#[derive(Debug)]
pub struct Ack {
    pub token: u64,
    pub outcome: Result<i64>,
}

/// Why an append was not even taken.
#[derive(Debug)]
pub enum AppendRefused {
    /// The bounded queue is full: poll for acks and offer it again.
    QueueFull(Box<Append>),
    Failed(Error),
}

/// An idempotent producer with `acks=all`.
pub trait Appender: Send {
    /// Queues one record. `token` comes back with its ack.
    fn append(&mut self, append: Append, token: u64) -> std::result::Result<(), AppendRefused>;

    /// Moves the acks that have come in to `acks`. Does not block.
    fn poll_acks(&mut self, acks: &mut Vec<Ack>);
}

/// The ends of a partition: the first offset still there and the one that the next append will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub first: i64,
    pub end: i64,
}

/// A topic as the log has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    pub partitions: i32,
    /// None from brokers that give topics no id.
    pub id: Option<TopicId>,
}

/// Reads any partition by offset, outside of the group. Used off the processing thread, so calls may take
/// as long as a round trip; each fails with [`crate::base::error::Remedy::Retry`] when the log can't be reached.
pub trait LogReader: Send {
    /// `None` if there is no such topic.
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>>;

    /// The topic's partition count; `None` if there is no such topic.
    fn partition_count(&mut self, topic: &str) -> Result<Option<i32>> {
        Ok(self.describe(topic)?.map(|found| found.partitions))
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds>;

    /// The first offset whose record was appended at or after `at`; the end if there is none.
    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64>;

    /// Begins a sequential read at `offset`.
    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()>;

    /// Appends the next records of the opened partition to `records` and returns the position after them:
    /// the offset to be read next, which passes over holes (compaction, control records). May return without
    /// any record; waits at most a short moment for one.
    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64>;

    fn close(&mut self);
}

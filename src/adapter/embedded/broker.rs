//! One region's Kafka in memory: topics, their partitions' logs, consumer groups.
//!
//! It alone owns the records and the group state; clients hold an `Arc` of it. Its lock is held for one
//! operation at a time; a client's wake must not call back into the broker.

use super::group::{Group, Joining, MemberId, News, PartitionCounts};
pub use super::partition_log::Compaction;
use super::partition_log::{PartitionLog, StoredRecord};
use crate::base::error::Error;
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::time::{Clock, UnixMs};
use crate::port::group::GroupMember;
use crate::port::log::{Bounds, TopicDescription, Wake};
use crate::record::raw::{RawHeader, RawRecord};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whose clock a topic's timestamps come from (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    LogAppendTime,
    CreateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    #[error("there is no partition {0}; create the topic first, or append to one of its partitions")]
    UnknownPartition(TopicPartition),
    #[error("topic {topic} exists with {found} partitions, not {wanted}; use the same count everywhere")]
    PartitionCount { topic: Arc<str>, found: i32, wanted: i32 },
    #[error("position {position} of {partition} is outside of the log ({first}..{end}); begin again from its bounds")]
    OutOfRange { partition: TopicPartition, position: i64, first: i64, end: i64 },
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::OutOfRange { .. } => Error::retry(error),
            BrokerError::UnknownPartition(_) | BrokerError::PartitionCount { .. } => Error::refuse(error),
        }
    }
}

/// A message as a producer hands it in; `timestamp` counts on CreateTime topics only (absent: now).
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RawHeader>,
    pub timestamp: Option<UnixMs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(u64);

struct Topic {
    id: TopicId,
    timestamps: TimestampType,
    partitions: Vec<PartitionLog>,
}

struct State {
    clock: Box<dyn Clock>,
    topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<String, Group>,
    /// Who is to be woken when a partition grows.
    watchers: HashMap<TopicPartition, Vec<(ClientId, Wake)>>,
    last_id: u64,
}

pub struct Broker {
    session_timeout: Duration,
    state: Mutex<State>,
}

impl Broker {
    /// A member that has not polled for `session_timeout` (by `clock`'s monotonic time) is declared dead
    /// when another client of the group polls.
    pub fn new(clock: Box<dyn Clock>, session_timeout: Duration) -> Arc<Self> {
        let state = State { clock, topics: BTreeMap::new(), groups: BTreeMap::new(), watchers: HashMap::new(), last_id: 0 };
        Arc::new(Self { session_timeout, state: Mutex::new(state) })
    }

    /// Creates a topic; one that is there already with the same count stays as it is.
    pub fn create_topic(&self, name: &str, partitions: i32, timestamps: TimestampType) -> Result<(), BrokerError> {
        let mut state = self.lock();
        if let Some(topic) = state.topics.get(name) {
            let found = topic.partitions.len() as i32;
            let wrong = BrokerError::PartitionCount { topic: Arc::from(name), found, wanted: partitions };
            return if found == partitions { Ok(()) } else { Err(wrong) };
        }
        let logs = (0..partitions).map(|_| PartitionLog::default()).collect();
        let id = TopicId::new(state.next_id().to_string());
        state.topics.insert(Arc::from(name), Topic { id, timestamps, partitions: logs });
        let counts = counts(&state.topics);
        for group in state.groups.values_mut() {
            group.rebalance(&counts);
        }
        Ok(())
    }

    /// Deletes a topic with all its records; created again it begins at offset 0, with another id.
    pub fn delete_topic(&self, name: &str) {
        self.lock().topics.remove(name);
    }

    pub fn topics(&self) -> Vec<(Arc<str>, i32)> {
        counts(&self.lock().topics).into_iter().collect()
    }

    pub fn describe(&self, topic: &str) -> Option<TopicDescription> {
        let state = self.lock();
        let topic = state.topics.get(topic)?;
        Some(TopicDescription { partitions: topic.partitions.len() as i32, id: Some(topic.id.clone()) })
    }

    pub fn append(&self, to: &TopicPartition, message: Message) -> Result<i64, BrokerError> {
        let mut state = self.lock();
        let wall = state.clock.now().wall;
        let topic = state.topics.get_mut(&to.topic).ok_or_else(|| BrokerError::UnknownPartition(to.clone()))?;
        let timestamp = match topic.timestamps {
            TimestampType::LogAppendTime => wall,
            TimestampType::CreateTime => message.timestamp.unwrap_or(wall),
        };
        let log = log_mut(&mut topic.partitions, to)?;
        let offset = log.append(timestamp, message.key, message.value, message.headers);
        let wakes: Vec<Wake> = state.watchers.get(to).into_iter().flatten().map(|(_, wake)| wake.clone()).collect();
        drop(state);
        for wake in wakes {
            wake();
        }
        Ok(offset)
    }

    pub fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, BrokerError> {
        self.lock().log(partition).map(|log| Bounds { first: log.first(), end: log.end() })
    }

    pub fn offset_at(&self, partition: &TopicPartition, at: UnixMs) -> Result<i64, BrokerError> {
        self.lock().log(partition).map(|log| log.offset_at(at))
    }

    /// At most `max` records at and after `position`, and the position after them: past holes, and at the
    /// end of the log if there is nothing left.
    pub fn read(
        &self,
        partition: &TopicPartition,
        position: i64,
        max: usize,
        mut visit: impl FnMut(RawRecord),
    ) -> Result<i64, BrokerError> {
        let state = self.lock();
        let log = state.log(partition)?;
        let (first, end) = (log.first(), log.end());
        if position < first || position > end {
            return Err(BrokerError::OutOfRange { partition: partition.clone(), position, first, end });
        }
        let mut next = end;
        for (count, record) in log.from(position).enumerate() {
            if count == max {
                next = record.offset;
                break;
            }
            visit(raw(partition, record));
        }
        Ok(next)
    }

    /// Loses what lies at and behind `offset`, as in an unclean election.
    pub fn lose_end(&self, partition: &TopicPartition, offset: i64) -> Result<(), BrokerError> {
        self.lock().log_mut(partition).map(|log| log.lose_end(offset))
    }

    /// Deletes what lies below `offset`, as retention does.
    pub fn delete_below(&self, partition: &TopicPartition, offset: i64) -> Result<(), BrokerError> {
        self.lock().log_mut(partition).map(|log| log.delete_below(offset))
    }

    /// One run of the log cleaner over a partition.
    pub fn compact(&self, partition: &TopicPartition, compaction: Compaction) -> Result<(), BrokerError> {
        let mut state = self.lock();
        let wall = state.clock.now().wall;
        state.log_mut(partition).map(|log| log.compact(wall, compaction))
    }

    /// Uses up one offset without a record, as a transaction marker does.
    pub fn leave_hole(&self, partition: &TopicPartition) -> Result<(), BrokerError> {
        self.lock().log_mut(partition).map(PartitionLog::leave_hole)
    }

    /// The offset that a group last committed for a partition.
    pub fn committed(&self, group: &str, partition: &TopicPartition) -> Option<i64> {
        self.lock().groups.get(group)?.committed.get(partition).copied()
    }

    pub(super) fn new_client(&self) -> ClientId {
        ClientId(self.lock().next_id())
    }

    pub(super) fn watch(&self, partition: &TopicPartition, client: ClientId, wake: &Wake) {
        let mut state = self.lock();
        let watchers = state.watchers.entry(partition.clone()).or_default();
        if watchers.iter().all(|(other, _)| *other != client) {
            watchers.push((client, wake.clone()));
        }
    }

    pub(super) fn unwatch(&self, partition: &TopicPartition, client: ClientId) {
        if let Some(watchers) = self.lock().watchers.get_mut(partition) {
            watchers.retain(|(other, _)| *other != client);
        }
    }

    pub(super) fn join(&self, group: &str, joining: Joining) -> MemberId {
        let mut state = self.lock();
        let (id, at, counts) = (MemberId(state.next_id()), state.clock.now().monotonic, counts(&state.topics));
        state.groups.entry(group.to_owned()).or_default().join(id, joining, at, &counts);
        id
    }

    /// The members of a group, once each has what it is to have.
    pub(super) fn members(&self, group: &str) -> Option<Vec<GroupMember>> {
        self.lock().groups.get(group).map_or(Some(Vec::new()), Group::members)
    }

    /// A member's sign of life; also the moment at which silent ones are declared dead.
    pub(super) fn poll_group(&self, group: &str, member: MemberId) -> Option<Vec<News>> {
        let mut state = self.lock();
        let State { clock, topics, groups, .. } = &mut *state;
        let (at, group) = (clock.now().monotonic, groups.get_mut(group)?);
        if group.expire(at, self.session_timeout) {
            group.rebalance(&counts(topics));
        }
        group.poll(member, at)
    }

    pub(super) fn release(&self, group: &str, member: MemberId, partitions: &[TopicPartition]) {
        if let Some(group) = self.lock().groups.get_mut(group) {
            group.release(member, partitions);
        }
    }

    pub(super) fn leave(&self, group: &str, member: MemberId) {
        let mut state = self.lock();
        let counts = counts(&state.topics);
        if let Some(group) = state.groups.get_mut(group) {
            group.remove(member, &counts);
        }
    }

    /// Refused (false) for one that is no member any more, as Kafka does by generation.
    pub(super) fn commit(&self, group: &str, member: MemberId, offsets: &[(TopicPartition, i64)]) -> bool {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(group).filter(|group| group.contains(member)) else { return false };
        group.committed.extend(offsets.iter().cloned());
        true
    }

    /// A panic elsewhere leaves the state whole: each operation changes it in one go.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn log(&self, partition: &TopicPartition) -> Result<&PartitionLog, BrokerError> {
        let number = usize::try_from(partition.partition).ok();
        let log = self.topics.get(&partition.topic).zip(number).and_then(|(topic, number)| topic.partitions.get(number));
        log.ok_or_else(|| BrokerError::UnknownPartition(partition.clone()))
    }

    fn log_mut(&mut self, partition: &TopicPartition) -> Result<&mut PartitionLog, BrokerError> {
        let topic = self.topics.get_mut(&partition.topic).ok_or_else(|| BrokerError::UnknownPartition(partition.clone()))?;
        log_mut(&mut topic.partitions, partition)
    }
}

fn counts(topics: &BTreeMap<Arc<str>, Topic>) -> PartitionCounts {
    topics.iter().map(|(name, topic)| (name.clone(), topic.partitions.len() as i32)).collect()
}

fn log_mut<'a>(logs: &'a mut [PartitionLog], partition: &TopicPartition) -> Result<&'a mut PartitionLog, BrokerError> {
    let log = usize::try_from(partition.partition).ok().and_then(|number| logs.get_mut(number));
    log.ok_or_else(|| BrokerError::UnknownPartition(partition.clone()))
}

fn raw(partition: &TopicPartition, record: &StoredRecord) -> RawRecord {
    RawRecord {
        topic: partition.topic.clone(),
        partition: partition.partition,
        offset: record.offset,
        appended_at: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

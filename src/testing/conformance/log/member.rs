//! A group member that does as little as a correct one can.

use super::LogUnderTest;
use crate::base::error::Remedy;
use crate::base::ids::TopicPartition;
use crate::port::log::{GroupConsumer, LogEvent};
use crate::record::raw::RawRecord;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Fetches what it is given (and the mirror's partition of that number) from the start, and gives back at once
/// what it is asked for, unless told otherwise.
pub struct Member {
    pub consumer: Box<dyn GroupConsumer>,
    mirror: Arc<str>,
    /// The group has said what is its own, be it nothing.
    pub answered: bool,
    pub owned: BTreeSet<TopicPartition>,
    pub revoked: Vec<TopicPartition>,
    pub records: Vec<RawRecord>,
    pub out_of_range: Vec<TopicPartition>,
    pub fetches_at_once: bool,
    pub releases_at_once: bool,
}

impl Member {
    pub fn join(log: &mut dyn LogUnderTest, group: &str, local: &Arc<str>, mirror: &Arc<str>) -> Self {
        Self::over(log.join(group, local, mirror), Arc::clone(mirror))
    }

    pub fn over(consumer: Box<dyn GroupConsumer>, mirror: Arc<str>) -> Self {
        Self {
            consumer,
            mirror,
            answered: false,
            owned: BTreeSet::new(),
            revoked: Vec::new(),
            records: Vec::new(),
            out_of_range: Vec::new(),
            fetches_at_once: true,
            releases_at_once: true,
        }
    }

    /// Polls once and reacts.
    pub fn poll(&mut self) {
        let mut events = Vec::new();
        self.consumer.poll(1_000, &mut events);
        for event in events {
            match event {
                LogEvent::Assigned(partitions) => self.assigned(partitions),
                LogEvent::Revoked(partitions) | LogEvent::Lost(partitions) => {
                    self.revoked.extend(partitions);
                    if self.releases_at_once {
                        self.release();
                    }
                }
                LogEvent::Record(record) => self.take(record),
                LogEvent::OffsetOutOfRange(partition) => self.out_of_range.push(partition),
                LogEvent::Fault(error) => assert_eq!(error.remedy, Remedy::Retry, "{error}"),
            }
        }
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        self.answered = true;
        for partition in partitions {
            if self.fetches_at_once {
                for source in [partition.clone(), self.mirrored(&partition)] {
                    // The same poll may have brought its revocation.
                    if let Err(error) = self.consumer.fetch_from(&source, 0) {
                        assert!(matches!(error.remedy, Remedy::Retry | Remedy::Rejoin), "{source}: {error}");
                    }
                }
            }
            assert!(self.owned.insert(partition.clone()), "{partition} was assigned twice");
        }
    }

    fn take(&mut self, record: RawRecord) {
        let ours = self.owned.iter().any(|owned| owned.partition == record.partition);
        assert!(ours, "{}[{}] delivered a record without being ours", record.topic, record.partition);
        self.records.push(record);
    }

    pub fn fetch(&mut self, partition: &TopicPartition, offset: i64) {
        self.consumer.fetch_from(partition, offset).unwrap_or_else(|error| panic!("{partition}: {error}"));
    }

    pub fn mirrored(&self, partition: &TopicPartition) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.mirror), partition.partition)
    }

    /// Gives back what has been asked for.
    pub fn release(&mut self) {
        let revoked = std::mem::take(&mut self.revoked);
        for partition in &revoked {
            assert!(self.owned.remove(partition), "{partition} was revoked without being ours");
        }
        self.consumer.release(&revoked).unwrap_or_else(|error| panic!("release: {error}"));
    }

    /// `(topic, partition, offset)` of what has come so far.
    pub fn coordinates(&self) -> BTreeSet<(Arc<str>, i32, i64)> {
        self.records.iter().map(|record| (Arc::clone(&record.topic), record.partition, record.offset)).collect()
    }

    pub fn has(&self, partition: &TopicPartition, offset: i64) -> bool {
        let same = |record: &RawRecord| {
            record.topic == partition.topic && record.partition == partition.partition && record.offset == offset
        };
        self.records.iter().any(same)
    }
}

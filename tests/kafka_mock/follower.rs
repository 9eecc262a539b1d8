//! A member that goes on where reading stopped, and what has been read by all members of a test together.

use crate::cluster::{MockLog, until};
use driftless::base::error::Error;
use driftless::base::ids::TopicPartition;
use driftless::port::log::{GroupConsumer, LogEvent};
use driftless::record::raw::RawRecord;
use driftless::testing::conformance::log::{LogUnderTest, append_all, plain};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A local topic, its mirror, and how far they have been written and read. As the progress record does, it tells each
/// new owner where the last one stopped; so whatever is skipped, repeated or out of order shows at once.
pub struct Journey {
    pub group: Arc<str>,
    pub local: Arc<str>,
    pub mirror: Arc<str>,
    pub partitions: i32,
    written: BTreeMap<TopicPartition, i64>,
    read: BTreeMap<TopicPartition, i64>,
}

impl Journey {
    pub fn begin(mock: &mut MockLog, partitions: i32) -> Self {
        let local = mock.unique("local");
        mock.create_topic(&local, partitions);
        let mirror: Arc<str> = Arc::from(format!("us.{local}"));
        mock.create_topic(&mirror, partitions);
        let group = Arc::from(format!("group-of-{local}"));
        Self { group, local, mirror, partitions, written: BTreeMap::new(), read: BTreeMap::new() }
    }

    pub fn sources(&self) -> Vec<TopicPartition> {
        let of_topic =
            |topic: &Arc<str>| (0..self.partitions).map(|number| TopicPartition::new(Arc::clone(topic), number)).collect();
        let both: [Vec<TopicPartition>; 2] = [of_topic(&self.local), of_topic(&self.mirror)];
        both.concat()
    }

    /// So many more records into each partition; a record's value is its offset.
    pub fn write(&mut self, mock: &mut MockLog, count: i64) {
        let mut records = Vec::new();
        for source in self.sources() {
            let end = self.written.entry(source.clone()).or_insert(0);
            records.extend((*end..*end + count).map(|offset| plain(&source, &offset.to_string())));
            *end += count;
        }
        append_all(mock, records);
    }

    fn take(&mut self, record: &RawRecord) {
        let source = TopicPartition::new(Arc::clone(&record.topic), record.partition);
        let next = self.read.entry(source.clone()).or_insert(0);
        assert_eq!(record.offset, *next, "{source}: skipped, repeated or out of order");
        assert_eq!(record.value.as_deref(), Some(next.to_string().as_bytes()), "{source} at {next}");
        *next += 1;
    }

    pub fn at(&self, source: &TopicPartition) -> i64 {
        self.read.get(source).copied().unwrap_or(0)
    }

    pub fn is_read(&self) -> bool {
        self.written == self.read
    }

    pub fn all_read(&mut self, mock: &mut MockLog, members: &mut [&mut Follower]) {
        until(mock, "everything read", |_| {
            members.iter_mut().for_each(|member| member.poll(self));
            self.is_read().then_some(())
        });
    }
}

pub struct Follower {
    pub consumer: Box<dyn GroupConsumer>,
    pub owned: BTreeSet<TopicPartition>,
    /// Asked for back and not given yet.
    pub held: Vec<TopicPartition>,
    pub gives_back: bool,
    pub polled_at_once: usize,
    pub faults: Vec<Error>,
    pub assignments: usize,
    pub losses: usize,
    pub out_of_range: Vec<TopicPartition>,
}

impl Follower {
    pub fn join(mock: &mut MockLog, journey: &Journey) -> Self {
        Self {
            consumer: mock.join(&journey.group, &journey.local, &journey.mirror),
            owned: BTreeSet::new(),
            held: Vec::new(),
            gives_back: true,
            polled_at_once: 1_000,
            faults: Vec::new(),
            assignments: 0,
            losses: 0,
            out_of_range: Vec::new(),
        }
    }

    pub fn poll(&mut self, journey: &mut Journey) {
        let mut events = Vec::new();
        self.consumer.poll(self.polled_at_once, &mut events);
        for event in events {
            match event {
                LogEvent::Assigned(partitions) => {
                    self.assignments += 1;
                    partitions.into_iter().for_each(|partition| self.assigned(partition, journey));
                }
                LogEvent::Revoked(partitions) => self.asked_back(partitions),
                LogEvent::Lost(partitions) => {
                    self.losses += 1;
                    self.asked_back(partitions);
                }
                LogEvent::Record(record) => {
                    let is_ours = self.owned.iter().any(|owned| owned.partition == record.partition);
                    assert!(is_ours, "{}[{}] surfaced after it was given back", record.topic, record.partition);
                    journey.take(&record);
                }
                LogEvent::OffsetOutOfRange(partition) => self.out_of_range.push(partition),
                LogEvent::Fault(error) => self.faults.push(error),
            }
        }
    }

    fn assigned(&mut self, partition: TopicPartition, journey: &Journey) {
        let mirrored = TopicPartition::new(Arc::clone(&journey.mirror), partition.partition);
        for source in [&partition, &mirrored] {
            // The same poll may have brought its revocation.
            if let Err(error) = self.consumer.fetch_from(source, journey.at(source)) {
                self.faults.push(error);
            }
        }
        assert!(self.owned.insert(partition.clone()), "{partition} was assigned twice");
    }

    fn asked_back(&mut self, partitions: Vec<TopicPartition>) {
        self.held.extend(partitions);
        if self.gives_back {
            self.give_back();
        }
    }

    pub fn give_back(&mut self) {
        let held = std::mem::take(&mut self.held);
        for partition in &held {
            assert!(self.owned.remove(partition), "{partition} was asked back without being ours");
        }
        self.consumer.release(&held).unwrap();
    }
}

//! A member of a group on an embedded broker.
//!
//! It reads from the broker's log at its own positions and holds no records back, so nothing of a partition
//! can surface after the partition has been released. Dropped without [`GroupConsumer::leave`] it is a
//! crashed process: the group finds out by the session time-out.

use super::broker::{Broker, BrokerError, ClientId};
use super::group::{Joining, MemberId, News};
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::port::log::{GroupConsumer, LogEvent, Wake};
use crate::region::topics;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most that one partition contributes to a poll, so that none starves the others.
const RECORDS_PER_FETCH_MAX: usize = 500;

struct Fetch {
    position: i64,
    paused: bool,
}

pub struct EmbeddedConsumer {
    broker: Arc<Broker>,
    process: Option<String>,
    group: String,
    topics: Vec<Arc<str>>,
    wake: Wake,
    client: ClientId,
    member: Option<MemberId>,
    /// Assigned to us and neither revoked nor lost.
    held: BTreeSet<TopicPartition>,
    /// Revoked or lost, not yet released: nothing of them is delivered any more.
    leaving: BTreeSet<TopicPartition>,
    fetches: BTreeMap<TopicPartition, Fetch>,
    /// Where the last poll stopped; the next begins after it.
    last_fetched: Option<TopicPartition>,
    faults: Vec<Error>,
}

impl EmbeddedConsumer {
    /// Joins `group`, subscribed to `topics`, which need not exist yet; as a process of its own.
    pub fn join(broker: Arc<Broker>, group: impl Into<String>, topics: Vec<Arc<str>>, wake: Wake) -> Self {
        Self::join_in(None, broker, group, topics, wake)
    }

    /// Joins as one of the members that a process has.
    pub fn join_in(
        process: Option<String>,
        broker: Arc<Broker>,
        group: impl Into<String>,
        topics: Vec<Arc<str>>,
        wake: Wake,
    ) -> Self {
        let group = group.into();
        let client = broker.new_client();
        let joining = Joining { process: process.clone(), topics: topics.clone(), wake: wake.clone() };
        let member = Some(broker.join(&group, joining));
        Self {
            broker,
            process,
            group,
            topics,
            wake,
            client,
            member,
            held: BTreeSet::new(),
            leaving: BTreeSet::new(),
            fetches: BTreeMap::new(),
            last_fetched: None,
            faults: Vec::new(),
        }
    }

    fn poll_group(&mut self, events: &mut Vec<LogEvent>) {
        let Some(member) = self.member else { return self.rejoin_when_released() };
        match self.broker.poll_group(&self.group, member) {
            Some(news) => {
                for item in news {
                    events.push(self.take_in(item));
                }
            }
            None => {
                self.member = None;
                self.leaving.append(&mut self.held);
                if self.leaving.is_empty() {
                    self.rejoin_when_released();
                } else {
                    events.push(LogEvent::Lost(self.leaving.iter().cloned().collect()));
                }
            }
        }
    }

    fn take_in(&mut self, news: News) -> LogEvent {
        match news {
            News::Assigned(partitions) => {
                self.held.extend(partitions.iter().cloned());
                LogEvent::Assigned(partitions)
            }
            News::Revoked(partitions) => {
                for partition in &partitions {
                    self.held.remove(partition);
                    self.leaving.insert(partition.clone());
                }
                LogEvent::Revoked(partitions)
            }
        }
    }

    /// A member that was removed comes back as a new one, once it has let go of what it held.
    fn rejoin_when_released(&mut self) {
        if self.leaving.is_empty() && !self.topics.is_empty() {
            let joining = Joining { process: self.process.clone(), topics: self.topics.clone(), wake: self.wake.clone() };
            self.member = Some(self.broker.join(&self.group, joining));
        }
    }

    fn poll_records(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        for partition in self.fetch_order() {
            if events.len() >= max {
                return;
            }
            let Some(fetch) = self.fetches.get_mut(&partition) else { continue };
            let room = (max - events.len()).min(RECORDS_PER_FETCH_MAX);
            match self.broker.read(&partition, fetch.position, room, |record| events.push(LogEvent::Record(record))) {
                Ok(next) => fetch.position = next,
                Err(BrokerError::OutOfRange { .. }) => {
                    self.forget(&partition);
                    events.push(LogEvent::OffsetOutOfRange(partition.clone()));
                }
                // A mirror that isn't there yet: it begins by itself when it is created.
                Err(_) => continue,
            }
            self.last_fetched = Some(partition);
        }
    }

    /// What may be read now, beginning after the partition that was read last.
    fn fetch_order(&self) -> Vec<TopicPartition> {
        let readable = |(partition, fetch): &(&TopicPartition, &Fetch)| !fetch.paused && !self.is_leaving(partition);
        let mut order: Vec<TopicPartition> =
            self.fetches.iter().filter(readable).map(|(partition, _)| partition.clone()).collect();
        if let Some(last) = &self.last_fetched {
            let split = order.partition_point(|partition| partition <= last);
            order.rotate_left(split);
        }
        order
    }

    fn is_leaving(&self, partition: &TopicPartition) -> bool {
        self.leaving.iter().any(|leaving| belongs_to(partition, leaving))
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.fetches.remove(partition);
        self.broker.unwatch(partition, self.client);
    }
}

/// Is `partition` this subscribed partition itself, or one of a mirror or of the repair topic beside it?
fn belongs_to(partition: &TopicPartition, subscribed: &TopicPartition) -> bool {
    partition.partition == subscribed.partition && topics::goes_with(&partition.topic, &subscribed.topic)
}

impl GroupConsumer for EmbeddedConsumer {
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        let mut found = Vec::new();
        found.extend(self.faults.drain(..).map(LogEvent::Fault));
        self.poll_group(&mut found);
        self.poll_records(max, &mut found);
        events.append(&mut found);
    }

    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        // One that is leaving is accepted, though silent: its revocation may be in the same poll's events.
        if !self.held.iter().chain(&self.leaving).any(|held| belongs_to(partition, held)) {
            return Err(Error::retry(format!("{partition} is not ours to fetch: wait for its assignment")));
        }
        self.fetches.insert(partition.clone(), Fetch { position: offset, paused: false });
        self.broker.watch(partition, self.client, &self.wake);
        Ok(())
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            self.forget(partition);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for subscribed in partitions {
            self.held.remove(subscribed);
            self.leaving.remove(subscribed);
            let fetched: Vec<_> = self.fetches.keys().filter(|partition| belongs_to(partition, subscribed)).cloned().collect();
            for partition in fetched {
                self.forget(&partition);
            }
        }
        if let Some(member) = self.member {
            self.broker.release(&self.group, member, partitions);
        }
        (self.wake)();
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            if let Some(fetch) = self.fetches.get_mut(partition) {
                fetch.paused = true;
            }
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            if let Some(fetch) = self.fetches.get_mut(partition) {
                fetch.paused = false;
            }
        }
        Ok(())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        let taken = self.member.is_some_and(|member| self.broker.commit(&self.group, member, offsets));
        if !taken {
            self.faults.push(Error::retry("offsets not committed: the group has removed this member; it joins again by itself"));
        }
    }

    fn leave(&mut self) {
        if let Some(member) = self.member.take() {
            self.broker.leave(&self.group, member);
        }
        self.topics.clear();
        self.held.clear();
        self.leaving.clear();
        let fetched: Vec<_> = self.fetches.keys().cloned().collect();
        for partition in fetched {
            self.forget(&partition);
        }
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        for partition in self.fetches.keys() {
            self.broker.unwatch(partition, self.client);
        }
    }
}

//! Which partitions we want to fetch and which librdkafka fetches for us; no calls are made here.
//!
//! The group assigns partitions of local topics; each brings its *co-partitions*, the same partition number of
//! the local topic's co-topics (mirrors, repair). The engine says where each is to be read from. This module
//! holds the difference between the wanted and the held, as a [`Plan`] that `group_consumer` carries out before
//! it polls: so that any number of requests becomes one call, and none is made while the group waits for the
//! answer to a revocation (librdkafka takes the next unassign for that answer, whatever it was meant for).

use crate::base::error::{Error, Remedy, Result};
use crate::base::ids::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A local change topic that the group shares out, and the topics read beside it by the same partition number.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub local: Arc<str>,
    pub co_topics: Vec<Arc<str>>,
}

pub(super) struct Assignment {
    topics: Vec<Topic>,
    /// Assigned by the group and not released yet.
    owned: BTreeSet<TopicPartition>,
    /// Some while the group waits for our answer: what has yet to be released before it can be given.
    revoking: Option<BTreeSet<TopicPartition>>,
    /// Numbers the requests to fetch, so that a second one for a partition is told from the first.
    requests: u64,
    changed: bool,
}

struct Topic {
    name: Arc<str>,
    /// The local topic that this one goes along with: itself, or the one it is a co-topic of.
    local: Arc<str>,
    slots: Vec<Slot>,
}

/// One partition. `wanted` and `held` are numbers of requests: equal when librdkafka does what was asked.
#[derive(Clone, Default)]
struct Slot {
    wanted: Option<u64>,
    held: Option<u64>,
    /// The offset that comes next; whatever lies below it is stale.
    position: i64,
    paused: bool,
    held_paused: bool,
    /// In how many snapshots in a row its fetcher was found stopped.
    seen_stopped: u8,
}

impl Slot {
    fn let_go(&mut self) {
        self.wanted = None;
        self.paused = false;
    }
}

/// What to ask of librdkafka, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Paused partitions keep that flag when unassigned, so it is taken off before.
    pub resume: Vec<TopicPartition>,
    pub unassign: Vec<TopicPartition>,
    pub assign: Vec<(TopicPartition, i64)>,
    pub pause: Vec<TopicPartition>,
}

/// A fetcher is idle for a moment while it starts, so one snapshot proves nothing.
const SNAPSHOTS_TO_BE_SURE: u8 = 2;

impl Assignment {
    pub fn new(subscriptions: &[Subscription]) -> Self {
        let mut topics = Vec::new();
        for subscription in subscriptions {
            for name in std::iter::once(&subscription.local).chain(&subscription.co_topics) {
                topics.push(Topic { name: Arc::clone(name), local: Arc::clone(&subscription.local), slots: Vec::new() });
            }
        }
        Self { topics, owned: BTreeSet::new(), revoking: None, requests: 0, changed: false }
    }

    /// The group has given us these partitions of local topics.
    pub fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.owned.extend(partitions.iter().cloned());
    }

    /// The group wants these back and waits until [`Assignment::release`] has been called for all of them.
    pub fn revoked(&mut self, partitions: &[TopicPartition]) {
        self.revoking.get_or_insert_default().extend(partitions.iter().cloned());
    }

    /// A partition of ours, or a co-partition of one.
    pub fn owns(&self, partition: &TopicPartition) -> bool {
        let Some(topic) = self.topics.iter().find(|topic| topic.name == partition.topic) else { return false };
        self.owned.contains(&TopicPartition::new(Arc::clone(&topic.local), partition.partition))
    }

    pub fn revocation_pending(&self) -> bool {
        self.revoking.is_some()
    }

    /// Lets go of local partitions and their co-partitions. True if the group's revocation is to be answered
    /// now, by unassigning what [`Assignment::plan`] says (or everything, under an eager protocol).
    pub fn release(&mut self, partitions: &[TopicPartition]) -> bool {
        for partition in partitions {
            self.owned.remove(partition);
            for topic in self.topics.iter_mut().filter(|topic| topic.local == partition.topic) {
                if let Some(slot) = slot_mut(&mut topic.slots, partition.partition) {
                    slot.let_go();
                }
            }
            if let Some(revoking) = &mut self.revoking {
                revoking.remove(partition);
            }
        }
        self.changed = true;
        let answer_due = self.revoking.as_ref().is_some_and(BTreeSet::is_empty);
        if answer_due {
            self.revoking = None;
        }
        answer_due
    }

    /// Wants a partition to be read from `offset` on. It is not paused afterwards.
    pub fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        let Some(index) = self.topics.iter().position(|topic| topic.name == partition.topic) else {
            return Err(Error::fatal(format!("{partition} belongs to no subscribed topic")));
        };
        let owner = TopicPartition::new(Arc::clone(&self.topics[index].local), partition.partition);
        let revoking = self.revoking.as_ref().is_some_and(|revoking| revoking.contains(&owner));
        let (true, false, Ok(number)) = (self.owned.contains(&owner), revoking, usize::try_from(partition.partition)) else {
            return Err(Error::new(Remedy::Rejoin, format!("{partition} can't be fetched: {owner} is not ours any more")));
        };
        let slots = &mut self.topics[index].slots;
        if slots.len() <= number {
            slots.resize(number + 1, Slot::default());
        }
        self.requests += 1;
        let slot = &mut slots[number];
        slot.wanted = Some(self.requests);
        slot.position = offset.max(0);
        slot.paused = false;
        self.changed = true;
        Ok(())
    }

    pub fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(slot) = self.slot(&partition.topic, partition.partition) {
                slot.let_go();
            }
        }
        self.changed = true;
    }

    pub fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(slot) = self.slot(&partition.topic, partition.partition) {
                slot.paused = paused;
            }
        }
        self.changed = true;
    }

    /// Judges a record as it is polled: its topic's name if it belongs to what is wanted now, else nothing.
    /// Stale ones (of a released partition, or from before the last `fetch_from`) are not to be seen by anyone.
    pub fn accept(&mut self, topic: &str, partition: i32, offset: i64) -> Option<Arc<str>> {
        let topic = self.topics.iter_mut().find(|candidate| *candidate.name == *topic)?;
        if let Some(revoking) = &self.revoking
            && revoking.iter().any(|owner| owner.topic == topic.local && owner.partition == partition)
        {
            return None;
        }
        let slot = slot_mut(&mut topic.slots, partition)?;
        if slot.wanted.is_none() || slot.held != slot.wanted || offset < slot.position {
            return None;
        }
        slot.position = offset + 1;
        Some(Arc::clone(&topic.name))
    }

    /// Takes one snapshot of stopped fetchers; returns the partitions that have stopped for good at a position
    /// that the log does not have. They are not wanted any more until they are asked for again.
    pub fn stopped(&mut self, stopped: &[(Arc<str>, i32)]) -> Vec<TopicPartition> {
        let mut dead = Vec::new();
        for topic in &mut self.topics {
            for (slot, number) in topic.slots.iter_mut().zip(0..) {
                let fetching = slot.wanted.is_some() && slot.held == slot.wanted;
                if !fetching || !stopped.iter().any(|(name, partition)| *name == topic.name && *partition == number) {
                    slot.seen_stopped = 0;
                    continue;
                }
                slot.seen_stopped += 1;
                if slot.seen_stopped >= SNAPSHOTS_TO_BE_SURE {
                    slot.wanted = None;
                    self.changed = true;
                    dead.push(TopicPartition::new(Arc::clone(&topic.name), number));
                }
            }
        }
        dead
    }

    /// What is to be done, if anything.
    pub fn plan(&self) -> Option<Plan> {
        if !self.changed || self.revoking.is_some() {
            return None;
        }
        let mut plan = Plan::default();
        for topic in &self.topics {
            for (slot, number) in topic.slots.iter().zip(0..) {
                let moves = slot.held != slot.wanted;
                let partition = || TopicPartition::new(Arc::clone(&topic.name), number);
                if slot.held_paused && (moves || !slot.paused) {
                    plan.resume.push(partition());
                }
                if moves && slot.held.is_some() {
                    plan.unassign.push(partition());
                }
                if moves && slot.wanted.is_some() {
                    plan.assign.push((partition(), slot.position));
                }
                if slot.wanted.is_some() && slot.paused && (moves || !slot.held_paused) {
                    plan.pause.push(partition());
                }
            }
        }
        Some(plan)
    }

    /// Everything wanted, each at the offset that comes next: what an eager protocol is given anew each time.
    pub fn everything(&self) -> Vec<(TopicPartition, i64)> {
        let mut all = Vec::new();
        for topic in &self.topics {
            for (slot, number) in topic.slots.iter().zip(0..) {
                if slot.wanted.is_some() {
                    all.push((TopicPartition::new(Arc::clone(&topic.name), number), slot.position));
                }
            }
        }
        all
    }

    /// librdkafka has let go of these.
    pub fn set_unassigned(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(slot) = self.slot(&partition.topic, partition.partition) {
                slot.held = None;
                slot.held_paused = false;
            }
        }
    }

    /// The rest of the plan has been carried out: what is held is what is wanted.
    pub fn set_settled(&mut self) {
        for topic in &mut self.topics {
            for slot in &mut topic.slots {
                if slot.held != slot.wanted {
                    slot.held = slot.wanted;
                    slot.seen_stopped = 0;
                }
                slot.held_paused = slot.paused && slot.wanted.is_some();
            }
        }
        self.changed = false;
    }

    fn slot(&mut self, topic: &str, partition: i32) -> Option<&mut Slot> {
        let topic = self.topics.iter_mut().find(|candidate| *candidate.name == *topic)?;
        slot_mut(&mut topic.slots, partition)
    }
}

fn slot_mut(slots: &mut [Slot], partition: i32) -> Option<&mut Slot> {
    slots.get_mut(usize::try_from(partition).ok()?)
}

#[cfg(test)]
mod tests;

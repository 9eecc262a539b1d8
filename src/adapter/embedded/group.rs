//! The group coordinator: who is a member, which partitions each owns, and how they move.
//!
//! ```text
//!            target set            owner answers             nobody owns it
//!   owned ──────────────► revoking ─────────────► (released) ──────────────► owned by the new member
//! ```
//! Cooperative: a partition that stays is never taken away, and one that moves is given on only when its
//! owner has let go of it, or has been removed from the group.

use crate::base::ids::TopicPartition;
use crate::port::group::GroupMember;
use crate::port::log::Wake;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub(super) u64);

impl MemberId {
    /// In text they have the same order.
    pub(super) fn text(self) -> String {
        format!("member-{:020}", self.0)
    }
}

/// What a member is told on its next poll.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

struct Member {
    process: String,
    topics: Vec<Arc<str>>,
    last_poll: Duration,
    target: BTreeSet<TopicPartition>,
    owned: BTreeSet<TopicPartition>,
    revoking: BTreeSet<TopicPartition>,
    news: VecDeque<News>,
    wake: Wake,
}

/// Who joins.
pub(super) struct Joining {
    /// A process of its own where nothing is said.
    pub process: Option<String>,
    pub topics: Vec<Arc<str>>,
    pub wake: Wake,
}

#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    pub committed: BTreeMap<TopicPartition, i64>,
}

/// Partition counts of the topics that exist.
pub(super) type PartitionCounts = BTreeMap<Arc<str>, i32>;

impl Group {
    pub fn contains(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    pub fn join(&mut self, id: MemberId, joining: Joining, at: Duration, counts: &PartitionCounts) {
        let Joining { process, topics, wake } = joining;
        let member = Member {
            process: process.unwrap_or_else(|| id.text()),
            topics,
            last_poll: at,
            target: BTreeSet::new(),
            owned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            news: VecDeque::new(),
            wake,
        };
        self.members.insert(id, member);
        self.rebalance(counts);
        // The first answer comes whatever is in it.
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.news.is_empty()) {
            member.news.push_back(News::Assigned(Vec::new()));
            (member.wake)();
        }
    }

    /// `None` while somebody still has what is to be another's.
    pub fn members(&self) -> Option<Vec<GroupMember>> {
        let settled = self.members.values().all(|member| member.owned == member.target);
        let seen = self.members.iter().map(|(id, member)| GroupMember {
            id: id.text(),
            process: member.process.clone(),
            partitions: member.owned.iter().cloned().collect(),
        });
        settled.then(|| seen.collect())
    }

    /// Leaves, or is declared dead: what it owned is free at once.
    pub fn remove(&mut self, id: MemberId, counts: &PartitionCounts) {
        if self.members.remove(&id).is_some() {
            self.rebalance(counts);
        }
    }

    /// Removes every member that has not polled for `timeout`; true if there was one, and so the
    /// partitions are to be shared out anew.
    pub fn expire(&mut self, at: Duration, timeout: Duration) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| at.saturating_sub(member.last_poll) <= timeout);
        self.members.len() < before
    }

    /// A sign of life, and the news since the last one; `None` if it is no member (any more).
    pub fn poll(&mut self, id: MemberId, at: Duration) -> Option<Vec<News>> {
        let member = self.members.get_mut(&id)?;
        member.last_poll = at;
        Some(member.news.drain(..).collect())
    }

    pub fn release(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        let Some(member) = self.members.get_mut(&id) else { return };
        for partition in partitions {
            member.owned.remove(partition);
            member.revoking.remove(partition);
        }
        self.reconcile();
    }

    /// Shares the partitions of all subscribed topics out anew, moving as few as an even spread allows.
    pub fn rebalance(&mut self, counts: &PartitionCounts) {
        let mut unassigned = self.subscribed_partitions(counts);
        for member in self.members.values_mut() {
            member.target.retain(|partition| member.topics.contains(&partition.topic) && unassigned.remove(partition));
        }
        for partition in unassigned {
            let least_loaded = self.members.values_mut().filter(|member| member.topics.contains(&partition.topic));
            if let Some(member) = least_loaded.min_by_key(|member| member.target.len()) {
                member.target.insert(partition);
            }
        }
        while self.even_out_one() {}
        self.reconcile();
    }

    fn subscribed_partitions(&self, counts: &PartitionCounts) -> BTreeSet<TopicPartition> {
        let topics: BTreeSet<&Arc<str>> = self.members.values().flat_map(|member| &member.topics).collect();
        let mut partitions = BTreeSet::new();
        for topic in topics {
            let count = counts.get(topic).copied().unwrap_or(0);
            partitions.extend((0..count).map(|number| TopicPartition::new(topic.clone(), number)));
        }
        partitions
    }

    /// Moves one partition to the least loaded member from one that has at least two more.
    fn even_out_one(&mut self) -> bool {
        let Some((&poor, least)) = self.members.iter().min_by_key(|(_, member)| member.target.len()) else { return false };
        let (topics, least) = (least.topics.clone(), least.target.len());
        for member in self.members.values_mut().filter(|member| member.target.len() >= least + 2) {
            let movable = member.target.iter().rev().find(|partition| topics.contains(&partition.topic)).cloned();
            let Some(partition) = movable else { continue };
            member.target.remove(&partition);
            if let Some(member) = self.members.get_mut(&poor) {
                member.target.insert(partition);
            }
            return true;
        }
        false
    }

    /// Asks for what is to move, and gives on what is free. Wakes the members it has news for, under the
    /// broker's lock: a wake may set a flag or notify, not call back.
    fn reconcile(&mut self) {
        let taken: BTreeSet<TopicPartition> = self.members.values().flat_map(|member| member.owned.iter().cloned()).collect();
        for member in self.members.values_mut() {
            let revoke: Vec<_> =
                member.owned.difference(&member.target).filter(|p| !member.revoking.contains(p)).cloned().collect();
            let assign: Vec<_> = member.target.difference(&taken).cloned().collect();
            if revoke.is_empty() && assign.is_empty() {
                continue;
            }
            if !revoke.is_empty() {
                member.revoking.extend(revoke.iter().cloned());
                member.news.push_back(News::Revoked(revoke));
            }
            if !assign.is_empty() {
                member.owned.extend(assign.iter().cloned());
                member.news.push_back(News::Assigned(assign));
            }
            (member.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(partitions: i32) -> PartitionCounts {
        PartitionCounts::from([(Arc::from("vector-cdc"), partitions)])
    }

    fn join(group: &mut Group, id: u64, counts: &PartitionCounts) {
        let joining = Joining { process: None, topics: vec![Arc::from("vector-cdc")], wake: Arc::new(|| {}) };
        group.join(MemberId(id), joining, Duration::ZERO, counts);
    }

    fn news(group: &mut Group, id: u64) -> Vec<News> {
        group.poll(MemberId(id), Duration::ZERO).expect("a member")
    }

    fn partitions(numbers: &[i32]) -> Vec<TopicPartition> {
        numbers.iter().map(|number| TopicPartition::new("vector-cdc", *number)).collect()
    }

    #[test]
    fn a_partition_moves_only_after_its_owner_has_released_it() {
        let (mut group, counts) = (Group::default(), counts(4));
        join(&mut group, 1, &counts);
        assert_eq!(news(&mut group, 1), [News::Assigned(partitions(&[0, 1, 2, 3]))]);
        join(&mut group, 2, &counts);
        assert_eq!(news(&mut group, 1), [News::Revoked(partitions(&[2, 3]))]);
        assert_eq!(news(&mut group, 2), [News::Assigned(Vec::new())], "the group has answered");
        group.release(MemberId(1), &partitions(&[3]));
        assert_eq!(news(&mut group, 2), [News::Assigned(partitions(&[3]))]);
        group.release(MemberId(1), &partitions(&[2]));
        assert_eq!(news(&mut group, 2), [News::Assigned(partitions(&[2]))]);
        assert_eq!(news(&mut group, 1), []);
    }

    #[test]
    fn a_revoked_partition_that_falls_back_is_assigned_again() {
        let (mut group, counts) = (Group::default(), counts(2));
        join(&mut group, 1, &counts);
        join(&mut group, 2, &counts);
        group.remove(MemberId(2), &counts);
        assert_eq!(news(&mut group, 1), [News::Assigned(partitions(&[0, 1])), News::Revoked(partitions(&[1]))]);
        group.release(MemberId(1), &partitions(&[1]));
        assert_eq!(news(&mut group, 1), [News::Assigned(partitions(&[1]))]);
    }

    #[test]
    fn a_silent_member_is_removed_and_its_partitions_go_to_the_living() {
        let (mut group, counts) = (Group::default(), counts(2));
        join(&mut group, 1, &counts);
        join(&mut group, 2, &counts);
        group.release(MemberId(1), &partitions(&[1]));
        group.poll(MemberId(1), Duration::from_secs(9));
        assert!(group.expire(Duration::from_secs(11), Duration::from_secs(10)));
        group.rebalance(&counts);
        assert_eq!(group.poll(MemberId(2), Duration::from_secs(11)), None);
        assert_eq!(news(&mut group, 1), [News::Assigned(partitions(&[1]))]);
    }
}

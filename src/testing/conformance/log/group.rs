//! The group consumer.

use super::appending::append;
use super::{LogUnderTest, Member, until};
use crate::base::ids::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;

struct Topics {
    group: Arc<str>,
    local: Arc<str>,
    mirror: Arc<str>,
}

/// A local topic and its mirror with equal partition counts and `records` in each partition.
fn topics(log: &mut dyn LogUnderTest, base: &str, partitions: i32, records: &[&str]) -> Topics {
    let local = log.unique(base);
    let mirror: Arc<str> = Arc::from(format!("us.{local}"));
    let group = log.unique("group");
    for topic in [&local, &mirror] {
        log.create_topic(topic, partitions);
        for partition in 0..partitions {
            append(log, &TopicPartition::new(Arc::clone(topic), partition), records);
        }
    }
    Topics { group, local, mirror }
}

impl Topics {
    fn join(&self, log: &mut dyn LogUnderTest) -> Member {
        Member::join(log, &self.group, &self.local, &self.mirror)
    }

    fn local(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.local), partition)
    }

    fn mirror(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.mirror), partition)
    }
}

/// Polls for long enough that a record that should not come would have.
fn stay_a_while(log: &mut dyn LogUnderTest, member: &mut Member) {
    for _ in 0..25 {
        member.poll();
        log.wait();
    }
}

/// Members that say nothing of their process count as the log's own clients do; that is for each log to say.
pub fn a_look_at_the_group_shows_what_each_member_has(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "looked-at", 4, &[]);
    let mut view = log.view(&topics.group);
    assert_eq!(view.members().expect("the log is reached").unwrap_or_default(), [], "nobody has joined");
    let (mut one, mut two) = (topics.join(log), topics.join(log));
    let found = until(log, "a share for each, and seen from outside", |_| {
        one.poll();
        two.poll();
        let members = view.members().expect("the log is reached").filter(|members| members.len() == 2)?;
        (one.owned.len() == 2 && two.owned.len() == 2).then_some(members)
    });
    let shares = found.iter().map(|member| member.partitions.iter().cloned().collect::<BTreeSet<_>>());
    let shares: BTreeSet<_> = shares.collect();
    assert_eq!(shares, BTreeSet::from([one.owned.clone(), two.owned.clone()]));
    assert!(found[0].id != found[1].id && found.iter().all(|member| !member.process.is_empty()), "{found:?}");
    two.consumer.leave();
    until(log, "the one that is left has all", |_| {
        one.poll();
        let members = view.members().expect("the log is reached")?;
        (members.len() == 1 && members[0].partitions.len() == 4).then_some(())
    });
}

pub fn nothing_is_fetched_before_it_is_asked_for_and_a_second_request_goes_back(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "fetch", 2, &["a", "b", "c"]);
    let mut member = topics.join(log);
    member.fetches_at_once = false;
    until(log, "both partitions assigned", |_| {
        member.poll();
        (member.owned.len() == 2).then_some(())
    });
    stay_a_while(log, &mut member);
    assert!(member.records.is_empty(), "fetched before it was asked for");

    member.fetch(&topics.local(0), 1);
    member.fetch(&topics.mirror(0), 2);
    until(log, "the records from where they were asked for", |_| {
        member.poll();
        (member.records.len() == 3).then_some(())
    });
    stay_a_while(log, &mut member);
    let expected = [(&topics.local, 1), (&topics.local, 2), (&topics.mirror, 2)];
    let expected = expected.iter().map(|(topic, offset)| (Arc::clone(topic), 0, *offset)).collect();
    assert_eq!(member.coordinates(), expected);

    member.records.clear();
    member.fetch(&topics.local(0), 0);
    until(log, "the records from the second request's offset", |_| {
        member.poll();
        (member.records.len() == 3).then_some(())
    });
    assert_eq!(member.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);

    member.records.clear();
    member.consumer.stop_fetching(&[topics.mirror(0)]).unwrap();
    append(log, &topics.mirror(0), &["unseen"]);
    append(log, &topics.local(0), &["seen"]);
    until(log, "the partition that is still fetched", |_| {
        member.poll();
        member.has(&topics.local(0), 3).then_some(())
    });
    stay_a_while(log, &mut member);
    assert_eq!(member.records.len(), 1, "the mirror was not to be fetched any more");
    assert!(member.consumer.fetch_from(&TopicPartition::new(Arc::clone(&topics.mirror), 9), 0).is_err());
}

pub fn a_paused_partition_is_silent_and_loses_nothing(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "pause", 1, &["a"]);
    let mut member = topics.join(log);
    until(log, "the first records", |_| {
        member.poll();
        (member.records.len() == 2).then_some(())
    });
    let both = [topics.local(0), topics.mirror(0)];
    member.consumer.pause(&both[..1]).unwrap();
    append(log, &topics.local(0), &["b", "c"]);
    append(log, &topics.mirror(0), &["b"]);
    until(log, "the partition that is not paused", |_| {
        member.poll();
        member.has(&topics.mirror(0), 1).then_some(())
    });
    stay_a_while(log, &mut member);
    assert!(!member.has(&topics.local(0), 1), "a paused partition delivered");
    member.consumer.resume(&both[..1]).unwrap();
    until(log, "the records of the pause", |_| {
        member.poll();
        (member.records.len() == 5).then_some(())
    });
    assert_eq!(member.coordinates().len(), 5, "each once");

    member.consumer.pause(&both).unwrap();
    stay_a_while(log, &mut member);
    member.records.clear();
    member.fetch(&topics.local(0), 0);
    until(log, "the records of a partition that was asked for again while it was paused", |_| {
        member.poll();
        (member.records.len() == 3).then_some(())
    });
}

pub fn a_member_for_which_nothing_is_left_is_told_so(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "nothing", 1, &["a"]);
    let mut members = [topics.join(log), topics.join(log)];
    until(log, "an answer to each, and the partition to one", |_| {
        members.iter_mut().for_each(Member::poll);
        let owned: usize = members.iter().map(|member| member.owned.len()).sum();
        (owned == 1 && members.iter().all(|member| member.answered)).then_some(())
    });
}

pub fn a_revocation_waits_for_its_release(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "release", 4, &["a"]);
    let mut first = topics.join(log);
    until(log, "everything, for a member alone", |_| {
        first.poll();
        (first.owned.len() == 4 && first.records.len() == 8).then_some(())
    });
    first.releases_at_once = false;
    let mut second = topics.join(log);
    until(log, "a revocation", |_| {
        first.poll();
        second.poll();
        (!first.revoked.is_empty()).then_some(())
    });
    for _ in 0..25 {
        first.poll();
        second.poll();
        log.wait();
    }
    let both = first.revoked.iter().find(|partition| second.owned.contains(*partition));
    assert_eq!(both, None, "given to another before it was released");

    first.releases_at_once = true;
    first.release();
    until(log, "half for each", |_| {
        first.poll();
        second.poll();
        (first.owned.len() == 2 && second.owned.len() == 2).then_some(())
    });
    assert!(first.owned.is_disjoint(&second.owned));
    for partition in 0..4 {
        append(log, &topics.local(partition), &["after"]);
        append(log, &topics.mirror(partition), &["after"]);
    }
    until(log, "what was appended after the hand-over, at its owners", |_| {
        first.poll();
        second.poll();
        let at_owner = |partition: i32| {
            let owner = if first.owned.contains(&topics.local(partition)) { &first } else { &second };
            owner.has(&topics.local(partition), 1) && owner.has(&topics.mirror(partition), 1)
        };
        (0..4).all(at_owner).then_some(())
    });
}

pub fn a_member_that_leaves_hands_its_partitions_over(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "leave", 2, &["a"]);
    let mut first = topics.join(log);
    let mut second = topics.join(log);
    until(log, "one for each", |_| {
        first.poll();
        second.poll();
        (first.owned.len() == 1 && second.owned.len() == 1).then_some(())
    });
    first.consumer.commit(&[(topics.local(0), 1)]);
    first.consumer.leave();
    first.consumer.leave();
    until(log, "everything, for the member that stayed", |_| {
        second.poll();
        (second.owned.len() == 2 && second.records.len() >= 4).then_some(())
    });
    assert_eq!(second.coordinates().len(), 4);
    let mut events = Vec::new();
    first.consumer.poll(10, &mut events);
    assert!(events.is_empty(), "a member that has left hears nothing");
}

pub fn a_member_may_leave_with_a_revocation_unanswered(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "unanswered", 2, &["a"]);
    let mut first = topics.join(log);
    until(log, "everything, for a member alone", |_| {
        first.poll();
        (first.owned.len() == 2).then_some(())
    });
    first.releases_at_once = false;
    let mut second = topics.join(log);
    until(log, "a revocation", |_| {
        first.poll();
        second.poll();
        (!first.revoked.is_empty()).then_some(())
    });
    first.consumer.leave();
    until(log, "everything, for the other", |_| {
        second.poll();
        (second.owned.len() == 2).then_some(())
    });
}

pub fn a_position_beyond_the_log_is_reported_and_can_be_mended(log: &mut dyn LogUnderTest) {
    let topics = topics(log, "range", 2, &["a", "b"]);
    let mut member = topics.join(log);
    member.fetches_at_once = false;
    until(log, "both partitions", |_| {
        member.poll();
        (member.owned.len() == 2).then_some(())
    });
    member.fetch(&topics.local(0), 0);
    member.fetch(&topics.local(1), 0);
    member.fetch(&topics.mirror(0), 0);
    member.fetch(&topics.mirror(1), 1_000);
    until(log, "the report", |_| {
        member.poll();
        (!member.out_of_range.is_empty()).then_some(())
    });
    stay_a_while(log, &mut member);
    assert_eq!(member.out_of_range, [topics.mirror(1)], "once, and only that one");
    member.fetch(&topics.mirror(1), 0);
    until(log, "the partition read from its start", |_| {
        member.poll();
        (member.coordinates().len() == 8).then_some(())
    });
}

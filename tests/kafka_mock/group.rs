//! The group consumer: whatever happens to the group, what is read goes on where reading stopped.

use crate::cluster::{BROKERS, MockLog, SESSION, until};
use crate::follower::{Follower, Journey};
use driftless::base::error::{Error, Remedy};
use driftless::base::ids::TopicPartition;
use driftless::port::log::LogEvent;
use driftless::testing::conformance::log::LogUnderTest;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
/// A worker's.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// A member alone that has read what there is.
fn one_member(mock: &mut MockLog) -> (Journey, Follower) {
    let mut journey = Journey::begin(mock, PARTITIONS);
    journey.write(mock, 10);
    let mut member = Follower::join(mock, &journey);
    journey.all_read(mock, &mut [&mut member]);
    (journey, member)
}

fn owned_once(members: &[&mut Follower]) -> bool {
    members.iter().map(|member| member.owned.len()).sum::<usize>() == PARTITIONS as usize
        && members.iter().all(|member| !member.owned.is_empty() && member.held.is_empty())
}

fn all_passing(members: &[&Follower]) {
    let faults: Vec<&Error> = members.iter().flat_map(|member| &member.faults).collect();
    assert!(faults.iter().all(|fault| matches!(fault.remedy, Remedy::Retry | Remedy::Rejoin)), "{faults:?}");
}

/// Polls for so long; for what must *not* happen.
fn stay(mock: &mut MockLog, journey: &mut Journey, members: &mut [&mut Follower], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        members.iter_mut().for_each(|member| member.poll(journey));
        mock.wait();
    }
}

#[test]
fn f03_records_fetched_before_a_revocation_do_not_surface_after_it() {
    let mut mock = MockLog::start();
    let mut journey = Journey::begin(&mut mock, PARTITIONS);
    journey.write(&mut mock, 500);
    let mut first = Follower::join(&mut mock, &journey);
    // The rest is fetched and waits in the client.
    first.polled_at_once = 3;
    until(&mut mock, "the first records", |_| {
        first.poll(&mut journey);
        (journey.at(&TopicPartition::new(Arc::clone(&journey.local), 0)) > 0).then_some(())
    });
    let mut second = Follower::join(&mut mock, &journey);
    second.polled_at_once = 3;
    until(&mut mock, "a share for each", |_| {
        first.poll(&mut journey);
        second.poll(&mut journey);
        owned_once(&[&mut first, &mut second]).then_some(())
    });
    first.polled_at_once = 1_000;
    second.polled_at_once = 1_000;
    // `Follower` and `Journey` refuse what is not owned, and what comes twice.
    journey.all_read(&mut mock, &mut [&mut first, &mut second]);
    all_passing(&[&first, &second]);
}

#[test]
fn f06_members_that_come_and_go_with_commits_under_way_settle_again_each_time() {
    let mut mock = MockLog::start();
    let (mut journey, mut stays) = one_member(&mut mock);
    for round in 0..2 {
        let mut visitor = Follower::join(&mut mock, &journey);
        let mut committed = Instant::now();
        until(&mut mock, "a share for each", |_| {
            let commits = committed.elapsed() >= COMMIT_INTERVAL;
            if commits {
                committed = Instant::now();
            }
            for member in [&mut stays, &mut visitor] {
                member.poll(&mut journey);
                if !commits {
                    continue;
                }
                let offsets: Vec<_> = journey.sources().into_iter().map(|source| (source.clone(), journey.at(&source))).collect();
                member.consumer.commit(&offsets);
            }
            owned_once(&[&mut stays, &mut visitor]).then_some(())
        });
        journey.write(&mut mock, 10);
        journey.all_read(&mut mock, &mut [&mut stays, &mut visitor]);
        visitor.consumer.leave();
        until(&mut mock, "everything, for the one that stays", |_| {
            stays.poll(&mut journey);
            (stays.owned.len() == PARTITIONS as usize).then_some(())
        });
        journey.write(&mut mock, 10);
        journey.all_read(&mut mock, &mut [&mut stays]);
        all_passing(&[&stays, &visitor]);
        assert!(stays.assignments <= 2 + 3 * (round + 1), "{} assignments after round {round}", stays.assignments);
    }
}

#[test]
fn f07_a_revocation_that_takes_longer_than_the_session_does_not_cost_the_membership() {
    let mut mock = MockLog::start();
    let (mut journey, mut first) = one_member(&mut mock);
    first.gives_back = false;
    let mut second = Follower::join(&mut mock, &journey);
    until(&mut mock, "a revocation", |_| {
        first.poll(&mut journey);
        second.poll(&mut journey);
        (!first.held.is_empty()).then_some(())
    });
    stay(&mut mock, &mut journey, &mut [&mut first, &mut second], SESSION * 2);
    assert_eq!(first.losses, 0, "heartbeats go on while the answer is due");
    first.gives_back = true;
    first.give_back();
    until(&mut mock, "a share for each", |_| {
        first.poll(&mut journey);
        second.poll(&mut journey);
        owned_once(&[&mut first, &mut second]).then_some(())
    });
    journey.write(&mut mock, 5);
    journey.all_read(&mut mock, &mut [&mut first, &mut second]);
    all_passing(&[&first, &second]);
}

#[test]
fn f07_leaving_does_not_hang_on_an_unanswered_revocation_or_on_silent_brokers() {
    let mut mock = MockLog::start();
    let (mut journey, mut first) = one_member(&mut mock);
    first.gives_back = false;
    let mut second = Follower::join(&mut mock, &journey);
    until(&mut mock, "a revocation", |_| {
        first.poll(&mut journey);
        second.poll(&mut journey);
        (!first.held.is_empty()).then_some(())
    });
    mock.all_brokers_down();
    for mut member in [first, second] {
        let begun = Instant::now();
        member.consumer.leave();
        assert!(begun.elapsed() < Duration::from_secs(8), "leaving took {:?}", begun.elapsed());
    }
}

#[test]
fn f08_refused_commits_stop_nothing() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    let codes = [
        Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Code::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for code in codes {
        let before = mock.requests(Api::OffsetCommit);
        mock.fail(Api::OffsetCommit, &[code]);
        let offsets: Vec<_> = member.owned.iter().map(|source| (source.clone(), journey.at(source))).collect();
        member.consumer.commit(&offsets);
        until(&mut mock, "the commit", |_| {
            member.poll(&mut journey);
            Some(())
        });
        mock.until_requests(Api::OffsetCommit, before + 1);
        journey.write(&mut mock, 3);
        journey.all_read(&mut mock, &mut [&mut member]);
    }
    all_passing(&[&member]);
}

#[test]
fn f08_f06_refused_heartbeats_and_joins_end_in_a_membership_again() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    let heartbeat = [
        Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for code in heartbeat {
        mock.fail(Api::Heartbeat, &[code]);
        mock.fail(Api::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]);
        mock.fail(Api::SyncGroup, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
        mock.fail(Api::FindCoordinator, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]);
        let heard = mock.requests(Api::Heartbeat);
        mock.until_requests(Api::Heartbeat, heard + 1);
        journey.write(&mut mock, 3);
        journey.all_read(&mut mock, &mut [&mut member]);
        for api in [Api::JoinGroup, Api::SyncGroup, Api::FindCoordinator] {
            mock.cluster().clear_request_errors(api);
        }
    }
    until(&mut mock, "the partitions owned", |_| {
        member.poll(&mut journey);
        (member.owned.len() == PARTITIONS as usize).then_some(())
    });
    all_passing(&[&member]);
}

#[test]
fn f02_f06_a_coordinator_that_moves_or_is_gone_for_a_while_costs_nothing() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    for broker in 1..=BROKERS {
        mock.coordinate(&journey.group, broker);
        journey.write(&mut mock, 3);
        journey.all_read(&mut mock, &mut [&mut member]);
    }
    let heard = mock.requests(Api::Heartbeat);
    mock.until_requests(Api::Heartbeat, heard + 3);
    mock.cluster().broker_down(BROKERS).unwrap();
    stay(&mut mock, &mut journey, &mut [&mut member], SESSION + Duration::from_secs(1));
    mock.cluster().broker_up(BROKERS).unwrap();
    journey.write(&mut mock, 3);
    until(&mut mock, "a membership, and everything read", |_| {
        member.poll(&mut journey);
        (journey.is_read() && member.owned.len() == PARTITIONS as usize).then_some(())
    });
    all_passing(&[&member]);
}

#[test]
fn f09_a_member_that_polls_with_everything_paused_keeps_its_place() {
    let mut mock = MockLog::start();
    mock.set("max.poll.interval.ms", &SESSION.as_millis().to_string());
    let (mut journey, mut member) = one_member(&mut mock);
    member.consumer.pause(&journey.sources()).unwrap();
    journey.write(&mut mock, 20);
    stay(&mut mock, &mut journey, &mut [&mut member], SESSION * 2);
    assert!(!journey.is_read(), "paused");
    assert_eq!((member.losses, member.assignments), (0, 1));
    member.consumer.resume(&journey.sources()).unwrap();
    journey.all_read(&mut mock, &mut [&mut member]);
    assert!(member.faults.is_empty(), "{:?}", member.faults);
}

#[test]
fn f09_a_member_that_did_not_poll_in_time_is_told_and_rejoins() {
    let mut mock = MockLog::start();
    mock.set("max.poll.interval.ms", &SESSION.as_millis().to_string());
    let (mut journey, mut member) = one_member(&mut mock);
    let before = mock.requests(Api::LeaveGroup);
    mock.until_requests(Api::LeaveGroup, before + 1);
    journey.write(&mut mock, 10);
    until(&mut mock, "a membership again, and everything read", |_| {
        member.poll(&mut journey);
        (journey.is_read() && member.owned.len() == PARTITIONS as usize && member.losses == 1).then_some(())
    });
    let told: Vec<String> = member.faults.iter().map(Error::to_string).collect();
    assert!(told.iter().any(|text| text.contains("max.poll.interval.ms")), "{told:?}");
    all_passing(&[&member]);
}

#[test]
fn f10_a_member_whose_instance_id_another_has_taken_is_told_to_end() {
    let mut mock = MockLog::start();
    mock.instance("the-same");
    let (mut journey, mut member) = one_member(&mut mock);
    mock.fail(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let error = until(&mut mock, "the end of the membership", |_| {
        member.poll(&mut journey);
        member.faults.iter().find(|fault| fault.remedy == Remedy::Fatal).cloned()
    });
    assert!(error.to_string().contains("group_instance_id"), "{error}");
}

#[test]
fn f12_a_group_reads_on_through_leader_changes_errors_and_lost_connections() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    let codes = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for (code, round) in codes.into_iter().zip(0..) {
        mock.fail(Api::Fetch, &[code; 2]);
        mock.fail(Api::OffsetForLeaderEpoch, &[code]);
        for partition in 0..PARTITIONS {
            mock.lead(&journey.local, partition, (partition + round) % BROKERS + 1);
            mock.lead(&journey.mirror, partition, (partition + round + 1) % BROKERS + 1);
        }
        journey.write(&mut mock, 10);
        journey.all_read(&mut mock, &mut [&mut member]);
    }
    assert_eq!(member.losses, 0);
    assert!(member.out_of_range.is_empty(), "{:?}", member.out_of_range);
    all_passing(&[&member]);
}

#[test]
fn f12_f04_all_brokers_gone_for_longer_than_the_session_leave_no_partition_idle() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    mock.all_brokers_down();
    stay(&mut mock, &mut journey, &mut [&mut member], SESSION + Duration::from_secs(1));
    mock.all_brokers_up();
    journey.write(&mut mock, 10);
    until(&mut mock, "a membership again, and everything read", |_| {
        member.poll(&mut journey);
        (journey.is_read() && member.owned.len() == PARTITIONS as usize).then_some(())
    });
    all_passing(&[&member]);
}

#[test]
fn f13_what_a_member_keeps_over_a_rebalance_is_not_read_from_an_earlier_position() {
    let mut mock = MockLog::start();
    let (mut journey, mut first) = one_member(&mut mock);
    // Committed far behind, so that a position taken from there would show.
    let behind: Vec<_> = journey.sources().into_iter().map(|source| (source, 1)).collect();
    first.consumer.commit(&behind);
    let mut second = Follower::join(&mut mock, &journey);
    until(&mut mock, "a share for each", |_| {
        first.poll(&mut journey);
        second.poll(&mut journey);
        owned_once(&[&mut first, &mut second]).then_some(())
    });
    second.consumer.leave();
    until(&mut mock, "everything, for the first", |_| {
        first.poll(&mut journey);
        (first.owned.len() == PARTITIONS as usize).then_some(())
    });
    journey.write(&mut mock, 5);
    journey.all_read(&mut mock, &mut [&mut first]);
    stay(&mut mock, &mut journey, &mut [&mut first], Duration::from_millis(500));
}

#[test]
fn f15_lost_committed_offsets_play_no_part_and_a_lost_position_is_told_not_skipped() {
    let mut mock = MockLog::start();
    let (mut journey, mut member) = one_member(&mut mock);
    let ends: Vec<_> = journey.sources().into_iter().map(|source| (source, 9_999)).collect();
    member.consumer.commit(&ends);
    let committed = mock.requests(Api::OffsetCommit);
    mock.until_requests(Api::OffsetCommit, committed.max(1));
    drop(member);
    mock.fail(Api::OffsetFetch, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; 20]);
    journey.write(&mut mock, 5);
    let mut successor = Follower::join(&mut mock, &journey);
    journey.all_read(&mut mock, &mut [&mut successor]);
    assert!(successor.out_of_range.is_empty());

    let beyond = TopicPartition::new(Arc::clone(&journey.mirror), 1);
    successor.consumer.fetch_from(&beyond, 9_999).unwrap();
    until(&mut mock, "the report of a position that the log does not have", |_| {
        successor.poll(&mut journey);
        (!successor.out_of_range.is_empty()).then_some(())
    });
    assert_eq!(successor.out_of_range, std::slice::from_ref(&beyond));
    successor.consumer.fetch_from(&beyond, journey.at(&beyond)).unwrap();
    journey.write(&mut mock, 5);
    journey.all_read(&mut mock, &mut [&mut successor]);
    all_passing(&[&successor]);
}

#[test]
fn f08_an_error_that_no_retry_cures_says_what_does() {
    let lasting = [
        (Api::JoinGroup, Code::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, Remedy::Refuse, "partition.assignment.strategy"),
        (Api::JoinGroup, Code::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT, Remedy::Refuse, "session.timeout.ms"),
        (Api::JoinGroup, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Remedy::Refuse, "ACLs"),
        (Api::JoinGroup, Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, Remedy::Fatal, "group_instance_id"),
        (Api::FindCoordinator, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Remedy::Refuse, "ACLs"),
    ];
    for (api, code, remedy, advice) in lasting {
        let mut mock = MockLog::start();
        mock.instance("one");
        let journey = Journey::begin(&mut mock, 1);
        mock.fail(api, &[code; 50]);
        let mut consumer = mock.join(&journey.group, &journey.local, &journey.mirror);
        let mut events = Vec::new();
        let error = until(&mut mock, &format!("{code:?} of {api:?}"), |_| {
            consumer.poll(100, &mut events);
            events.drain(..).find_map(|event| match event {
                LogEvent::Fault(error) if error.remedy != Remedy::Retry => Some(error),
                _ => None,
            })
        });
        assert_eq!(error.remedy, remedy, "{code:?} of {api:?}: {error}");
        assert!(error.to_string().contains(advice), "{code:?} of {api:?}: {error}");
        let begun = Instant::now();
        drop(consumer);
        assert!(begun.elapsed() < Duration::from_secs(8), "{code:?}: leaving took {:?}", begun.elapsed());
    }
}

#[test]
fn f12_a_slow_coordinator_does_not_cost_the_membership() {
    let mut mock = MockLog::start();
    mock.round_trip(Duration::from_millis(300));
    let (mut journey, mut member) = one_member(&mut mock);
    stay(&mut mock, &mut journey, &mut [&mut member], SESSION + Duration::from_secs(1));
    journey.write(&mut mock, 5);
    journey.all_read(&mut mock, &mut [&mut member]);
    assert_eq!((member.losses, member.assignments), (0, 1));
}

use super::*;

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn two_shards() -> Assignment {
    Assignment::new(&[
        Subscription { local: "cdc-0".into(), co_topics: vec!["us.cdc-0".into(), "repair-0".into()] },
        Subscription { local: "cdc-1".into(), co_topics: vec!["us.cdc-1".into()] },
    ])
}

/// Carries a plan out as the consumer does.
fn settle(assignment: &mut Assignment) -> Plan {
    let plan = assignment.plan().unwrap_or_default();
    assignment.set_unassigned(&plan.unassign);
    assignment.set_settled();
    plan
}

#[test]
fn many_requests_become_one_call_and_a_second_request_moves_the_partition() {
    let mut assignment = two_shards();
    assignment.assigned(&[tp("cdc-0", 3)]);
    assert_eq!(assignment.plan(), None, "nothing is fetched before it is asked for");
    assignment.fetch_from(&tp("cdc-0", 3), 7).unwrap();
    assignment.fetch_from(&tp("us.cdc-0", 3), 0).unwrap();
    let plan = settle(&mut assignment);
    assert_eq!(plan.assign, vec![(tp("cdc-0", 3), 7), (tp("us.cdc-0", 3), 0)]);
    assert_eq!(assignment.plan(), None);

    assert!(assignment.accept("cdc-0", 3, 7).is_some());
    assignment.fetch_from(&tp("cdc-0", 3), 5).unwrap();
    assert!(assignment.accept("cdc-0", 3, 8).is_none(), "fetched before the second request");
    let plan = settle(&mut assignment);
    assert_eq!((plan.unassign, plan.assign), (vec![tp("cdc-0", 3)], vec![(tp("cdc-0", 3), 5)]));
    assert!(assignment.accept("cdc-0", 3, 4).is_none(), "below the position asked for");
    assert!(assignment.accept("cdc-0", 3, 6).is_some(), "a hole is passed over");
    assert_eq!(assignment.everything(), vec![(tp("cdc-0", 3), 7), (tp("us.cdc-0", 3), 0)]);
}

#[test]
fn a_revocation_is_answered_once_with_all_co_partitions_and_blocks_every_other_change() {
    let mut assignment = two_shards();
    let owned = [tp("cdc-0", 0), tp("cdc-0", 1), tp("cdc-1", 0)];
    assignment.assigned(&owned);
    for topic in ["cdc-0", "us.cdc-0", "repair-0"] {
        assignment.fetch_from(&tp(topic, 0), 0).unwrap();
        assignment.fetch_from(&tp(topic, 1), 0).unwrap();
    }
    assignment.fetch_from(&tp("us.cdc-1", 0), 0).unwrap();
    settle(&mut assignment);

    assignment.revoked(&owned[..2]);
    assert!(assignment.accept("us.cdc-0", 1, 0).is_none(), "a partition to be given up delivers no more");
    assert!(assignment.accept("us.cdc-1", 0, 0).is_some(), "another shard's partition of that number goes on");
    assert_eq!(assignment.fetch_from(&tp("us.cdc-0", 0), 9).unwrap_err().remedy, Remedy::Rejoin);
    assignment.stop_fetching(&[tp("us.cdc-1", 0)]);
    assert_eq!(assignment.plan(), None, "the next unassign would be taken for the answer");
    assert!(!assignment.release(&owned[..1]));
    assert!(assignment.release(&owned[1..2]));
    let mut plan = settle(&mut assignment);
    plan.unassign.sort();
    let mut expected = vec![tp("us.cdc-1", 0)];
    for topic in ["cdc-0", "us.cdc-0", "repair-0"] {
        expected.extend([tp(topic, 0), tp(topic, 1)]);
    }
    expected.sort();
    assert_eq!(plan.unassign, expected);
    assert!(plan.assign.is_empty());
    assert!(assignment.fetch_from(&tp("cdc-1", 0), 0).is_ok());
}

#[test]
fn a_pause_does_not_outlive_the_assignment_it_was_made_in() {
    let mut assignment = two_shards();
    let ours = tp("cdc-1", 2);
    assignment.assigned(std::slice::from_ref(&ours));
    assignment.fetch_from(&ours, 0).unwrap();
    assignment.set_paused(std::slice::from_ref(&ours), true);
    let plan = settle(&mut assignment);
    assert_eq!((plan.assign.len(), plan.pause), (1, vec![ours.clone()]), "paused as soon as it is assigned");
    assignment.revoked(std::slice::from_ref(&ours));
    assert!(assignment.release(std::slice::from_ref(&ours)));
    let plan = settle(&mut assignment);
    assert_eq!((plan.resume, plan.unassign), (vec![ours.clone()], vec![ours.clone()]));
    assignment.assigned(std::slice::from_ref(&ours));
    assignment.fetch_from(&ours, 0).unwrap();
    assert!(settle(&mut assignment).pause.is_empty());
}

#[test]
fn a_stopped_fetcher_is_reported_once_and_starts_again_when_asked_for() {
    let mut assignment = two_shards();
    let ours = tp("cdc-1", 0);
    assignment.assigned(std::slice::from_ref(&ours));
    assignment.fetch_from(&ours, 100).unwrap();
    settle(&mut assignment);
    let snapshot = [(Arc::from("cdc-1"), 0)];
    assert!(assignment.stopped(&snapshot).is_empty(), "it may just be starting");
    assert!(assignment.stopped(&[]).is_empty());
    assert!(assignment.stopped(&snapshot).is_empty(), "not twice in a row");
    assert_eq!(assignment.stopped(&snapshot), vec![ours.clone()]);
    assert_eq!(settle(&mut assignment).unassign, vec![ours.clone()]);
    assert!(assignment.stopped(&snapshot).is_empty());
    assignment.fetch_from(&ours, 3).unwrap();
    assert_eq!(settle(&mut assignment).assign, vec![(ours, 3)]);
}

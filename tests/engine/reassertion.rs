//! What is written again because it may have been undone: when, until when, and what an end before that hands on.

use crate::oracle::{assert_oracle, progress_records};
use crate::worker::{Worker, Wreck};
use crate::world::{DOCUMENTS, World, row_id, stamp};
use bytes::Bytes;
use driftless::base::ids::{Region, TopicPartition};
use driftless::port::vector::StoreError;

/// Ends a worker uncleanly and starts its successor, whose safety window begins now.
fn take_over(world: &World, worker: Worker) -> (Worker, Wreck) {
    let wreck = worker.kill();
    world.outlive_session();
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    (next, wreck)
}

fn assert_ends_clean(world: &World, worker: Worker) {
    world.stop(worker);
    assert!(progress_records(world, 0).last().is_some_and(|progress| progress.closed), "something is still suspected");
}

#[test]
fn f61_the_wait_counts_from_the_last_request_of_a_batch_that_got_no_reply() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().lose_replies = 1;
    world.database.check_writes_with(Some(Box::new(|_, _| Err(StoreError::Unavailable("connection refused".to_owned())))));
    world.upsert("eu", 1, 1_000, 0.1);
    world.run_in_steps(&mut [&mut worker], 20_000, 50);
    worker.store().lose_replies = 1;
    world.database.check_writes_with(None);
    world.settle(&mut [&mut worker]);
    world.upsert("eu", 1, 2_000, 0.2);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 12_000, 500);
    assert_eq!(worker.store().read_backs, 0, "the second request may still land");
    worker.store().land_strays();
    assert_eq!(world.database.scan(DOCUMENTS)[&row_id(1)].version.hlc, stamp(1_000));
    world.run_in_steps(&mut [&mut worker], 20_000, 500);
    assert_eq!(worker.store().read_backs, 1, "one suspicion a batch, however often it was sent");
    assert_oracle(&world, &[], "after the safety window");
    assert_ends_clean(&world, worker);
}

#[test]
fn f61_a_row_that_is_under_way_when_it_is_read_back_is_looked_at_again() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().lose_replies = 1;
    world.upsert("eu", 1, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 29_000, 500);
    // The newer row is in the store, and not yet remembered, when the first attempt lands on it.
    worker.appends().unacked.insert(world.settings.topics.vectors_changelog(0));
    world.upsert("eu", 1, 2_000, 0.2);
    world.run(&mut [&mut worker], 100);
    assert_eq!(worker.store().times_sent(1), 3);
    assert_eq!(worker.store().read_backs, 0);
    worker.store().land_strays();
    world.run(&mut [&mut worker], 2_000);
    assert_eq!(worker.store().read_backs, 1);
    worker.appends().unacked.clear();
    world.run_in_steps(&mut [&mut worker], 8_000, 100);
    assert_eq!(worker.store().read_backs, 2);
    assert_oracle(&world, &[], "after the second look");
    assert_ends_clean(&world, worker);
}

/// Rows of an unclean end that are in the lane to be written again, behind a batch that hangs.
fn waiting_to_be_written_again() -> (World, Worker) {
    let mut world = World::new(1);
    let mut worker = world.start();
    for id in 1..=5 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.settle(&mut [&mut worker]);
    let (mut next, _) = take_over(&world, worker);
    world.run_in_steps(&mut [&mut next], 28_000, 500);
    next.store().hangs = true;
    world.upsert("eu", 100, 1_000, 0.1);
    world.run_in_steps(&mut [&mut next], 5_000, 100);
    assert_eq!(next.store().rows_sent(), 1, "only the one that hangs");
    (world, next)
}

#[test]
fn a_row_that_is_overtaken_while_it_waits_to_be_written_again_is_suspected_no_more() {
    let (mut world, mut worker) = waiting_to_be_written_again();
    for id in 1..=5 {
        world.upsert("us", id, 2_000, 0.2);
    }
    world.run(&mut [&mut worker], 100);
    worker.store().hangs = false;
    world.settle(&mut [&mut worker]);
    assert_eq!((worker.store().rows_sent(), worker.report().totals.reasserted), (6, 0));
    assert_oracle(&world, &[], "after the newer ones");
    assert_ends_clean(&world, worker);
}

#[test]
fn a_row_that_is_refused_when_it_is_written_again_is_suspected_no_more() {
    let (world, mut worker) = waiting_to_be_written_again();
    world.database.check_writes_with(Some(Box::new(|_, batch| match batch.ids.contains(&row_id(3)) {
        true => Err(StoreError::Refused("not any more".to_owned())),
        false => Ok(()),
    })));
    worker.store().hangs = false;
    world.settle(&mut [&mut worker]);
    assert_eq!(worker.report().totals.reasserted, 4);
    assert_ends_clean(&world, worker);
}

/// Two unclean ends: the second comes after the first one's window was read and before it was written again, and
/// so late that its own window does not reach back as far.
#[test]
fn f61_rows_on_their_way_to_be_written_again_are_handed_on_by_a_second_unclean_end() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().lose_replies = 1;
    world.upsert("eu", 1, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    world.upsert("eu", 1, 2_000, 0.2);
    world.settle(&mut [&mut worker]);
    let (mut second, wreck) = take_over(&world, worker);
    wreck.land_all();
    assert_eq!(world.database.scan(DOCUMENTS)[&row_id(1)].version.hlc, stamp(1_000), "a stray has undone the row");
    world.run_in_steps(&mut [&mut second], 28_000, 500);
    let at = world.upsert("eu", 2, 1_000, 0.2).at;
    world.settle(&mut [&mut second]);
    second.store().hangs = true;
    world.run_in_steps(&mut [&mut second], 4_000, 100);
    assert!(second.store().times_sent(1) == 1 && second.report().totals.reasserted == 0, "sent, and without an answer");
    // Something to say that needs no write: the progress record comes, and must tell what is suspected.
    world.append(&at, Some("1"), Some(Bytes::from_static(b"\x01 no change")));
    world.run(&mut [&mut second], 500);
    assert_eq!(progress_records(&world, 0).last().and_then(|progress| progress.suspect_from), Some(0));
    let (mut third, _) = take_over(&world, second);
    world.run_in_steps(&mut [&mut third], 35_000, 500);
    assert_oracle(&world, &[], "after the third owner's re-assertion");
    assert_ends_clean(&world, third);
}

#[test]
fn f65_rows_whose_schema_is_being_asked_for_are_written_again_later_and_hold_up_no_others() {
    let mut world = World::new(1);
    let mut worker = world.start();
    for origin in ["us", "eu"] {
        for id in 1..=3 {
            world.upsert(origin, id + i64::from(origin == "eu") * 10, 1_000, 0.1);
        }
        world.settle(&mut [&mut worker]);
    }
    let (mut next, _) = take_over(&world, worker);
    next.silent_registries.lock().unwrap().insert(Region::new("us"));
    world.run_in_steps(&mut [&mut next], 35_000, 100);
    assert_eq!(next.report().totals.reasserted, 3, "those of eu");
    assert!(!next.store().sent.iter().any(|batch| batch.ids.contains(&row_id(1))));
    // What waits is not forgotten: an end now would hand it on.
    world.append(&TopicPartition::new(world.topic("eu"), 0), Some("1"), Some(Bytes::from_static(b"\x01 no change")));
    world.run(&mut [&mut next], 500);
    assert_eq!(progress_records(&world, 0).last().and_then(|progress| progress.suspect_from), Some(0));
    next.silent_registries.lock().unwrap().clear();
    world.run_in_steps(&mut [&mut next], 3_000, 100);
    assert_eq!(next.report().totals.reasserted, 6);
    assert_ends_clean(&world, next);
}

//! Restarts with nothing to do, topics read twice, rows that the vector store refuses.

use crate::oracle::{assert_oracle, dead_letters, progress_records};
use crate::world::{DOCUMENTS, STEP_MS, World, row_id};
use driftless::base::ids::TopicPartition;
use driftless::port::vector::StoreError;
use driftless::store::progress::{PROGRESS_KEY, Progress};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

fn refuse(world: &World, id: i64) {
    world.database.check_writes_with(Some(Box::new(move |_, batch| match batch.ids.contains(&row_id(id)) {
        true => Err(StoreError::Refused("the proxy does not like it".to_owned())),
        false => Ok(()),
    })));
}

fn some_history(world: &mut World) {
    for id in 0..50 {
        world.upsert("eu", id, 1_000 + id, 0.1);
        world.upsert("us", id, 1_020, 0.2);
    }
    world.upsert("eu", 1, 1_001, 0.1);
    world.delete("us", 2, 5_000);
    world.upsert("eu", 2, 4_000, 0.3);
}

#[test]
fn a_clean_restart_with_nothing_to_do_writes_nothing() {
    let mut world = World::new(2);
    some_history(&mut world);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    assert!((0..2).all(|partition| progress_records(&world, partition).last().is_some_and(|progress| progress.closed)));
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 40_000, 500);
    assert_eq!(worker.store().rows_sent(), 0);
    assert_eq!(worker.store().read_backs, 0);
    assert_eq!((worker.report().totals.applied(), worker.report().totals.reasserted), (0, 0));
    assert_oracle(&world, &[], "after a clean restart");
}

#[test]
fn reading_every_topic_again_sends_no_settled_row_twice() {
    let mut world = World::new(1);
    refuse(&world, 7);
    some_history(&mut world);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let forgetful = Progress { closed: true, epoch: 90, ..Progress::default() };
    world.append(&world.versions_changelog(0), Some(PROGRESS_KEY), Some(forgetful.encode().into()));

    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    assert!(worker.report().totals.polled() >= world.produced.len() as u64, "not all was read again");
    let again = worker.store().times_sent(7);
    assert_eq!(worker.store().rows_sent(), again, "but for the refused one, which is offered again");
    assert_oracle(&world, &[7], "after reading all again");
}

#[test]
fn one_bad_row_of_a_thousand_is_dead_lettered_and_the_rest_lands() {
    const BAD: i64 = 500;
    let mut world = World::new(1);
    refuse(&world, BAD);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for id in 0..1_000 {
        world.upsert("eu", id, 1_000, 0.5);
    }
    world.settle(&mut [&mut worker]);
    assert_eq!(world.database.rows(DOCUMENTS), 999);
    assert_oracle(&world, &[BAD], "after the bisection");
    let bad = world.produced[BAD as usize].clone();
    let expected = BTreeSet::from([(bad.at.topic.to_string(), 0, bad.offset, "refused-by-milvus".to_owned())]);
    assert_eq!(dead_letters(&world), expected);
    assert!(worker.store().sent.len() < 40, "{} requests for a bisection of 1 000 rows", worker.store().sent.len());

    // A duplicate of a good row is dropped; the bad one, replayed when the store takes it, lands.
    let before = worker.store().rows_sent();
    world.upsert("eu", 1, 1_000, 0.5);
    world.settle(&mut [&mut worker]);
    assert_eq!((worker.report().totals.verdict("duplicate"), worker.store().rows_sent()), (1, before));
    world.database.check_writes_with(None);
    world.upsert("eu", BAD, 1_000, 0.5);
    world.settle(&mut [&mut worker]);
    assert_eq!(world.database.rows(DOCUMENTS), 1_000);
    assert_oracle(&world, &[], "after the replay");
    assert_eq!(dead_letters(&world), expected);
}

/// A row that took over a waiting older one's tickets, from another source, is refused: its own record must
/// not be settled before its dead letter is acknowledged.
#[test]
fn inv_9_a_refused_winner_that_replaced_another_is_settled_with_its_dead_letter() {
    let mut world = World::new(1);
    refuse(&world, 5);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().hangs = true;
    world.upsert("eu", 1, 1_000, 0.1);
    world.run(&mut [&mut worker], 50);
    world.upsert("us", 5, 2_000, 0.2);
    world.run(&mut [&mut worker], 20);
    let own = world.upsert("eu", 5, 3_000, 0.3);
    world.run(&mut [&mut worker], 20);
    let dead_letter: Arc<str> = world.settings.topics.dead_letter();
    worker.appends().unacked.insert(dead_letter.clone());
    worker.store().hangs = false;
    world.run(&mut [&mut worker], 500);
    assert_eq!(worker.report().totals.coalesced(), 1);
    assert_eq!(world.read(&TopicPartition::new(dead_letter.clone(), 0)).len(), 1);
    assert!(worker.source("vector-cdc").next_offset <= own.offset, "settled before its dead letter was");
    worker.appends().unacked.clear();
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[5], "after the dead letter's ack");
}

#[test]
fn a_task_that_fails_again_and_again_waits_twice_as_long_each_time_until_it_has_got_on() {
    let mut world = World::new(1);
    // Its opening record is committed in each of its lives: to begin is not yet to get on.
    world.settings.offsets_interval = Duration::ZERO;
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let vectors = world.settings.topics.vectors_changelog(0);
    world.upsert("eu", 1, 1_000, 0.1);
    worker.appends().fail_next = Some(vectors.clone());
    let mut failures = Vec::new();
    for _ in 0..90_000 / STEP_MS {
        world.run(&mut [&mut worker], STEP_MS);
        let mut appends = worker.appends();
        if appends.fail_next.is_none() {
            failures.push(world.now().monotonic);
            appends.fail_next = Some(vectors.clone());
        }
    }
    let waits: Vec<u128> = failures.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    let expected: [u128; 9] = [0, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000];
    assert_eq!(waits.len(), expected.len(), "{waits:?}");
    for (wait, expected) in waits.iter().zip(expected) {
        assert!((expected..expected + 200).contains(wait), "{waits:?}");
    }
    worker.appends().fail_next = None;
    world.settle(&mut [&mut worker]);
    // It has got on: the next failure is a first one.
    worker.appends().fail_next = Some(vectors);
    world.upsert("eu", 2, 1_000, 0.1);
    world.run(&mut [&mut worker], 500);
    assert!(worker.appends().fail_next.is_none());
    assert_eq!(world.database.rows(DOCUMENTS), 2);
    let end = world.broker.bounds(&world.produced[0].at).unwrap().end;
    assert_eq!(worker.source("vector-cdc").next_offset, end, "it waits as if it had not got on");
    assert_oracle(&world, &[], "after the failures");
}

/// A successor knows by it that strays may come: without it nothing may be sent.
#[test]
fn nothing_is_written_before_the_log_says_that_the_partition_is_open() {
    let mut world = World::new(1);
    let mut worker = world.start();
    worker.appends().unacked.insert(world.settings.topics.versions_changelog(0));
    world.upsert("eu", 1, 1_000, 0.1);
    world.run(&mut [&mut worker], 2_000);
    assert_eq!(worker.store().rows_sent(), 0);
    worker.appends().unacked.clear();
    world.settle(&mut [&mut worker]);
    assert_eq!(worker.store().rows_sent(), 1);
}

#[test]
fn after_an_unclean_end_the_safety_window_is_written_again_and_counted_apart() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.upsert("eu", 1, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 40_000, 500);
    for id in 2..12 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.delete("eu", 3, 2_000);
    world.settle(&mut [&mut worker]);
    worker.kill();
    world.outlive_session();
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_eq!(next.store().rows_sent(), 0, "not before the safety window is over");
    world.run_in_steps(&mut [&mut next], 35_000, 500);
    let totals = next.report().totals;
    assert_eq!(
        (totals.applied(), totals.reasserted),
        (0, 10),
        "nine rows and a tombstone; the row before the window is left alone"
    );
    assert_oracle(&world, &[], "after the re-assertion");
}

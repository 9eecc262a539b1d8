//! A vector store that is away, throttles, or does not reply.

use crate::oracle::assert_oracle;
use crate::world::{APPLICATION, DOCUMENTS, World, row_id, stamp};
use driftless::port::vector::StoreError;
use driftless::record::raw::RawRecord;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const BUFFER_BYTES_MAX: usize = 16 << 10;

#[test]
fn f09_f48_a_minute_without_the_store_under_load_is_borne_within_all_limits_and_nothing_is_lost() {
    let mut world = World::new(1);
    world.settings.task.buffer_bytes_max = BUFFER_BYTES_MAX;
    world.settings.task.batch_bytes_max = 8 << 10;
    world.settings.task.items_max = 500;
    world.settings.poll_max = 100;
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.database.check_writes_with(Some(Box::new(|_, _| Err(StoreError::Unavailable("connection refused".to_owned())))));
    let record_bytes = world.upsert("eu", 0, 1, 0.0).value.len() + 8 + size_of::<RawRecord>();
    let mut id = 0;
    for _ in 0..1_200 {
        for _ in 0..5 {
            id += 1;
            world.upsert(if id % 3 == 0 { "us" } else { "eu" }, id % 2_000, 1_000 + id, 0.5);
        }
        world.run_in_steps(&mut [&mut worker], 50, 50);
        let task = worker.task("0_0");
        // Twice the limit is borne until a source is paused; a poll may be under way.
        let bytes_max = 2 * BUFFER_BYTES_MAX + 100 * record_bytes;
        assert!(task.buffered_bytes <= bytes_max, "{} bytes buffered", task.buffered_bytes);
        assert!(task.in_flight <= 500, "{} rows under way", task.in_flight);
    }
    assert_eq!(worker.store().in_flight_max, 1, "INV-2");
    assert!(worker.consumer().pauses > 0, "its sources were not paused");
    assert!(worker.consumer().released.is_empty(), "it has lost its membership");
    assert!(worker.store().sent.len() < 40, "{} attempts in a minute: a hot retry", worker.store().sent.len());
    world.database.check_writes_with(None);
    world.settle(&mut [&mut worker]);
    assert!(worker.consumer().resumes > 0);
    assert_oracle(&world, &[], "after the outage");
    assert_eq!(worker.report().totals.reasserted, 0, "nothing was written: nothing is suspected");
    assert!(world.broker.committed(APPLICATION, &world.produced[0].at).is_some());
}

#[test]
fn f48_f50_throttling_makes_batches_smaller_and_acks_make_them_larger_again() {
    let mut world = World::new(1);
    world.settings.task.batch_bytes_max = 400 << 10;
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let refusals = Arc::new(AtomicUsize::new(4));
    let left = refusals.clone();
    world.database.check_writes_with(Some(Box::new(move |_, _| {
        let throttled = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if throttled { Err(StoreError::Throttled("rate limit".to_owned())) } else { Ok(()) }
    })));
    // The first batch hangs while much more gathers behind it.
    worker.store().hangs = true;
    for id in 0..12_000 {
        world.upsert("eu", id, 1_000, 0.5);
    }
    world.run(&mut [&mut worker], 200);
    worker.store().hangs = false;
    world.settle(&mut [&mut worker]);
    let rows: Vec<usize> = worker.store().sent.iter().map(|batch| batch.ids.len()).collect();
    assert!(rows[4] <= rows[0] / 2, "sent again as large as it was: {rows:?}");
    assert!(rows[5..].iter().max() > Some(&rows[0]), "they do not grow again: {rows:?}");
    assert_oracle(&world, &[], "after the throttling");
}

#[test]
fn f47_f61_a_write_without_a_reply_is_sent_again_and_its_late_landing_is_undone_after_the_safety_window() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().lose_replies = 1;
    world.upsert("eu", 1, 1_000, 0.1);
    world.upsert("eu", 2, 1_000, 0.2);
    world.settle(&mut [&mut worker]);
    assert_eq!((worker.store().times_sent(1), world.database.rows(DOCUMENTS)), (2, 2), "sent again");
    world.upsert("eu", 1, 2_000, 0.3);
    world.delete("eu", 2, 2_000);
    world.settle(&mut [&mut worker]);
    worker.store().land_strays();
    let rows = world.database.scan(DOCUMENTS);
    assert_eq!((rows[&row_id(1)].version.hlc, rows.len()), (stamp(1_000), 2), "the first attempts have landed");
    world.run_in_steps(&mut [&mut worker], 25_000, 500);
    assert_eq!(worker.store().read_backs, 0, "not before the safety window is over");
    world.run_in_steps(&mut [&mut worker], 10_000, 500);
    assert_eq!((worker.store().read_backs, worker.report().totals.reasserted), (1, 2));
    assert_oracle(&world, &[], "after the safety window");
}

#[test]
fn f61_suspects_that_a_stop_leaves_behind_are_the_successors_to_write_again() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().lose_replies = 1;
    world.upsert("eu", 1, 1_000, 0.1);
    world.upsert("eu", 1, 2_000, 0.2);
    world.settle(&mut [&mut worker]);
    worker.stop(world.now());
    while !worker.stopped {
        world.run(&mut [&mut worker], 5);
    }
    let wreck = worker.kill();
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    wreck.land_all();
    world.run_in_steps(&mut [&mut next], 35_000, 500);
    assert_eq!(next.report().totals.reasserted, 1);
    assert_oracle(&world, &[], "after the successor's re-assertion");
}

#[test]
fn a_full_appender_holds_everything_back_and_loses_nothing() {
    let mut world = World::new(1);
    let mut worker = world.start();
    worker.appends().queue_max = 3;
    for id in 0..60 {
        world.upsert("eu", id, 1_000, 0.5);
        world.upsert("us", id, 900, 0.4);
    }
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "through a queue of three");
    // With acks that do not come the thread has nothing to do: it must not say that it worked.
    let versions = world.settings.topics.versions_changelog(0);
    worker.appends().unacked.insert(versions);
    for id in 0..20 {
        world.upsert("eu", id, 2_000, 0.6);
    }
    world.run(&mut [&mut worker], 500);
    world.clock.advance(1);
    assert!(!worker.round(world.now()).worked, "a hot loop on a full queue");
    worker.appends().unacked.clear();
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the acks have come");
}

#[test]
fn a_failed_append_closes_the_task_which_is_restored_and_does_it_all_again() {
    for topic in ["driftless-vectors-changelog", "driftless-versions-changelog"] {
        let mut world = World::new(1);
        let mut worker = world.start();
        world.settle(&mut [&mut worker]);
        worker.appends().fail_next = Some(Arc::from(topic));
        world.upsert("eu", 1, 1_000, 0.1);
        world.upsert("us", 2, 1_000, 0.1);
        world.settle(&mut [&mut worker]);
        assert_oracle(&world, &[], topic);
        world.upsert("eu", 1, 2_000, 0.2);
        world.settle(&mut [&mut worker]);
        assert_oracle(&world, &[], topic);
    }
}

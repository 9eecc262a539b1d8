//! Rows of a key that was sent a moment ago wait for what else comes of it.

use crate::oracle::assert_oracle;
use crate::world::{DOCUMENTS, World, row_id};
use driftless::port::vector::StoreError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const HOLD_MS: u64 = 100;

fn world() -> World {
    let mut world = World::new(1);
    world.settings.task.hold = Duration::from_millis(HOLD_MS);
    world
}

#[test]
fn a_hot_key_is_written_once_a_hold_and_ends_up_as_its_last_change_says() {
    let mut world = world();
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for ms in 0..100 {
        world.upsert("us", 1, 1_000 + ms, ms as f32);
        world.run_in_steps(&mut [&mut worker], 10, 10);
    }
    let times = worker.store().times_sent(1);
    assert!((10..=12).contains(&times), "in a second of changes each 10 ms: {times}");
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "all of its changes");
}

#[test]
fn no_row_is_held_for_longer_than_a_hold_and_a_lone_one_not_at_all() {
    let mut world = world();
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.upsert("us", 1, 1_000, 0.0);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    assert_eq!(worker.store().times_sent(1), 1, "nothing has been sent of it before");
    world.upsert("us", 1, 1_001, 1.0);
    world.upsert("us", 2, 1_002, 2.0);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    assert_eq!(worker.store().times_sent(2), 1, "it waits for nobody who is held");
    assert_eq!(worker.store().times_sent(1), 1, "it is held");
    world.run_in_steps(&mut [&mut worker], HOLD_MS, 5);
    assert_eq!(worker.store().times_sent(1), 2, "its hold is over");
    world.delete("us", 1, 1_003);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    assert_eq!(worker.store().times_sent(1), 2, "a delete is held like another row");
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "the delete too");
}

#[test]
fn a_full_lane_and_a_task_that_ends_hold_nothing() {
    let mut world = world();
    world.settings.task.batch_bytes_max = 1 << 10;
    world.settings.task.hold = Duration::from_secs(3_600);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for change in 0..2 {
        for id in 0..200 {
            world.upsert("us", id, 1_000 + change, change as f32);
        }
        world.run(&mut [&mut worker], 500);
    }
    let twice = (0..200).filter(|id| worker.store().times_sent(*id) == 2).count();
    assert!(twice > 150, "more than a batch of rows was held: only {twice} rows have been sent twice");
    world.stop(worker);
    assert_oracle(&world, &[], "what was held is written before the task ends");
}

#[test]
fn what_is_held_makes_no_batch_go_early() {
    let mut world = world();
    world.settings.task.linger = Duration::from_millis(50);
    world.settings.task.hold = Duration::from_secs(60);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for change in 0..2 {
        for id in 0..8_000 {
            world.upsert("us", id, 2_000 + change, change as f32);
        }
        world.run_in_steps(&mut [&mut worker], 1_000, 5);
    }
    // Throttled until a batch is of fewer bytes than are held.
    let left = AtomicUsize::new(6);
    world.database.check_writes_with(Some(Box::new(move |_, _| {
        let throttled = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if throttled { Err(StoreError::Throttled("rate limit".to_owned())) } else { Ok(()) }
    })));
    world.upsert("us", 8_500, 2_500, 0.0);
    world.run_in_steps(&mut [&mut worker], 10_000, 50);
    assert_eq!(worker.store().times_sent(8_500), 7);
    assert_eq!(worker.store().times_sent(1), 1, "the second change of each row is held");
    let before = worker.store().sent.len();
    for id in 9_000..9_008 {
        world.upsert("us", id, 3_000, 0.0);
        world.run_in_steps(&mut [&mut worker], 5, 5);
    }
    let sent = worker.store().sent.len() - before;
    assert!(sent <= 1, "{sent} batches for eight rows that came within one linger");
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "all of it");
}

#[test]
fn what_a_task_lets_go_of_for_an_outage_is_read_again_with_what_was_held() {
    let mut world = world();
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.upsert("us", 1, 1_000, 0.0);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    world.database.check_writes_with(Some(Box::new(|_, _| Err(StoreError::Unavailable("connection refused".to_owned())))));
    world.upsert("us", 2, 1_001, 0.0);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    world.upsert("us", 1, 1_002, 1.0);
    world.run_in_steps(&mut [&mut worker], 20, 5);
    world.stop(worker);
    assert!(!world.database.scan(DOCUMENTS).contains_key(&row_id(2)), "it was refused");
    world.database.check_writes_with(None);
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_oracle(&world, &[], "by the next owner");
}

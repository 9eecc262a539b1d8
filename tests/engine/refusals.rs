//! A store that refuses one row after the other: it may have something against the collection, and then nothing
//! is wrong with the rows.

use crate::oracle::{assert_oracle, dead_letters};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, World, row_id};
use driftless::port::vector::StoreError;

const ROWS: i64 = 40;
/// After so many in a row, rows are asked for again.
const AT_ONCE: usize = 32;

fn refuse(world: &World, refused: fn(i64) -> bool) {
    world.database.check_writes_with(Some(Box::new(move |_, batch| {
        let bad = (0..1_000).any(|id| refused(id) && batch.ids.contains(&row_id(id)));
        if bad { Err(StoreError::Refused("schema mismatch".to_owned())) } else { Ok(()) }
    })));
}

/// All rows go out in one batch; the store refuses whatever it is sent.
fn all_refused() -> (World, Worker) {
    let mut world = World::new(1);
    refuse(&world, |_| true);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for id in 0..ROWS {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.run(&mut [&mut worker], 3_000);
    (world, worker)
}

#[test]
fn after_many_refusals_in_a_row_each_further_row_is_tried_for_a_while_and_then_let_go() {
    let (mut world, mut worker) = all_refused();
    assert_eq!(dead_letters(&world).len(), AT_ONCE);
    let requests = worker.store().sent.len();
    world.run_in_steps(&mut [&mut worker], 10_000, 50);
    assert!(worker.store().sent.len() <= requests + 10, "a hot retry: {} requests in 10 s", worker.store().sent.len() - requests);
    world.run_in_steps(&mut [&mut worker], 240_000, 50);
    assert_eq!(dead_letters(&world).len() as i64, ROWS, "held up for ever");
    let held_up = (0..ROWS).filter(|id| worker.store().times_sent(*id) > 8).count();
    assert_eq!(held_up, ROWS as usize - AT_ONCE);
    let most = (0..ROWS).map(|id| worker.store().times_sent(id)).max();
    assert!(most <= Some(7 + 8), "sent {most:?} times: batches are halved, and only single rows are asked for again");
    // Those that were let go hold up nothing.
    world.database.check_writes_with(None);
    world.upsert("eu", 500, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &(0..ROWS).collect::<Vec<_>>(), "after all have been let go");
}

#[test]
fn a_store_that_comes_to_its_senses_meanwhile_gets_the_rows_that_were_kept() {
    let (world, mut worker) = all_refused();
    world.database.check_writes_with(None);
    world.settle(&mut [&mut worker]);
    assert_eq!((dead_letters(&world).len(), world.database.rows(DOCUMENTS)), (AT_ONCE, ROWS as usize - AT_ONCE));
}

#[test]
fn refusals_with_good_rows_among_them_are_the_rows_fault_however_many() {
    let mut world = World::new(1);
    refuse(&world, |id| id % 2 == 0);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for id in 0..200 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.settle(&mut [&mut worker]);
    assert_eq!((dead_letters(&world).len(), world.database.rows(DOCUMENTS)), (100, 100));
    let most = (0..200).map(|id| worker.store().times_sent(id)).max();
    assert!(most <= Some(9), "one of 200 is found in eight halvings, and was sent {most:?} times");
}

//! kill -9 between any two steps: a scripted run is cut after each step that has an effect outside, and whoever
//! comes after must find, or do again, everything.

use crate::fuse::Fuse;
use crate::oracle::{assert_oracle, dead_letters};
use crate::worker::Worker;
use crate::world::{World, row_id};
use bytes::Bytes;
use driftless::adapter::embedded::stores::KeptStores;
use driftless::base::ids::TopicPartition;
use driftless::port::vector::StoreError;
use driftless::store::Stores;
use driftless::store::memory::MemoryStores;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The store refuses every batch with this id.
const REFUSED: i64 = 5;

/// What becomes of what the killed worker had handed over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leftovers {
    Lost,
    /// Before the next owner begins.
    Landed,
    /// After the next owner has done everything: a zombie's writes.
    LandedLate,
}

fn refuse_one(world: &World) {
    world.database.check_writes_with(Some(Box::new(|_, batch| match batch.ids.contains(&row_id(REFUSED)) {
        true => Err(StoreError::Refused("the proxy does not like number five".to_owned())),
        false => Ok(()),
    })));
}

/// Changes of every kind, each unsettled one followed by its duplicate.
fn first_half(world: &mut World) {
    for _ in 0..2 {
        world.upsert("eu", 1, 1_000, 0.1);
        world.upsert("eu", 2, 1_100, 0.2);
    }
    world.upsert("us", 1, 2_000, 0.3);
    world.upsert("us", 1, 2_000, 0.3);
    world.upsert("eu", 1, 500, 0.4);
    world.upsert("eu", 3, 3_000, 0.5);
    world.upsert("us", 3, 2_500, 0.6);
    world.upsert("eu", REFUSED, 1_000, 0.7);
    world.upsert("eu", REFUSED, 1_000, 0.7);
    let at = world.produced[0].at.clone();
    world.append(&at, Some("1"), Some(Bytes::from_static(b"\x01 no change")));
}

fn second_half(world: &mut World) {
    world.delete("eu", 2, 4_000);
    world.delete("eu", 2, 4_000);
    world.upsert("eu", 1, 5_000, 0.8);
    world.upsert("us", 3, 6_000, 0.9);
    world.upsert("us", 4, 6_000, 1.0);
    world.upsert("us", 4, 6_000, 1.0);
}

/// Runs the script on a worker until its end or the worker's.
fn run_script(world: &mut World, worker: &mut Worker, others: &mut [&mut Worker]) {
    let step = |world: &World, worker: &mut Worker, others: &mut [&mut Worker]| {
        world.clock.advance(5);
        worker.round(world.now());
        world.round(others);
    };
    first_half(world);
    for _ in 0..8 {
        step(world, worker, others);
    }
    second_half(world);
    for _ in 0..60 {
        step(world, worker, others);
    }
    worker.stop(world.now());
    for _ in 0..20 {
        if worker.stopped || worker.fuse.has_blown() {
            return;
        }
        step(world, worker, others);
    }
}

fn expected_dead_letters(world: &World) -> BTreeSet<(String, i32, i64, String)> {
    let refused = world.produced.iter().find(|change| change.id == REFUSED).expect("it was produced");
    let malformed = world.produced.iter().rposition(|change| change.id == REFUSED && change.version == refused.version).unwrap();
    let place = |at: &TopicPartition, offset, reason: &str| (at.topic.to_string(), at.partition, offset, reason.to_owned());
    let first = &world.produced[0].at;
    let before = world.produced[..=malformed].iter().filter(|change| change.at == *first).count() as i64;
    BTreeSet::from([place(&refused.at, refused.offset, "refused-by-milvus"), place(first, before, "malformed")])
}

/// One life cut after `steps`, then another worker until all is settled and suspected no more.
fn crash_after(steps: u64, partitions: i32, leftovers: Leftovers, stores: Arc<dyn Stores>) -> bool {
    let when = format!("killed after step {steps}, leftovers {leftovers:?}, {stores:?}");
    let mut world = World::new(partitions);
    world.stores = stores;
    refuse_one(&world);
    let mut worker = Worker::start(&world, Fuse::after(steps));
    run_script(&mut world, &mut worker, &mut []);
    if worker.stopped {
        return false;
    }
    let wreck = worker.kill();
    if leftovers == Leftovers::Landed {
        wreck.land_all();
    }
    world.outlive_session();
    let mut next = world.start();
    if world.produced.len() < 17 {
        second_half(&mut world);
    }
    world.settle(&mut [&mut next]);
    if leftovers == Leftovers::LandedLate {
        wreck.land_all();
        // Something of its own, whose ack shows the hole, in every partition.
        for id in 100..108 {
            world.upsert("eu", id, 7_000, 1.0);
        }
    }
    world.run_in_steps(&mut [&mut next], 35_000, 500);
    world.settle(&mut [&mut next]);
    assert_oracle(&world, &[REFUSED], &when);
    assert_eq!(dead_letters(&world), expected_dead_letters(&world), "dead letters, {when}");
    world.stop(next);
    let mut idle = world.start();
    world.settle(&mut [&mut idle]);
    assert_eq!(idle.store().rows_sent(), 0, "a clean restart, {when}");
    true
}

fn every_step(partitions: i32, leftovers: Leftovers) {
    every_step_on(partitions, leftovers, &|| Arc::new(MemoryStores));
}

fn every_step_on(partitions: i32, leftovers: Leftovers, stores: &dyn Fn() -> Arc<dyn Stores>) {
    let mut steps = 0;
    while crash_after(steps, partitions, leftovers, stores()) {
        steps += 1;
    }
    assert!(steps > 80, "the script took only {steps} steps");
}

#[test]
fn f54_f24_killed_between_any_two_steps_with_what_was_handed_over_lost() {
    every_step(1, Leftovers::Lost);
}

#[test]
fn f54_f24_killed_between_any_two_steps_with_what_was_handed_over_landed() {
    every_step(1, Leftovers::Landed);
}

#[test]
fn f54_f24_killed_between_any_two_steps_the_next_goes_on_from_what_the_machine_kept() {
    every_step_on(1, Leftovers::Lost, &|| Arc::new(KeptStores::new(usize::MAX)));
    every_step_on(1, Leftovers::LandedLate, &|| Arc::new(KeptStores::new(2)));
}

#[test]
fn f54_f61_f62_killed_between_any_two_steps_with_what_was_handed_over_landed_after_the_successors_writes() {
    every_step(1, Leftovers::LandedLate);
}

#[test]
fn f54_one_of_two_workers_killed_between_any_two_steps_is_taken_over_by_the_other() {
    let mut steps = 0;
    loop {
        let mut world = World::new(2);
        refuse_one(&world);
        let (mut worker, mut other) = (Worker::start(&world, Fuse::after(steps)), world.start());
        run_script(&mut world, &mut worker, &mut [&mut other]);
        if worker.stopped {
            break;
        }
        worker.kill().land_all();
        // The group finds out by the session time-out while the other goes on.
        world.run_in_steps(&mut [&mut other], 11_000, 500);
        world.settle(&mut [&mut other]);
        world.run_in_steps(&mut [&mut other], 35_000, 500);
        let when = format!("killed after step {steps}");
        assert_oracle(&world, &[REFUSED], &when);
        assert_eq!(dead_letters(&world), expected_dead_letters(&world), "dead letters, {when}");
        steps += 1;
    }
    assert!(steps > 40, "the script took only {steps} steps");
}

//! Restarts from a store that was kept: what is read, what is believed, what is dropped.

use crate::oracle::{assert_oracle, last_of};
use crate::restore::{entry, held, restore, version, write_entry};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, HandClock, World};
use driftless::adapter::embedded::broker::{Compaction, TimestampType};
use driftless::adapter::embedded::stores::KeptStores;
use driftless::base::ids::TaskId;
use driftless::store::entry::Entry;
use driftless::stream::restore::RestoreResult;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TASK: TaskId = TaskId { shard: 0, partition: 0 };
const HOUR_MS: u64 = 3_600_000;

fn with_disk() -> (World, KeptStores) {
    let disk = KeptStores::new(usize::MAX);
    let world = World { stores: Arc::new(disk.clone()), ..World::new(1) };
    (world, disk)
}

fn content(result: &RestoreResult) -> BTreeMap<String, Entry> {
    let mut content = BTreeMap::new();
    result.restored.store.for_each(&mut |key, entry| {
        content.insert(key.id.to_string(), entry);
    });
    content
}

/// As a new machine would restore it.
fn cold(world: &mut World) -> RestoreResult {
    let kept = std::mem::replace(&mut world.stores, Arc::new(KeptStores::new(usize::MAX)));
    let result = restore(world);
    world.stores = kept;
    result
}

fn assert_as_cold(world: &mut World, warm: &RestoreResult) {
    let cold = cold(world);
    assert_eq!(content(warm), content(&cold));
    let told = |result: &RestoreResult| {
        let mut misplaced: Vec<String> = result.restored.misplaced.iter().map(|key| key.id.to_string()).collect();
        let mut forgotten: Vec<String> = result.restored.forgotten.iter().map(|(key, _)| key.id.to_string()).collect();
        misplaced.sort();
        forgotten.sort();
        let positions: Vec<i64> = result.restored.sources.iter().map(|source| source.next_offset).collect();
        (misplaced, forgotten, positions, result.restored.epoch, result.restored.floor, result.restored.vectors_next)
    };
    assert_eq!(told(warm), told(&cold));
}

#[test]
fn a_warm_restart_reads_the_tail_alone_and_has_what_a_cold_one_has() {
    let (mut world, disk) = with_disk();
    let mut worker = world.start();
    for id in 0..50 {
        world.upsert("eu", id, 2_000, 0.1);
    }
    world.delete("eu", 7, 3_000);
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let end = world.broker.bounds(&world.versions_changelog(0)).unwrap().end;
    assert_eq!(disk.position(TASK), Some(end), "the closing record is the last that is kept");
    for id in 100..103 {
        write_entry(&world, id, Ok(entry(4_000)));
    }
    let warm = restore(&world);
    assert_eq!((warm.warm_from, warm.entries_read), (Some(end), 3));
    assert_as_cold(&mut world, &warm);
    drop(warm);

    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_eq!(next.store().rows_sent(), 0, "closed cleanly: nothing is asserted again");
    assert_oracle(&world, &[], "after a warm restart");
}

#[test]
fn f24_of_a_killed_workers_store_no_more_is_believed_than_the_log_has_acknowledged() {
    for ahead in [1, 3, usize::MAX] {
        let disk = KeptStores::new(ahead);
        let mut world = World { stores: Arc::new(disk.clone()), ..World::new(1) };
        let mut worker = world.start();
        for round in 0..6 {
            for id in 0..10 {
                world.upsert("eu", id, 2_000 + round, 0.1);
            }
            world.run(&mut [&mut worker], 7);
        }
        drop(worker.kill());
        let warm = restore(&world);
        assert_as_cold(&mut world, &warm);
    }
}

#[test]
fn f28_a_store_from_before_the_horizon_is_dropped_and_what_was_deleted_since_stays_deleted() {
    let (mut world, disk) = with_disk();
    let mut worker = world.start();
    world.upsert("eu", 1, 2_000, 0.1);
    world.upsert("eu", 2, 2_000, 0.1);
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let backup = disk.copy();

    // Another machine goes on: row 1 is deleted, forgotten, and compaction lets go of the null.
    world.stores = Arc::new(KeptStores::new(usize::MAX));
    world.clock.advance(HOUR_MS);
    write_entry(&world, 1, Ok(Entry { tombstone: true, ..entry(3_000) }));
    write_entry(&world, 1, Err(version(3_000)));
    let compaction = Compaction { min_lag: Duration::ZERO, delete_retention: world.settings.horizon };
    for _ in 0..2 {
        world.clock.advance(25 * HOUR_MS);
        world.broker.compact(&world.versions_changelog(0), compaction).unwrap();
    }
    assert_eq!(last_of(&world, &world.versions_changelog(0), 1).0, 0, "nothing of the row is left in the log");

    // The log itself has not come on since: only our clock says how long ago that was.
    world.stores = Arc::new(backup.copy());
    let restored = restore(&world);
    assert_eq!((held(&restored.restored, 1), restored.warm_from), (None, None));
    assert!(restored.warnings[0].contains("may have let go of deletes"), "{:?}", restored.warnings);
    assert!(held(&restored.restored, 2).is_some());
    drop(restored);

    // A clock that is behind is outvoted by the log.
    write_entry(&world, 9, Ok(entry(4_000)));
    world.stores = Arc::new(backup);
    world.clock = HandClock::default();
    let restored = restore(&world);
    assert_eq!((held(&restored.restored, 1), restored.warm_from), (None, None));
}

#[test]
fn f28_a_store_that_the_log_does_not_lead_on_from_is_dropped() {
    let (mut world, disk) = with_disk();
    for id in 0..20 {
        write_entry(&world, id, Ok(entry(2_000)));
    }
    drop(restore(&world));
    let backup = disk.copy();
    write_entry(&world, 20, Ok(entry(2_000)));
    world.broker.delete_below(&world.versions_changelog(0), 21).unwrap();
    let restored = restore(&world);
    assert!(restored.warnings[0].contains("begins at 21 now"), "{:?}", restored.warnings);
    assert_eq!((restored.warm_from, restored.restored.store.len()), (None, 0));

    // The same topic anew, and already longer than what is kept.
    let topic = world.versions_changelog(0).topic;
    world.broker.delete_topic(&topic);
    world.broker.create_topic(&topic, 1, TimestampType::LogAppendTime).unwrap();
    for id in 0..30 {
        write_entry(&world, id, Ok(entry(1_000)));
    }
    world.stores = Arc::new(backup);
    let restored = restore(&world);
    assert_eq!((restored.warm_from, held(&restored.restored, 3)), (None, Some(version(1_000))));
    assert_eq!(restored.warnings.len(), 1, "{:?}", restored.warnings);
}

#[test]
fn f62_a_zombies_entry_in_the_tail_does_not_bring_back_what_the_kept_store_has_forgotten() {
    let (mut world, _) = with_disk();
    write_entry(&world, 5, Ok(Entry { tombstone: true, ..entry(6_000) }));
    write_entry(&world, 5, Err(version(6_000)));
    drop(restore(&world));
    write_entry(&world, 5, Ok(entry(5_000)));
    let warm = restore(&world);
    assert!(warm.warm_from.is_some());
    assert_eq!(held(&warm.restored, 5), None);
    assert_as_cold(&mut world, &warm);
}

#[test]
fn f62_what_a_zombie_wrote_is_found_again_until_it_is_answered() {
    let (mut world, disk) = with_disk();
    write_entry(&world, 4, Ok(entry(1_000)));
    write_entry(&world, 5, Ok(entry(6_000)));
    let zombies = write_entry(&world, 5, Ok(entry(5_000)));
    write_entry(&world, 6, Ok(entry(1_000)));
    for life in 0..3 {
        let restored = restore(&world);
        assert_eq!(restored.restored.misplaced.len(), 1, "life {life}, in which nothing was answered");
        assert_eq!(disk.position(TASK), Some(zombies));
    }
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let warm = restore(&world);
    assert_eq!(warm.restored.misplaced.len(), 0);
    assert_as_cold(&mut world, &warm);
    drop(warm);
    assert_eq!(disk.position(TASK), Some(world.broker.bounds(&world.versions_changelog(0)).unwrap().end));
}

/// The task itself leaves a newer entry of somebody else's for when its change comes. Its store must not pass it by: the
/// somebody may have been the next owner, whose progress is past that change.
#[test]
fn f62_what_another_owner_wrote_meanwhile_is_read_again_by_whoever_goes_on_from_the_store() {
    let (mut world, disk) = with_disk();
    let mut worker = world.start();
    world.upsert("eu", 5, 2_000, 0.1);
    world.settle(&mut [&mut worker]);
    let foreign = write_entry(&world, 5, Ok(entry(9_000)));
    for id in 10..20 {
        world.upsert("eu", id, 2_000, 0.1);
        world.settle(&mut [&mut worker]);
    }
    assert_eq!(disk.position(TASK), Some(foreign), "held back for the rest of this life");
    drop(worker.kill());
    let warm = restore(&world);
    assert_eq!(held(&warm.restored, 5), Some(version(9_000)));
    assert_as_cold(&mut world, &warm);
}

#[test]
fn a_task_that_is_restored_runs_while_another_one_still_waits_for_it() {
    let mut world = World::new(2);
    let mut worker = world.start();
    let states = |worker: &Worker| -> Vec<&str> { worker.report().tasks.iter().map(|task| task.state).collect() };
    for _ in 0..200 {
        world.clock.advance(5);
        worker.round_without_restorer(world.now());
        if states(&worker).contains(&"running") {
            break;
        }
        worker.step_restorer(world.now());
    }
    assert_eq!(states(&worker), ["running", "restoring"]);
    let ids: Vec<i64> = (0..10).filter(|id| world.upsert("eu", *id, 2_000, 0.1).at.partition == 0).collect();
    for _ in 0..50 {
        world.clock.advance(5);
        worker.round_without_restorer(world.now());
    }
    assert_eq!(states(&worker), ["running", "restoring"]);
    assert!(!ids.is_empty() && world.database.rows(DOCUMENTS) == ids.len(), "{} of {ids:?}", world.database.rows(DOCUMENTS));
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "once both are restored");
}

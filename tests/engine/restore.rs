//! What a restore makes of a changelog, whatever the log has gone through.

use crate::oracle::last_of;
use crate::world::{World, row_id, stamp};
use driftless::adapter::embedded::EmbeddedReader;
use driftless::adapter::embedded::broker::Message;
use driftless::base::ids::{Region, RowKey, TaskId};
use driftless::merge::version::{ContentHash, Version};
use driftless::port::log::LogReader;
use driftless::store::entry::{Entry, FORGOTTEN_HEADER, version_text};
use driftless::store::progress::{PROGRESS_KEY, Progress, SourceProgress};
use driftless::stream::restore::{Restore, RestoreRequest, RestoreResult};
use driftless::task::settings::TaskTopics;
use driftless::task::stream_task::Restored;
use std::sync::Arc;

pub fn version(ms: i64) -> Version {
    Version { hlc: stamp(ms), origin: Region::new("eu"), sequence: 7 }
}

pub fn entry(ms: i64) -> Entry {
    Entry { version: version(ms), content_hash: ContentHash(1), vector_offset: 0, tombstone: false, refused: false }
}

/// Somebody's entry, or the null that forgets up to a version, in the versions changelog.
pub fn write_entry(world: &World, id: i64, value: Result<Entry, Version>) -> i64 {
    let key = Some(format!("documents\0{id}").into());
    let message = match value {
        Ok(entry) => Message { key, value: Some(entry.encode().into()), ..Message::default() },
        Err(forgotten) => {
            let headers = vec![(Arc::from(FORGOTTEN_HEADER), Some(version_text(&forgotten).into()))];
            Message { key, value: None, headers, timestamp: None }
        }
    };
    world.broker.append(&world.versions_changelog(0), message).unwrap()
}

pub fn request(world: &World) -> RestoreRequest {
    let task = TaskId { shard: 0, partition: 0 };
    let names = &world.settings.topics;
    RestoreRequest {
        task,
        life: 1,
        topics: TaskTopics::new(names, task),
        sources: vec![(Region::new("eu"), names.local(0)), (Region::new("us"), names.mirror(&Region::new("us"), 0))],
        collections: world.settings.collections.clone(),
        stores: world.stores.clone(),
        horizon: world.settings.horizon,
        safety_window: world.settings.task.safety_window,
        meter: Arc::default(),
        cancelled: Arc::default(),
    }
}

pub fn restore(world: &World) -> RestoreResult {
    restore_until(world, |_| {})
}

/// `between` is called after the first step: the restore has captured the end it reads to.
fn restore_until(world: &World, between: impl Fn(&World)) -> RestoreResult {
    let mut restore = Restore::new(request(world));
    let mut reader = EmbeddedReader::new(world.broker.clone());
    for step in 0..20 {
        if let Some(result) = restore.step(&mut reader as &mut dyn LogReader, world.now()).expect("the topics are there") {
            return result;
        }
        if step == 0 {
            between(world);
        }
    }
    panic!("the restore does not end");
}

pub fn held(restored: &Restored, id: i64) -> Option<Version> {
    restored.store.get(&RowKey { collection: crate::world::DOCUMENTS, id: row_id(id) }).map(|entry| entry.version)
}

#[test]
fn the_greatest_version_wins_in_whatever_order_and_is_known_to_be_misplaced_unless_it_is_the_last() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let world = World::new(1);
        for ms in order {
            write_entry(&world, 5, Ok(entry(ms)));
        }
        let restored = restore(&world).restored;
        assert_eq!(held(&restored, 5), Some(version(3)), "{order:?}");
        assert_eq!(restored.misplaced.len(), usize::from(order[2] != 3), "{order:?}");
    }
}

#[test]
fn f29_a_null_forgets_up_to_its_version_and_nothing_newer() {
    let world = World::new(1);
    for (id, newest) in [(1, 3), (2, 4), (3, 5)] {
        write_entry(&world, id, Ok(entry(newest)));
        write_entry(&world, id, Err(version(4)));
    }
    let restored = restore(&world).restored;
    assert_eq!([held(&restored, 1), held(&restored, 2), held(&restored, 3)], [None, None, Some(version(5))]);
    assert_eq!(restored.misplaced.len(), 1, "the null after the newer entry");
}

#[test]
fn f62_a_zombies_entry_behind_the_null_is_not_restored_and_the_null_is_put_behind_it() {
    let world = World::new(1);
    write_entry(&world, 5, Ok(Entry { tombstone: true, ..entry(6) }));
    write_entry(&world, 5, Err(version(6)));
    write_entry(&world, 5, Err(version(4)));
    write_entry(&world, 5, Ok(entry(5)));
    let restored = restore(&world).restored;
    assert_eq!(held(&restored, 5), None);
    assert_eq!(restored.forgotten.iter().map(|(_, up_to)| up_to.clone()).collect::<Vec<_>>(), [version(6)]);
    drop(restored);

    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let (records, last) = last_of(&world, &world.versions_changelog(0), 5);
    let last = last.unwrap();
    assert_eq!((records, last.value.is_none()), (5, true));
    assert_eq!(last.header_text(FORGOTTEN_HEADER), Some(version_text(&version(6)).as_str()));
}

#[test]
fn f26_f27_a_restore_ends_by_position_over_holes_and_in_an_empty_log_with_an_end() {
    let world = World::new(1);
    let changelog = world.versions_changelog(0);
    write_entry(&world, 5, Ok(entry(1)));
    for _ in 0..3 {
        world.broker.leave_hole(&changelog).unwrap();
        world.broker.leave_hole(&world.vectors_changelog(0)).unwrap();
    }
    // What comes while it reads is not waited for.
    let restored = restore_until(&world, |world| {
        write_entry(world, 6, Ok(entry(1)));
    });
    assert_eq!((restored.restored.versions_end, restored.entries_read), (4, 1));
    let end = world.broker.bounds(&changelog).unwrap().end;
    world.broker.delete_below(&changelog, end).unwrap();
    world.broker.delete_below(&world.vectors_changelog(0), 3).unwrap();
    let restored = restore(&world);
    assert_eq!((restored.restored.versions_end, restored.entries_read), (end, 0));
}

#[test]
fn progress_of_an_older_epoch_does_not_win_whatever_its_place() {
    let mut world = World::new(1);
    for ms in 0..20 {
        world.upsert("eu", 1, ms, 0.1);
    }
    let write = |epoch, next_offset| {
        let source = SourceProgress {
            topic: "vector-cdc".to_owned(),
            topic_id: None,
            partition: 0,
            next_offset,
            last_appended_at: None,
            last_fingerprint: None,
            frontier: None,
            since: None,
            confirmed: None,
        };
        let progress = Progress { sources: vec![source], epoch, ..Progress::default() };
        world.append(&world.versions_changelog(0), Some(PROGRESS_KEY), Some(progress.encode().into()));
    };
    write(4, 10);
    write(5, 12);
    write(5, 14);
    write(4, 18);
    let restored = restore(&world).restored;
    assert_eq!((restored.sources[0].next_offset, restored.epoch), (14, 6));
}

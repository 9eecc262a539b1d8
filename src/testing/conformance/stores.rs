//! The suite of [`Stores`] that keep what was committed.

use super::store::{applied, collections};
use crate::base::ids::{CollectionId, Region, RowKey, TaskId, TopicId, TopicPartition, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::record::collection::Collections;
use crate::store::entry::Entry;
use crate::store::progress::Progress;
use crate::store::{Applied, Opened, Position, StoreOf, Stores};
use std::sync::Arc;
use std::time::Duration;

/// Makes a place where nothing is kept yet.
pub type MakeStores<'a> = &'a mut dyn FnMut() -> Box<dyn Stores>;

/// Runs the whole suite.
pub fn run(make: MakeStores<'_>) {
    what_was_committed_is_there_again(make);
    a_position_never_comes_without_what_was_put_before_it(make);
    what_is_of_another_changelog_is_dropped_and_the_reason_told(make);
    tasks_are_kept_apart_and_an_empty_one_is_empty(make);
}

pub fn of(partition: i32) -> StoreOf {
    StoreOf {
        task: TaskId { shard: 0, partition },
        changelog: TopicPartition::new("app-versions-changelog", partition),
        topic_id: Some(TopicId::new("first")),
        collections: Arc::new(collections()),
        horizon: Duration::from_secs(86_400),
    }
}

pub fn key(number: i64) -> RowKey {
    let text = format!("{number}");
    let ids = [VectorId::Uuid(number as u128), VectorId::Int(-number), VectorId::Text(text.into())];
    let collection = number as usize % 3;
    RowKey { collection: CollectionId(collection as u16), id: ids[collection].clone() }
}

pub fn version(hlc: u64) -> Version {
    Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: hlc }
}

pub fn entry(hlc: u64) -> Entry {
    let vector_offset = hlc as i64;
    Entry {
        version: version(hlc),
        content_hash: ContentHash(9),
        vector_offset,
        tombstone: hlc.is_multiple_of(2),
        refused: hlc.is_multiple_of(3),
    }
}

/// An opened store of which nothing was dropped.
fn open(stores: &dyn Stores, of: &StoreOf) -> Opened {
    let opened = stores.open(of).unwrap();
    assert_eq!(opened.warning, None);
    opened
}

fn what_was_committed_is_there_again(make: MakeStores<'_>) {
    let stores = make();
    let Opened { mut store, applied: none, .. } = open(&*stores, &of(0));
    assert_eq!((none, store.len()), (None, 0));
    let progress = Progress { floor: Some(Hlc(7)), written_at: 1, epoch: 3, ..Progress::default() };
    let mut told = Applied { position: Position { next_offset: 0, at: UnixMs(0) }, progress: Some(progress) };
    for number in 0..300 {
        store.put(&key(number), entry(number as u64 + 1));
        if number % 7 == 0 {
            store.forget(&key(number), &version(number as u64 + 1));
        }
        if number % 100 == 99 {
            told.position = Position { next_offset: number + 1, at: UnixMs(1_000 * number) };
            store.commit(&told).unwrap();
        }
    }
    drop(store);

    let Opened { store, applied, .. } = open(&*stores, &of(0));
    assert_eq!(applied, Some(told));
    assert_eq!((store.len(), store.vectors_end()), (300 - 43, 301));
    for number in 0..300 {
        let expected = (number % 7 != 0).then(|| entry(number as u64 + 1));
        assert_eq!(store.get(&key(number)), expected, "{number}");
        assert_eq!(store.forgotten(&key(number)), (number % 7 == 0).then(|| version(number as u64 + 1)), "{number}");
    }
    let mut visited = 0;
    store.for_each(&mut |key, entry| {
        assert_eq!(store.get(&key), Some(entry));
        visited += 1;
    });
    assert_eq!(visited, store.len());
    let tombstones = store.tombstones_below(Hlc(20), 100);
    let stamps: Vec<u64> = tombstones.iter().map(|(_, entry)| entry.version.hlc.0).collect();
    assert_eq!(stamps, [2, 4, 6, 10, 12, 14, 16, 18], "8 was forgotten");
}

/// More may be there than the position says, and never less.
fn a_position_never_comes_without_what_was_put_before_it(make: MakeStores<'_>) {
    let stores = make();
    let mut next = 0;
    for life in 0..5 {
        let Opened { mut store, applied: kept, .. } = open(&*stores, &of(0));
        let from = kept.map_or(0, |kept| kept.position.next_offset);
        assert!(from <= next, "life {life} begins at {from}, and {next} was committed last");
        for number in 0..from {
            let held = store.get(&key(number % 50)).map(|entry| entry.version.hlc.0);
            assert!(held.is_some_and(|hlc| hlc > number as u64), "life {life}: {number} is missing, {held:?} is held");
        }
        for number in from..from + 230 {
            store.put(&key(number % 50), entry(number as u64 + 1));
            if number % 20 == 19 {
                next = number + 1;
                store.commit(&applied(next)).unwrap();
            }
        }
    }
    assert_eq!(open(&*stores, &of(0)).applied, Some(applied(next)), "what was told last is kept when it is closed");
}

fn what_is_of_another_changelog_is_dropped_and_the_reason_told(make: MakeStores<'_>) {
    let fewer = Collections::new(collections().iter().take(2).map(|(_, spec)| spec.clone()).collect());
    let others: [StoreOf; 4] = [
        StoreOf { topic_id: Some(TopicId::new("second")), ..of(0) },
        StoreOf { topic_id: None, ..of(0) },
        StoreOf { collections: Arc::new(fewer), ..of(0) },
        StoreOf { changelog: TopicPartition::new("other-versions-changelog", 0), ..of(0) },
    ];
    for other in others {
        let stores = make();
        let mut store = open(&*stores, &of(0)).store;
        store.put(&key(1), entry(1));
        store.commit(&applied(1)).unwrap();
        drop(store);
        let opened = stores.open(&other).unwrap();
        assert_eq!((opened.applied, opened.store.len()), (None, 0), "{other:?}");
        assert!(opened.warning.is_some(), "{other:?}");
        drop(opened.store);
        assert_eq!(stores.open(&of(0)).unwrap().store.len(), 0, "it is gone for good: {other:?}");
    }
}

fn tasks_are_kept_apart_and_an_empty_one_is_empty(make: MakeStores<'_>) {
    let stores = make();
    for partition in 0..2 {
        let mut store = open(&*stores, &of(partition)).store;
        store.put(&key(1), entry(partition as u64 + 1));
        store.commit(&applied(1)).unwrap();
    }
    let mut store = stores.open_empty(&of(0)).unwrap().store;
    assert_eq!((store.len(), store.get(&key(1))), (0, None));
    store.put(&key(2), entry(5));
    store.commit(&applied(2)).unwrap();
    drop(store);
    let store = open(&*stores, &of(0)).store;
    assert_eq!((store.len(), store.get(&key(1)), store.get(&key(2))), (1, None, Some(entry(5))));
    assert_eq!(open(&*stores, &of(1)).store.get(&key(1)), Some(entry(2)));
}

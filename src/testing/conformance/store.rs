//! The suite of [`VersionStore`].

use crate::base::ids::{CollectionId, Region, RowKey, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crate::store::entry::Entry;
use crate::store::{Applied, Cursor, Position, Put, VersionStore};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;

/// Makes an empty store for these collections.
pub type MakeStore<'a> = &'a mut dyn FnMut(&Collections) -> Box<dyn VersionStore>;

/// Runs the whole suite.
pub fn run(make: MakeStore<'_>) {
    what_is_put_is_got_back_whole(make);
    ids_that_look_alike_are_kept_apart(make);
    tombstones_are_found_oldest_first_below_the_floor(make);
    removed_room_is_used_again(make);
    a_walk_by_pages_meets_every_entry_that_stays_once(make);
    what_was_forgotten_is_remembered_until_something_newer_is_put(make);
    of_what_the_log_has_put_the_newest_holds_the_key(make);
    the_end_of_the_vectors_never_goes_back(make);
    for seed in 0..8 {
        it_does_what_a_plain_map_does(make, seed);
    }
}

/// One collection of each kind of id.
pub fn collections() -> Collections {
    let spec = |name: &str, id| CollectionSpec {
        name: name.to_owned(),
        id,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    };
    let text = IdKind::Text { max_bytes: 64 };
    Collections::new(vec![spec("uuids", IdKind::Uuid), spec("ints", IdKind::Int64), spec("texts", text)])
}

fn key(collection: u16, number: i64) -> RowKey {
    let id = match collection {
        0 => VectorId::Uuid(number as u128),
        1 => VectorId::Int(number),
        _ => VectorId::Text(number.to_string().into()),
    };
    RowKey { collection: CollectionId(collection), id }
}

fn entry(hlc: u64, tombstone: bool) -> Entry {
    Entry {
        version: Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: 1 },
        content_hash: ContentHash(2),
        vector_offset: 3,
        tombstone,
        refused: false,
    }
}

/// A place in the changelog. Where a store writes by itself, it does so now or a moment later.
pub fn applied(next_offset: i64) -> Applied {
    Applied { position: Position { next_offset, at: UnixMs(1_700_000_000_000 + next_offset) }, progress: None }
}

fn version(hlc: u64) -> Version {
    Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: 1 }
}

/// Whatever is held.
fn forget(store: &mut dyn VersionStore, key: &RowKey) -> Option<Entry> {
    store.forget(key, &Version { hlc: Hlc(u64::MAX), origin: Region::new("us"), sequence: u64::MAX })
}

fn what_is_put_is_got_back_whole(make: MakeStore<'_>) {
    let mut store = make(&collections());
    let extremes = [(0, 0, 0, ""), (u64::MAX, u64::MAX, (1 << 47) - 1, "eu"), (1 << 63, 1, -1, "ap"), (7, 7, 7, "eu")];
    for (hlc, number, vector_offset, origin) in extremes {
        for (tombstone, refused) in [(false, false), (true, false), (false, true), (true, true)] {
            let put = Entry {
                version: Version { hlc: Hlc(hlc), origin: Region::new(origin), sequence: number },
                content_hash: ContentHash(number),
                vector_offset,
                tombstone,
                refused,
            };
            store.put(&key(0, 1), put.clone());
            assert_eq!(store.get(&key(0, 1)), Some(put), "a put replaces what was there, every field of it");
            assert_eq!(store.len(), 1);
        }
    }
    let last = store.get(&key(0, 1));
    assert_eq!(forget(&mut *store, &key(0, 1)), last, "forget gives what was there");
    assert_eq!((store.get(&key(0, 1)), forget(&mut *store, &key(0, 1)), store.len()), (None, None, 0));
    assert!(store.is_empty());
}

fn ids_that_look_alike_are_kept_apart(make: MakeStore<'_>) {
    let mut store = make(&collections());
    let mut keys: Vec<RowKey> = (0..3).flat_map(|collection| [-1, 0, 1].map(|number| key(collection, number))).collect();
    for text in ["1 ", "01", "", "\0", "a much longer id than any fixed part of a slot would hold, and then some more"] {
        keys.push(RowKey { collection: CollectionId(2), id: VectorId::Text(text.into()) });
    }
    for (number, key) in keys.iter().enumerate() {
        store.put(key, entry(number as u64, false));
    }
    assert_eq!(store.len(), keys.len());
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(store.get(key), Some(entry(number as u64, false)), "{key:?}");
    }
}

fn tombstones_are_found_oldest_first_below_the_floor(make: MakeStore<'_>) {
    let mut store = make(&collections());
    for (number, hlc) in [(1, 30), (2, 10), (3, 20), (4, 20), (5, 40)] {
        store.put(&key(number as u16 % 3, number), entry(hlc, true));
    }
    store.put(&key(0, 6), entry(5, false));
    let stamps = |store: &dyn VersionStore, floor, max| -> Vec<u64> {
        store.tombstones_below(Hlc(floor), max).into_iter().map(|(_, entry)| entry.version.hlc.0).collect()
    };
    store.commit(&applied(1)).unwrap();
    assert_eq!(stamps(&*store, 40, 9), [10, 20, 20, 30], "strictly below the floor, live rows left out");
    assert_eq!(stamps(&*store, 40, 2), [10, 20], "no more than asked for");
    assert_eq!(stamps(&*store, 10, 9), [0u64; 0]);
    assert_eq!(store.tombstones_below(Hlc(11), 9), [(key(2, 2), entry(10, true))]);

    store.put(&key(2, 2), entry(50, false));
    store.put(&key(1, 1), entry(35, true));
    forget(&mut *store, &key(0, 3));
    assert_eq!(stamps(&*store, 99, 9), [20, 35, 40], "a replaced or removed tombstone is no more");
}

fn removed_room_is_used_again(make: MakeStore<'_>) {
    let mut store = make(&collections());
    let mut after_first = 0;
    for round in 0..20 {
        for number in 0..2_000 {
            store.put(&key(number as u16 % 3, round * 10_000 + number), entry(number as u64, number % 2 == 0));
        }
        store.commit(&applied(round)).unwrap();
        after_first = if round == 0 { store.memory_bytes() } else { after_first };
        for number in 0..2_000 {
            assert!(forget(&mut *store, &key(number as u16 % 3, round * 10_000 + number)).is_some());
        }
    }
    assert!(store.is_empty() && store.tombstones_below(Hlc(u64::MAX), 9).is_empty());
    let grown = store.memory_bytes();
    assert!(after_first > 0 && grown < 2 * after_first, "{after_first} bytes after one round, {grown} after twenty");
}

fn a_walk_by_pages_meets_every_entry_that_stays_once(make: MakeStore<'_>) {
    for collection in 0..3 {
        for max in [1, 7, 1_000] {
            let mut store = make(&collections());
            for number in 0..300 {
                store.put(&key(collection, number), entry(number as u64, number % 5 == 0));
                store.put(&key((collection + 1) % 3, number), entry(1, false));
            }
            written_out(&mut *store, CollectionId(collection), 300);
            let (mut met, mut place, mut calls): (Vec<VectorId>, Option<Cursor>, i64) = (Vec::new(), None, 0);
            loop {
                let mut entries = Vec::new();
                let next = store.page(CollectionId(collection), place.as_ref(), max, &mut entries);
                assert!(entries.len() <= max, "no more than asked for");
                for (id, found) in entries {
                    assert_eq!(store.get(&RowKey { collection: CollectionId(collection), id: id.clone() }), Some(found));
                    met.push(id);
                }
                // While it goes on, every third key goes, and others come.
                forget(&mut *store, &key(collection, calls * 3));
                store.put(&key(collection, 1_000 + calls), entry(1, false));
                calls += 1;
                if next.is_none() || calls > 2_000 {
                    break;
                }
                place = next;
            }
            for number in (0..300).filter(|number| number % 3 != 0) {
                let id = key(collection, number).id;
                let times = met.iter().filter(|found| **found == id).count();
                assert_eq!(times, 1, "{id} in pages of {max}, collection {collection}");
            }
        }
    }
}

fn what_was_forgotten_is_remembered_until_something_newer_is_put(make: MakeStore<'_>) {
    let mut store = make(&collections());
    store.put(&key(1, 1), entry(10, true));
    store.put(&key(1, 2), entry(10, true));
    assert_eq!(store.forgotten(&key(1, 1)), None);
    assert_eq!(store.forget(&key(1, 1), &version(10)), Some(entry(10, true)));
    assert_eq!(store.forget(&key(1, 3), &version(7)), None, "it was not even there");
    store.commit(&applied(1)).unwrap();
    assert_eq!(store.forget(&key(1, 1), &version(8)), None);
    assert_eq!(store.forgotten(&key(1, 1)), Some(version(10)), "the greater of both");
    assert_eq!(store.forgotten(&key(1, 3)), Some(version(7)));
    store.put(&key(1, 1), entry(11, false));
    assert_eq!((store.forgotten(&key(1, 1)), store.forgotten(&key(1, 2)), store.len()), (None, None, 2));
}

fn of_what_the_log_has_put_the_newest_holds_the_key(make: MakeStore<'_>) {
    let mut store = make(&collections());
    assert_eq!(store.put_newer(&key(0, 1), entry(10, false)), Put::Taken);
    assert_eq!(store.put_newer(&key(0, 1), entry(9, false)), Put::Older);
    store.commit(&applied(1)).unwrap();
    let twin = Entry { content_hash: ContentHash(1), ..entry(10, false) };
    assert_eq!(store.put_newer(&key(0, 1), twin), Put::Older, "equal versions are told apart by their content");
    let moved = Entry { vector_offset: 9, ..entry(10, false) };
    assert_eq!(store.put_newer(&key(0, 1), moved.clone()), Put::Taken, "the same again, elsewhere");
    assert_eq!(store.get(&key(0, 1)), Some(moved));
    store.forget(&key(0, 1), &version(20));
    assert_eq!(store.put_newer(&key(0, 1), entry(20, false)), Put::Forgotten(version(20)));
    assert_eq!((store.get(&key(0, 1)), store.len()), (None, 0));
    assert_eq!(store.put_newer(&key(0, 1), entry(21, true)), Put::Taken);
    assert_eq!((store.forgotten(&key(0, 1)), store.len()), (None, 1));
}

fn the_end_of_the_vectors_never_goes_back(make: MakeStore<'_>) {
    let mut store = make(&collections());
    assert_eq!(store.vectors_end(), 0);
    store.put(&key(0, 1), Entry { vector_offset: 41, ..entry(10, false) });
    store.put(&key(0, 1), Entry { vector_offset: 5, ..entry(11, false) });
    forget(&mut *store, &key(0, 1));
    assert_eq!(store.vectors_end(), 42);
}

/// Until a store that writes behind its back has written.
fn written_out(store: &mut dyn VersionStore, collection: CollectionId, entries: usize) {
    for next_offset in 1..1_000_000 {
        store.commit(&applied(next_offset)).expect("committed");
        store.caught_up();
        let mut page = Vec::new();
        store.page(collection, None, 2 * entries, &mut page);
        if page.len() == entries {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the entries are never written");
}

/// Random puts and removes on few keys, compared with a map after every step and in full at the end.
fn it_does_what_a_plain_map_does(make: MakeStore<'_>, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut store = make(&collections());
    let mut model: HashMap<RowKey, Entry> = HashMap::new();
    for step in 0..4_000u64 {
        let key = key(random.random_range(0..3), random.random_range(-200..200));
        if random.random_range(0..10) < 3 {
            assert_eq!(forget(&mut *store, &key), model.remove(&key), "seed {seed}, step {step}");
        } else {
            let mut put = entry(random.random_range(0..500), random.random());
            put.version.origin = Region::new(["us", "eu", "ap"][random.random_range(0..3)]);
            put.version.sequence = step;
            store.put(&key, put.clone());
            model.insert(key.clone(), put);
        }
        if random.random_range(0..50) == 0 {
            store.commit(&applied(step as i64)).unwrap();
        }
        assert_eq!(store.get(&key), model.get(&key).cloned(), "seed {seed}, step {step}");
        assert_eq!(store.len(), model.len(), "seed {seed}, step {step}");
    }
    let mut visited = HashMap::new();
    store.for_each(&mut |key, entry| assert!(visited.insert(key, entry).is_none(), "seed {seed}: visited twice"));
    assert_eq!(visited, model, "seed {seed}");

    let floor = Hlc(random.random_range(0..500));
    let found = store.tombstones_below(floor, usize::MAX);
    let expected = model.values().filter(|entry| entry.tombstone && entry.version.hlc < floor).count();
    assert_eq!(found.len(), expected, "seed {seed}");
    assert!(found.windows(2).all(|pair| pair[0].1.version.hlc <= pair[1].1.version.hlc), "seed {seed}: not oldest first");
    assert!(found.iter().all(|(key, entry)| model.get(key) == Some(entry)), "seed {seed}");
}

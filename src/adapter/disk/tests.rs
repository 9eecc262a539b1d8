use super::writer::{Work, Writer, write};
use super::*;
use crate::base::error::Remedy;
use crate::base::ids::TaskId;
use crate::store::VersionStore;
use crate::testing::conformance::stores::{entry, key, of, version};
use crate::testing::conformance::{self, store::applied};
use std::sync::atomic::{AtomicI32, Ordering};

#[test]
fn the_disk_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let stores = DiskStores::new(folder.path(), "app");
    let partitions = AtomicI32::new(0);
    conformance::store::run(&mut |collections| {
        let of = of(partitions.fetch_add(1, Ordering::Relaxed));
        let of = StoreOf { collections: Arc::new(collections.clone()), ..of };
        stores.open(&of).unwrap().store
    });
}

#[test]
fn the_disk_keeps_what_was_committed() {
    let mut folders = Vec::new();
    conformance::stores::run(&mut || {
        folders.push(tempfile::tempdir().unwrap());
        Box::new(DiskStores::new(folders[folders.len() - 1].path(), "app"))
    });
}

fn filled(folder: &Path) -> DiskStores {
    let stores = DiskStores::new(folder, "app");
    let mut store = stores.open(&of(0)).unwrap().store;
    store.commit(&applied(7)).unwrap();
    drop(store);
    stores.await_closed();
    stores
}

#[test]
fn a_store_that_is_open_elsewhere_is_tried_again_and_the_message_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let held = DiskStores::new(folder.path(), "app").open(&of(3)).unwrap();
    let error = DiskStores::new(folder.path(), "app").open(&of(3)).err().unwrap();
    assert_eq!(error.remedy, Remedy::Retry);
    assert!(error.to_string().contains("0_3.lock is locked"), "{error}");
    drop(held);
}

#[test]
fn what_cannot_be_used_is_dropped_with_the_reason() {
    let unusable = |folder: &Path| fs::write(folder.join("app/0_0.unusable"), "a block is bad").unwrap();
    let unknown_format = |folder: &Path| {
        let home = DiskStores::new(folder, "app").lock(TaskId { shard: 0, partition: 0 }).unwrap();
        let tables = Tables::open(&home.tables, home.lock.clone(), home.unusable.clone()).unwrap();
        let value = br#"{"format":2,"else":1}"#.to_vec();
        let change = tables::Change { key: bytes::STATE_KEY.to_vec(), value: Some(value) };
        tables.write(vec![change]).unwrap();
    };
    let moved = |folder: &Path| fs::rename(folder.join("app/0_0"), folder.join("app/0_1")).unwrap();
    let renamed = |folder: &Path| fs::rename(folder.join("app"), folder.join("other")).unwrap();
    type Spoil<'a> = &'a dyn Fn(&Path);
    let cases: [(Spoil<'_>, &str, i32, &str); 4] = [
        (&unusable, "app", 0, "a block is bad"),
        (&unknown_format, "app", 0, "it is of format 2, and this version knows 1"),
        (&moved, "app", 1, "it follows app-versions-changelog[0], and this task app-versions-changelog[1]"),
        (&renamed, "other", 0, "it is of application app, and this one is other"),
    ];
    for (spoil, application, partition, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        spoil(folder.path());
        let stores = DiskStores::new(folder.path(), application);
        let opened = stores.open(&of(partition)).unwrap();
        assert_eq!(opened.applied, None, "{reason}");
        let warning = opened.warning.unwrap();
        assert!(warning.contains(reason) && warning.contains("restored from the beginning"), "{warning}");
        drop(opened.store);
        assert_eq!(stores.open(&of(partition)).unwrap().warning, None, "told once: {reason}");
    }
}

/// The writing is another thread's: whoever puts is not held up by it, and sees all that was put.
#[test]
fn f32_a_disk_that_stalls_holds_up_no_put_and_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let stores = DiskStores::new(folder.path(), "app");
    let home = stores.lock(TaskId { shard: 0, partition: 0 }).unwrap();
    let tables = Tables::open(&home.tables, home.lock.clone(), home.unusable.clone()).unwrap();
    let (go_on, stalled) = crossbeam_channel::bounded::<()>(0);
    let disk = tables.clone();
    let carry_out = move |work: &Work| {
        // Until the other end is gone.
        stalled.recv().ok();
        write(&disk, work)
    };
    let writer = Writer::spawn(of(0).task, carry_out).unwrap();
    let mut store = DiskStore::with(writer, tables, &of(0), stores.state_of(&of(0)));
    drop(home);

    // It would wait for ever, if it waited at all.
    for number in 0..10_000u64 {
        store.put(&key(number as i64), entry(number));
        if number % 100 == 99 {
            store.commit(&applied(number as i64 + 1)).unwrap();
        }
    }
    assert_eq!((store.len(), store.get(&key(77))), (10_000, Some(entry(77))));
    drop(go_on);
    drop(store);
    let opened = stores.open(&of(0)).unwrap();
    assert_eq!((opened.applied, opened.store.len()), (Some(applied(10_000)), 10_000));
}

/// Written as tables of their own while it was filled, by the journal after it: of either the newest holds the key.
#[test]
fn a_store_that_was_filled_in_many_runs_goes_on_with_what_is_newest() {
    let folder = tempfile::tempdir().unwrap();
    let stores = DiskStores::new(folder.path(), "app");
    let mut store = stores.open(&of(0)).unwrap().store;
    let mut held = std::collections::BTreeMap::new();
    for number in 0..20_000 {
        if number == 15_000 {
            store.caught_up();
        }
        let (id, tombstone) = (number * 7_919 % 3_000, number % 5 == 0);
        if number % 11 == 0 {
            store.forget(&key(id), &version(number as u64 + 1));
            held.remove(&id);
        } else {
            let entry = crate::store::entry::Entry { tombstone, ..entry(number as u64 + 1) };
            assert_eq!(store.put_newer(&key(id), entry.clone()), crate::store::Put::Taken, "{number}");
            held.insert(id, entry);
        }
        if number % 100 == 99 {
            store.commit(&applied(number + 1)).unwrap();
        }
    }
    drop(store);
    stores.await_closed();
    let opened = stores.open(&of(0)).unwrap();
    assert_eq!((opened.applied, opened.store.len()), (Some(applied(20_000)), held.len()));
    for id in 0..3_000 {
        assert_eq!(opened.store.get(&key(id)), held.get(&id).cloned(), "{id}");
    }
    let tombstones = held.values().filter(|entry| entry.tombstone).count();
    assert_eq!(opened.store.tombstones_below(crate::merge::hlc::Hlc(u64::MAX), usize::MAX).len(), tombstones);
}

//! What earlier versions have written, as bytes: this version must read all of it, since workers are upgraded one by one
//! and what is kept outlives them.
//!
//! `UPDATE_GOLDEN=1 cargo test --test formats` writes the files of the formats of today where they are missing. A file
//! that is there is never written again: a change of what a format's bytes mean takes a new number, and a new file.

use driftless::adapter::disk::DiskStores;
use driftless::base::ids::{CollectionId, Region, RowKey, TopicId, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::store::entry::Entry;
use driftless::store::progress::{Progress, SourceProgress};
use driftless::store::{Applied, Position, Stores};
use driftless::testing::conformance::stores::of;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn updates() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// A file of an earlier version's, or of this one's the first time.
fn written(name: &str, now: &[u8]) -> Vec<u8> {
    let place = fixture(name);
    if updates() && !place.exists() {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, now).unwrap();
    }
    fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", place.display()))
}

fn entry(number: u64, tombstone: bool) -> Entry {
    let version = Version { hlc: Hlc(111_411_200_000_000_000 + number), origin: Region::new("eu"), sequence: u64::MAX - number };
    let content_hash = ContentHash(0x0123_4567_89ab_cdef);
    Entry { version, content_hash, vector_offset: 42 + number as i64, tombstone, refused: !tombstone }
}

fn progress() -> Progress {
    let source = SourceProgress {
        topic: "vector-cdc".to_owned(),
        topic_id: Some(TopicId::new("6iBSLQx0QYqYHOFGYxkNeA")),
        partition: 3,
        next_offset: 42,
        last_appended_at: Some(UnixMs(1_700_000_000_000)),
        last_fingerprint: Some(u64::MAX),
        frontier: Some(UnixMs(1_700_000_000_001)),
        since: None,
        confirmed: None,
    };
    let floor = Some(Hlc(111_411_200_000_000_000));
    Progress { sources: vec![source], floor, written_at: 7, epoch: 2, suspect_from: Some(9), ..Progress::default() }
}

#[test]
fn entries_of_every_format_are_read() {
    assert_eq!(Entry::decode(&written("entry-1.bin", &entry(0, true).encode())), Ok(entry(0, true)));
}

#[test]
fn progress_records_of_every_format_are_read() {
    assert_eq!(Progress::decode(&written("progress-1.bin", &progress().encode())).unwrap(), progress());
}

const KEYS: i64 = 20;

fn row_key(number: i64) -> RowKey {
    let ids = [VectorId::Uuid(number as u128), VectorId::Int(-number), VectorId::Text(format!("ä {number}").into())];
    RowKey { collection: CollectionId(number as u16 % 3), id: ids[number as usize % 3].clone() }
}

fn applied() -> Applied {
    Applied { position: Position { next_offset: 77, at: UnixMs(1_700_000_000_000) }, progress: Some(progress()) }
}

fn write_store(folder: &Path) {
    let stores = DiskStores::new(folder, "driftless");
    let mut store = stores.open(&of(0)).unwrap().store;
    for number in 0..KEYS {
        store.put(&row_key(number), entry(number as u64, number % 4 == 0));
    }
    store.forget(&row_key(8), &entry(8, true).version);
    store.commit(&applied()).unwrap();
    drop(store);
    stores.await_closed();
    // Opened again, the journal gives back the room that it had taken in advance.
    drop(stores.open(&of(0)).unwrap());
    stores.await_closed();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &place);
        } else {
            fs::copy(&path, &place).unwrap();
        }
    }
}

#[test]
fn disk_stores_of_every_format_are_opened() {
    let place = fixture("disk-1");
    if updates() && !place.exists() {
        let made = tempfile::tempdir().unwrap();
        write_store(made.path());
        copy(&made.path().join("driftless/0_0"), &place);
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&place, &folder.path().join("driftless/0_0"));
    let opened = DiskStores::new(folder.path(), "driftless").open(&of(0)).unwrap();
    assert_eq!((opened.warning, opened.applied), (None, Some(applied())));
    for number in 0..KEYS {
        let expected = (number != 8).then(|| entry(number as u64, number % 4 == 0));
        assert_eq!(opened.store.get(&row_key(number)), expected, "{number}");
    }
    assert_eq!(opened.store.forgotten(&row_key(8)), Some(entry(8, true).version));
    assert_eq!((opened.store.len(), opened.store.vectors_end()), (KEYS as usize - 1, 42 + KEYS));
    assert_eq!(opened.store.tombstones_below(Hlc(u64::MAX), 99).len(), 4);
}

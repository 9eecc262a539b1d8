//! The disk store against what really happens to disks and processes.

#![allow(clippy::disallowed_methods, reason = "it runs against a real disk, in real time")]

use driftless::adapter::disk::DiskStores;
use driftless::base::ids::{CollectionId, Region, RowKey, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::store::entry::Entry;
use driftless::store::{Applied, Opened, Position, Stores, VersionStore};
use driftless::testing::conformance::stores::of;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set for the process that is to be killed: the folder that it writes in.
const FOLDER: &str = "DRIFTLESS_TEST_STORE";
/// Set beside it: of how many keys it writes. A store of few has caught up with its changelog.
const OF_KEYS: &str = "DRIFTLESS_TEST_STORE_KEYS";
const KILLS: u64 = 10;
/// Of these, every row is written over and over.
const KEYS: i64 = 20_000;
/// So many that a new store writes some while it is filled.
const MANY_KEYS: i64 = 3_000_000;
const COMMIT_EVERY: i64 = 500;
const LOOKED_UP: usize = 30_000;

/// What the changelog says at an offset: a put of some key, and now and then that it is forgotten again.
fn key_at(offset: i64, keys: i64) -> RowKey {
    RowKey { collection: CollectionId(1), id: VectorId::Int(offset.wrapping_mul(7_919) % keys) }
}

fn version_at(offset: i64) -> Version {
    Version { hlc: Hlc(offset as u64 + 1), origin: Region::new("us"), sequence: offset as u64 }
}

fn entry_at(offset: i64) -> Entry {
    let tombstone = offset % 5 == 0;
    Entry { version: version_at(offset), content_hash: ContentHash(1), vector_offset: offset, tombstone, refused: false }
}

fn is_forgotten_at(offset: i64) -> bool {
    offset % 11 == 0
}

fn apply(store: &mut dyn VersionStore, offset: i64, keys: i64) {
    if is_forgotten_at(offset) {
        store.forget(&key_at(offset, keys), &version_at(offset));
    } else {
        store.put_newer(&key_at(offset, keys), entry_at(offset));
    }
}

fn commit(store: &mut dyn VersionStore, next_offset: i64) {
    store.commit(&Applied { position: Position { next_offset, at: UnixMs(1_000_000) }, progress: None }).unwrap();
}

fn next_offset(opened: &Opened) -> i64 {
    opened.applied.as_ref().map_or(0, |applied| applied.position.next_offset)
}

/// All that lies before the position is there, of which some is looked up; of what lies behind it, some may be.
fn check(store: &dyn VersionStore, position: i64, keys: i64) {
    let known = position.min(keys);
    for back in (0..known).step_by(1 + known as usize / LOOKED_UP) {
        let offset = position - 1 - back;
        let key = key_at(offset, keys);
        let known = store.get(&key).map(|entry| entry.version).or_else(|| store.forgotten(&key));
        let known = known.unwrap_or_else(|| panic!("nothing is known of the key put at {offset}, and {position} is said"));
        assert!(known >= version_at(offset), "at {position}: {offset} is missing, {known:?} is held");
        assert_eq!(key_at(known.sequence as i64, keys), key, "a version of this key");
    }
    let mut count = 0;
    store.for_each(&mut |_, _| count += 1);
    assert_eq!(count, store.len());
    store.check().unwrap();
}

/// Not a test of its own: [`f31_killed_in_a_burst_of_writes_it_opens_again_with_all_that_its_position_says`] starts it.
#[test]
#[ignore = "writes until it is killed"]
fn write_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let opened = DiskStores::new(Path::new(&folder), "app").open(&of(0)).unwrap();
    let mut offset = next_offset(&opened);
    let mut store = opened.store;
    let keys = std::env::var(OF_KEYS).unwrap().parse().unwrap();
    if keys == KEYS {
        store.caught_up();
    }
    fs::write(Path::new(&folder).join("writing"), b"").unwrap();
    loop {
        apply(&mut *store, offset, keys);
        offset += 1;
        if offset % COMMIT_EVERY == 0 {
            commit(&mut *store, offset);
        }
    }
}

fn start_writer(folder: &Path, keys: i64) -> Child {
    let started = folder.join("writing");
    fs::remove_file(&started).ok();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "write_until_killed", "--ignored"]).env(FOLDER, folder).env(OF_KEYS, keys.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(Instant::now() < patience, "the writer does not begin: the store does not open");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child
}

#[test]
fn f31_killed_in_a_burst_of_writes_it_opens_again_with_all_that_its_position_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..KILLS {
        let mut child = start_writer(folder.path(), KEYS);
        std::thread::park_timeout(Duration::from_millis(100 + 137 * kill % 700));
        child.kill().unwrap();
        child.wait().unwrap();
        let stores = DiskStores::new(folder.path(), "app");
        let opened = stores.open(&of(0)).unwrap();
        assert_eq!(opened.warning, None);
        let position = next_offset(&opened);
        assert!(position >= before, "it went back from {before} to {position}");
        check(&*opened.store, position, KEYS);
        before = position;
        drop(opened);
        stores.await_closed();
    }
    assert!(before > KEYS, "{before} records in all lives: the writers were killed before they wrote");
    // Writes go on, and come to an end.
    let stores = DiskStores::new(folder.path(), "app");
    let mut store = stores.open(&of(0)).unwrap().store;
    let end = before + 3 * KEYS;
    let start = Instant::now();
    for offset in before..end {
        apply(&mut *store, offset, KEYS);
    }
    commit(&mut *store, end);
    drop(store);
    let opened = stores.open(&of(0)).unwrap();
    assert_eq!(next_offset(&opened), end);
    check(&*opened.store, end, KEYS);
    assert!(start.elapsed() < Duration::from_secs(120), "writing {} records took {:?}", 3 * KEYS, start.elapsed());
}

#[test]
fn f31_killed_while_it_is_filled_it_opens_again_with_all_that_its_position_says() {
    let mut kept = 0;
    for kill in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start_writer(folder.path(), MANY_KEYS);
        std::thread::park_timeout(Duration::from_millis(1_500 + 700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let opened = DiskStores::new(folder.path(), "app").open(&of(0)).unwrap();
        assert_eq!(opened.warning, None);
        check(&*opened.store, next_offset(&opened), MANY_KEYS);
        kept += next_offset(&opened);
    }
    assert!(kept > 0, "the writers were killed before they wrote");
}

/// More than one memtable holds.
const ENTRIES: i64 = 150_000;

/// Makes a store that has written its tables out, closes it, and names its files.
fn filled(folder: &Path) -> Vec<PathBuf> {
    let stores = DiskStores::new(folder, "app");
    let mut store = stores.open(&of(0)).unwrap().store;
    for offset in 0..ENTRIES {
        let key = RowKey { collection: CollectionId(1), id: VectorId::Int(offset) };
        store.put(&key, entry_at(offset));
        if offset % 10_000 == 9_999 {
            commit(&mut *store, offset + 1);
        }
    }
    drop(store);
    stores.await_closed();
    // Opened again, the journal gives back the room that it had taken in advance.
    drop(stores.open(&of(0)).unwrap());
    stores.await_closed();
    let mut files = Vec::new();
    collect(&folder.join("app/0_0"), &mut files);
    files.sort();
    files
}

/// One file of each kind: their names differ in numbers.
fn kinds<'a>(files: &'a [PathBuf], folder: &Path) -> Vec<&'a PathBuf> {
    let kind = |file: &PathBuf| -> String {
        let name = file.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        name.chars().filter(|c| !c.is_ascii_digit()).collect()
    };
    let mut kinds: Vec<&PathBuf> = Vec::new();
    for file in files {
        if fs::metadata(file).unwrap().len() > 0 && kinds.iter().all(|known| kind(known) != kind(file)) {
            kinds.push(file);
        }
    }
    kinds
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Opens it again and reads all of it. What is wrong is found at one of both, and then costs no more than the store.
fn opens_after_damage(folder: &Path, what: &str) -> bool {
    let stores = DiskStores::new(folder, "app");
    let opened = stores.open(&of(0)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut found = opened.warning.is_some();
    let mut count = 0;
    opened.store.for_each(&mut |_, _| count += 1);
    if opened.store.check().is_err() {
        found = true;
    } else {
        assert_eq!(count, opened.store.len(), "{what}: entries are missing and nothing says so");
    }
    drop(opened);
    let opened = stores.open(&of(0)).unwrap_or_else(|error| panic!("{what}, the second time: {error}"));
    let mut count = 0;
    opened.store.for_each(&mut |_, _| count += 1);
    opened.store.check().unwrap_or_else(|error| panic!("{what}: it is bad for ever: {error}"));
    assert_eq!(count, opened.store.len(), "{what}");
    found
}

#[test]
fn f31_damaged_files_cost_the_store_and_nothing_else() {
    let original = tempfile::tempdir().unwrap();
    let files = filled(original.path());
    let mut found = 0;
    let mut damages = 0;
    let kinds = kinds(&files, original.path());
    assert!(kinds.len() > 3, "tables, journals and what lists them: {kinds:?}");
    for (index, file) in kinds.into_iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        for damage in ["a flipped byte", "cut in half", "emptied", "removed"] {
            let copy = tempfile::tempdir().unwrap();
            for other in &files {
                let to = copy.path().join(other.strip_prefix(original.path()).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(other, to).unwrap();
            }
            let place = copy.path().join(file.strip_prefix(original.path()).unwrap());
            match damage {
                "a flipped byte" => {
                    let mut bytes = bytes.clone();
                    let at = bytes.len() * (index % 3 + 1) / 5;
                    bytes[at] ^= 0x55;
                    fs::write(&place, bytes).unwrap();
                }
                "cut in half" => fs::write(&place, &bytes[..bytes.len() / 2]).unwrap(),
                "emptied" => fs::write(&place, b"").unwrap(),
                _ => fs::remove_file(&place).unwrap(),
            }
            let what = format!("{} {damage}", file.strip_prefix(original.path()).unwrap().display());
            damages += 1;
            found += usize::from(opens_after_damage(copy.path(), &what));
        }
    }
    assert!(found * 2 > damages, "{found} of {damages} damages were found");
}

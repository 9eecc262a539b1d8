//! What the changelogs hold: entries, progress records, row keys and versions in headers. What is written is read
//! back, and any bytes at all are read or refused.

use crate::change::COLLECTIONS;
use crate::meter::measure;
use crate::run::{Target, Verdict};
use driftless::base::ids::{CollectionId, Region, RowKey, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::store::entry::{Entry, parse_version_text, version_text};
use driftless::store::progress::{ConfirmedPlace, Gap, Progress};
use driftless::store::row_key;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub const TARGET: Target = Target {
    name: "entries",
    good,
    words: &[
        b"\x01",
        b"\x02",
        b"{",
        b"}",
        b"\"sources\":[",
        b"\"topic\":",
        b"null",
        b"\"floor\":",
        b"-1",
        b"1e3",
        b"/",
        b"\0",
        b"texts\0",
        b"numbers\0-",
        b"\"epoch\":18446744073709551616",
        b"\xff",
        b"[[[[[[",
    ],
    body,
    bytes_max: (8 << 10, 64),
};

fn good(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..4) {
        0 => entry(rng).encode(),
        1 => progress(rng).encode(),
        2 => row_key::encode(&key(rng), &COLLECTIONS),
        _ => version_text(&version(rng)).into_bytes(),
    }
}

fn version(rng: &mut SmallRng) -> Version {
    let origin = ["us", "eu", "a/b", "", "\u{e9}\0x"][rng.random_range(0..5)];
    Version { hlc: Hlc(rng.random()), origin: Region::new(origin), sequence: rng.random() }
}

fn entry(rng: &mut SmallRng) -> Entry {
    Entry {
        version: version(rng),
        content_hash: ContentHash(rng.random()),
        vector_offset: rng.random(),
        tombstone: rng.random(),
        refused: rng.random(),
    }
}

fn key(rng: &mut SmallRng) -> RowKey {
    match rng.random_range(0..3) {
        0 => {
            RowKey { collection: CollectionId(0), id: VectorId::Text(["a", "\0", "\u{e9} \u{1}"][rng.random_range(0..3)].into()) }
        }
        1 => RowKey { collection: CollectionId(1), id: VectorId::Int(rng.random()) },
        _ => RowKey { collection: CollectionId(2), id: VectorId::Uuid(rng.random()) },
    }
}

/// Read first, so that a field that is added later has its default.
fn progress(rng: &mut SmallRng) -> Progress {
    const LEAST: &[u8] = b"\x01{\"sources\":[{\"topic\":\"\",\"partition\":0,\"next_offset\":0,\"last_appended_at\":null,\
        \"last_fingerprint\":null,\"frontier\":null}],\"floor\":null,\"written_at\":0,\"closed\":false,\"epoch\":0}";
    let mut progress = Progress::decode(LEAST).expect("format 1");
    let source = progress.sources.remove(0);
    for topic in ["vector-cdc", "us.vector-cdc", "\"\\\u{0}\u{e9}"].iter().take(rng.random_range(0..4)) {
        let mut source = source.clone();
        source.topic = (*topic).to_owned();
        (source.partition, source.next_offset) = (rng.random(), rng.random());
        source.last_appended_at = rng.random::<bool>().then(|| UnixMs(rng.random()));
        source.last_fingerprint = rng.random::<bool>().then(|| rng.random());
        source.frontier = rng.random::<bool>().then(|| UnixMs(rng.random()));
        source.since = rng.random::<bool>().then(|| UnixMs(rng.random()));
        source.confirmed = rng.random::<bool>().then(|| ConfirmedPlace {
            next_offset: rng.random(),
            appended_at: rng.random(),
            fingerprint: rng.random(),
        });
        progress.sources.push(source);
    }
    progress.floor = rng.random::<bool>().then(|| Hlc(rng.random()));
    (progress.written_at, progress.closed, progress.epoch) = (rng.random(), rng.random(), rng.random());
    progress.suspect_from = rng.random::<bool>().then(|| rng.random());
    progress.incomplete = (0..rng.random_range(0..3))
        .map(|_| Gap { topic: "us.vector-cdc".to_owned(), from: rng.random(), until: rng.random() })
        .collect();
    progress.resync_from = rng.random::<bool>().then(|| "us".to_owned());
    progress
}

fn body(bytes: &[u8]) -> Verdict {
    assert_written_is_read_back(&mut SmallRng::seed_from_u64(xxhash_rust::xxh3::xxh3_64(bytes)));
    let ((entry, progress, key, version), held) = measure(|| {
        let version = std::str::from_utf8(bytes).ok().and_then(parse_version_text);
        (Entry::decode(bytes), Progress::decode(bytes), row_key::parse(bytes, &COLLECTIONS), version)
    });
    if let Ok(entry) = &entry {
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(entry));
    }
    if let Ok(progress) = &progress {
        assert_eq!(&Progress::decode(&progress.encode()).expect("written a moment ago"), progress);
    }
    if let Ok(key) = &key {
        assert_eq!(row_key::encode(key, &COLLECTIONS), bytes, "a row key has one form");
    }
    if let Some(version) = &version {
        assert_eq!(parse_version_text(&version_text(version)).as_ref(), Some(version));
    }
    let accepted = entry.is_ok() || progress.is_ok() || key.is_ok() || version.is_some();
    let words = [
        entry.map_or_else(|error| error.to_string(), |entry| format!("{} {}", entry.tombstone, entry.refused)),
        progress.map_or_else(|error| error.to_string(), |progress| format!("{} {}", progress.sources.len(), progress.closed)),
        key.map_or_else(|error| error.to_string(), |key| format!("{:?}", std::mem::discriminant(&key.id))),
        version.is_some().to_string(),
    ];
    Verdict::new(accepted, &words.join("; "), held)
}

fn assert_written_is_read_back(rng: &mut SmallRng) {
    let (entry, progress, key, version) = (entry(rng), progress(rng), key(rng), version(rng));
    assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    assert_eq!(Progress::decode(&progress.encode()).expect("format 1"), progress);
    assert_eq!(row_key::parse(&row_key::encode(&key, &COLLECTIONS), &COLLECTIONS), Ok(key));
    assert_eq!(parse_version_text(&version_text(&version)), Some(version));
}

//! What a record costs in the memory store as the store grows: its key looked up, and a newer entry put in its place, in
//! random order, or a new key.
//!
//! `cargo run --release --example store_growth KEYS` fills a store with KEYS keys and prints nanoseconds for each record;
//! under `valgrind --tool=callgrind --toggle-collect='*counted_records*'` the same records are counted.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use driftless::base::ids::{CollectionId, Region, RowKey, VectorId};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::store::VersionStore;
use driftless::store::entry::Entry;
use driftless::store::memory::MemoryStore;
use std::hint::black_box;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const RECORDS: u64 = 1_000_000;
/// Of so many records one has a key that is new.
const NEW_EVERY: u64 = 10;

fn main() {
    let keys: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("usage: store_growth KEYS");
    let mut store = MemoryStore::new(&collections(), Duration::from_secs(86_400));
    for number in 0..keys {
        store.put(&key(number), entry(number));
    }
    // Which keys is decided before the clock runs.
    let records: Vec<(RowKey, Entry)> = (0..RECORDS)
        .map(|number| {
            let chosen = if number % NEW_EVERY == 0 { keys + number } else { xxh3_64(&number.to_be_bytes()) % keys };
            (key(chosen), entry(keys + number))
        })
        .collect();
    let begun = Instant::now();
    counted_records(&mut store, &records);
    println!("{keys} keys: {:.1} ns a record of {RECORDS}", begun.elapsed().as_nanos() as f64 / RECORDS as f64);
}

#[inline(never)]
fn counted_records(store: &mut MemoryStore, records: &[(RowKey, Entry)]) {
    for (key, entry) in records {
        black_box(store.get(key));
        store.put(key, entry.clone());
    }
}

fn key(number: u64) -> RowKey {
    RowKey { collection: CollectionId(0), id: VectorId::Uuid(xxh3_128(&number.to_be_bytes())) }
}

fn entry(number: u64) -> Entry {
    let version = Version { hlc: Hlc(number << 16), origin: Region::new("us"), sequence: number };
    Entry { version, content_hash: ContentHash(number), vector_offset: number as i64, tombstone: false, refused: false }
}

fn collections() -> Collections {
    Collections::new(vec![CollectionSpec {
        name: "documents".to_owned(),
        id: IdKind::Uuid,
        dimension: 768,
        metric: Metric::Cosine,
        index: IndexKind::Auto,
        auto_create: false,
    }])
}

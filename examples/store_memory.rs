//! What the memory store takes of a machine: resident bytes for each vector, by the system's account, million by
//! million up to ten, and the largest step on the way.
//!
//! `cargo run --release --example store_memory [MILLIONS]`; Linux alone says what a process holds. Ends with 3 if a
//! vector takes more than 64 bytes at the end.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use driftless::base::ids::{CollectionId, Region, RowKey, VectorId};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::store::VersionStore;
use driftless::store::entry::Entry;
use driftless::store::memory::MemoryStore;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

const BYTES_MAX: f64 = 64.0;

fn main() -> ExitCode {
    let millions: u64 = std::env::args().nth(1).map_or(Some(10), |text| text.parse().ok()).unwrap_or(10).max(1);
    let mut store = MemoryStore::new(&collections(), Duration::from_secs(86_400));
    let empty = resident_bytes();
    let start = Instant::now();
    let (mut before, mut largest_step) = (empty, 0.0f64);
    println!("{:>12} {:>16} {:>16} {:>10}", "keys", "resident B/key", "own account", "ns/put");
    for number in 0..millions * 1_000_000 {
        put(&mut store, number);
        let keys = number + 1;
        if keys % 100_000 == 0 {
            let resident = resident_bytes();
            if keys > 1_000_000 {
                largest_step = largest_step.max((resident - before) as f64 / (before - empty) as f64);
            }
            before = resident;
        }
        if keys % 1_000_000 == 0 {
            let per_key = (before - empty) as f64 / keys as f64;
            let own = store.memory_bytes() as f64 / keys as f64;
            println!("{keys:>12} {per_key:>16.1} {own:>16.1} {:>10.0}", start.elapsed().as_nanos() as f64 / keys as f64);
        }
    }
    let per_key = (resident_bytes() - empty) as f64 / store.len() as f64;
    println!("resident: {per_key:.1} bytes for each of {} vectors; the limit is {BYTES_MAX}", store.len());
    println!(
        "peak: {:.1} bytes; largest step of 100 000 keys: {:.1} % of what was held",
        peak_bytes() as f64 / store.len() as f64,
        largest_step * 100.0
    );
    if per_key <= BYTES_MAX { ExitCode::SUCCESS } else { ExitCode::from(3) }
}

fn put(store: &mut MemoryStore, number: u64) {
    let id = VectorId::Uuid(xxh3_128(&number.to_be_bytes()));
    let version = Version { hlc: Hlc(number << 16), origin: Region::new("us"), sequence: number };
    let entry =
        Entry { version, content_hash: ContentHash(number), vector_offset: number as i64, tombstone: false, refused: false };
    store.put(&RowKey { collection: CollectionId(0), id }, entry);
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

fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The most that it ever held, the program itself included.
fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells what a process holds");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of /proc/self/status");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB");
    kilobytes * 1024
}

use super::*;
use crate::base::ids::VectorId;
use crate::merge::version::{ContentHash, Version};
use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};
use crate::testing::conformance;

const HORIZON: Duration = Duration::from_secs(24 * 3600);

#[test]
fn the_memory_store_conforms() {
    conformance::store::run(&mut |collections| Box::new(MemoryStore::new(collections, HORIZON)));
}

fn store_of(kind: IdKind) -> MemoryStore {
    let spec = CollectionSpec {
        name: "docs".to_owned(),
        id: kind,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    };
    MemoryStore::new(&Collections::new(vec![spec]), HORIZON)
}

fn fill(store: &mut MemoryStore, ids: impl Iterator<Item = VectorId>) {
    let version = Version { hlc: Hlc(1), origin: Region::new("us"), sequence: 1 };
    let entry = Entry { version, content_hash: ContentHash(1), vector_offset: 1, tombstone: false, refused: false };
    for id in ids {
        store.put(&RowKey { collection: CollectionId(0), id }, entry.clone());
    }
}

/// DESIGN 5, "Stores": at most 64 bytes a vector, and that at every size, so also right after the index grew.
#[test]
fn a_uuid_or_int_key_takes_at_most_64_bytes_at_every_size() {
    let mut uuids = store_of(IdKind::Uuid);
    let mut ints = store_of(IdKind::Int64);
    let mut worst = 0.0f64;
    for thousand in 0u64..400 {
        let numbers = thousand * 1000..(thousand + 1) * 1000;
        fill(&mut uuids, numbers.clone().map(|number| VectorId::Uuid(uuid_v7(number))));
        fill(&mut ints, numbers.map(|number| VectorId::Int(number as i64)));
        if thousand >= 100 {
            worst = worst.max(bytes_per_key(&uuids)).max(bytes_per_key(&ints));
        }
    }
    assert!(worst <= 64.0, "{worst} bytes per key");
}

/// The index's tables double, but not all at the same number of keys.
#[test]
fn a_store_grows_by_small_steps() {
    let mut store = store_of(IdKind::Uuid);
    let mut steps = Vec::new();
    let mut before = store.memory_bytes();
    // A segment is no more than a hundredth from here on.
    for percent in 0.. {
        let wanted = (100_000.0 * 1.01f64.powi(percent)) as u64;
        if wanted > 400_000 {
            break;
        }
        let held = store.len() as u64;
        fill(&mut store, (held..wanted).map(|number| VectorId::Uuid(uuid_v7(number))));
        steps.push(store.memory_bytes() as f64 / before as f64);
        before = store.memory_bytes();
    }
    let largest = steps[1..].iter().copied().fold(0.0, f64::max);
    assert!(largest < 1.03, "one percent of keys more took {largest} times the memory");
}

/// Ids that share their highest bits, as ids made from a clock do.
fn uuid_v7(number: u64) -> u128 {
    (0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number) << 64) + u128::from(number)
}

fn bytes_per_key(store: &MemoryStore) -> f64 {
    store.memory_bytes() as f64 / store.len() as f64
}

/// The store's own account against what the system says. `cargo test --release -- --ignored --nocapture
/// resident_bytes`
#[test]
#[ignore = "a measurement, of this process alone"]
fn resident_bytes_of_a_million_keys() {
    type Ids = Box<dyn Fn(u64) -> VectorId>;
    let kinds: [(&str, IdKind, Ids); 3] = [
        ("uuid", IdKind::Uuid, Box::new(|number| VectorId::Uuid(uuid_v7(number)))),
        ("int64", IdKind::Int64, Box::new(|number| VectorId::Int(number as i64))),
        ("text", IdKind::Text { max_bytes: 64 }, Box::new(|number| VectorId::Text(format!("document-{number:012}").into()))),
    ];
    // Stores already measured stay, or the next one would be given their memory.
    let mut measured = Vec::new();
    for (name, kind, id) in kinds {
        let before = resident_bytes();
        let start = std::time::Instant::now();
        let mut store = store_of(kind);
        for million in 1..=4u64 {
            fill(&mut store, ((million - 1) * 1_000_000..million * 1_000_000).map(&id));
            let (own, resident) = (bytes_per_key(&store), (resident_bytes() - before) as f64 / store.len() as f64);
            println!("{name}: {million} M keys, {own:.1} bytes each by own account, {resident:.1} resident");
        }
        println!("{name}: {:.0} ns a put", start.elapsed().as_nanos() as f64 / store.len() as f64);
        measured.push(store);
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells what a process holds");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident set") * 4096
}

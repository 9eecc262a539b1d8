//! What must hold in the end, computed from what the producers made and from nothing the engine says.

use crate::world::{DOCUMENTS, IMAGES, Produced, World, collection_of, row_id};
use bytes::Bytes;
use driftless::base::ids::TopicPartition;
use driftless::record::raw::RawRecord;
use driftless::store::entry::Entry;
use driftless::store::progress::{PROGRESS_KEY, Progress};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The greatest admitted change of each id.
pub fn winners(world: &World) -> BTreeMap<i64, Produced> {
    let lateness_ms_max = world.settings.max_lateness.as_millis() as i64;
    let mut winners: BTreeMap<i64, Produced> = BTreeMap::new();
    for change in &world.produced {
        let lateness_ms = change.appended_at.since_ms(change.version.hlc.wall());
        if lateness_ms < -60_000 || lateness_ms > lateness_ms_max {
            continue;
        }
        let beaten = |held: &Produced| (&held.version, held.hash) >= (&change.version, change.hash);
        if !winners.get(&change.id).is_some_and(beaten) {
            winners.insert(change.id, change.clone());
        }
    }
    winners
}

/// O of FAULTS: vector store and both changelogs (by their last record of each key, which is what compaction
/// keeps) say what the oracle says.
pub fn assert_oracle(world: &World, refused: &[i64], when: &str) {
    let winners = winners(world);
    let mut rows = world.database.scan(DOCUMENTS);
    rows.extend(world.database.scan(IMAGES));
    let expected: BTreeSet<_> = winners
        .values()
        .filter(|change| !change.delete && !refused.contains(&change.id))
        .map(|change| row_id(change.id))
        .collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), expected, "ids in the vector store, {when}");
    let changelogs: Vec<Changelogs> = (0..world.partitions).map(|partition| Changelogs::read(world, partition)).collect();
    for (id, change) in &winners {
        if let Some(row) = rows.get(&row_id(*id)) {
            assert_eq!((&row.version, &row.vector[..]), (&change.version, &change.vector[..]), "row {id}, {when}");
        }
        changelogs[change.at.partition as usize].assert_holds(change, refused.contains(id), when);
    }
}

/// Both changelogs of a partition: the last record of each key, and every vector by its offset.
struct Changelogs {
    last_entries: HashMap<Bytes, RawRecord>,
    last_vectors: HashMap<Bytes, RawRecord>,
    vectors: HashMap<i64, RawRecord>,
}

impl Changelogs {
    fn read(world: &World, partition: i32) -> Self {
        let by_key = |records: Vec<RawRecord>| -> HashMap<Bytes, RawRecord> {
            records.into_iter().filter_map(|record| Some((record.key.clone()?, record))).collect()
        };
        let vectors = world.read(&world.vectors_changelog(partition));
        Self {
            last_entries: by_key(world.read(&world.versions_changelog(partition))),
            last_vectors: by_key(vectors.clone()),
            vectors: vectors.into_iter().map(|record| (record.offset, record)).collect(),
        }
    }

    fn assert_holds(&self, change: &Produced, refused: bool, when: &str) {
        let id = change.id;
        let key = Bytes::from(format!("{}\0{id}", collection_of(id)));
        let last = self.last_entries.get(&key).unwrap_or_else(|| panic!("the entry of {id} is missing, {when}"));
        let Some(value) = &last.value else {
            assert!(change.delete, "{id} was forgotten and is no tombstone, {when}");
            return;
        };
        let entry = Entry::decode(value).unwrap();
        assert_eq!((&entry.version, entry.content_hash), (&change.version, change.hash), "entry of {id}, {when}");
        assert_eq!((entry.tombstone, entry.refused), (change.delete, refused), "flags of {id}, {when}");
        let value = |record: Option<&RawRecord>| record.and_then(|record| record.value.clone());
        let expected = Some(change.value.clone());
        assert_eq!(value(self.vectors.get(&entry.vector_offset)), expected, "vector of {id}, {when}");
        assert_eq!(value(self.last_vectors.get(&key)), expected, "last vector of {id}, {when}");
    }
}

/// How many records a changelog has of a key, and the last of them.
pub fn last_of(world: &World, changelog: &TopicPartition, id: i64) -> (usize, Option<RawRecord>) {
    let key = format!("documents\0{id}");
    let of_key = |record: &RawRecord| record.key.as_deref() == Some(key.as_bytes());
    let mut found: Vec<RawRecord> = world.read(changelog).into_iter().filter(of_key).collect();
    (found.len(), found.pop())
}

/// The distinct source coordinates on the dead-letter topic, with their reasons.
pub fn dead_letters(world: &World) -> BTreeSet<(String, i32, i64, String)> {
    let mut found = BTreeSet::new();
    for partition in 0..world.partitions {
        for record in world.read(&TopicPartition::new(world.settings.topics.dead_letter(), partition)) {
            let text = |name: &str| record.header_text(name).expect("each dead letter has its coordinates").to_owned();
            let number = |name: &str| text(name).parse::<i64>().expect("a number in decimal");
            found.insert((
                text("driftless.topic"),
                number("driftless.partition") as i32,
                number("driftless.offset"),
                text("driftless.reason"),
            ));
        }
    }
    found
}

/// Every progress record of a partition, in log order.
pub fn progress_records(world: &World, partition: i32) -> Vec<Progress> {
    let records = world.read(&world.versions_changelog(partition));
    let progress = records.iter().filter(|record| record.key.as_deref() == Some(PROGRESS_KEY.as_bytes()));
    progress.map(|record| Progress::decode(record.value.as_deref().unwrap()).unwrap()).collect()
}

//! The end of a run: every region's content against the oracle and against each other, and what is said of it.

use super::content::{Content, stamp_at};
use super::oracle;
use super::workload::{PlannedChange, REGIONS, Workload};
use super::world::{PARTITIONS, World};
use crate::adapter::embedded::broker::BrokerError;
use crate::adapter::embedded::vector::StoredRow;
use crate::base::ids::{Region, TopicPartition, VectorId};
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use crate::record::change::MetaValue;
use crate::record::headers;
use crate::record::reason::Reason;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::Xxh3Default;

/// A region's rows in a form that can be compared: the bits of vectors, stamps relative to the run's start.
type Rows = BTreeMap<VectorId, Vec<u8>>;

pub(super) struct Comparison {
    /// Ids whose row is not the same in every region and the oracle.
    pub divergent: usize,
    /// Changes that a region refused though it must not, or the other way round, or for another reason.
    pub refused_differently: usize,
    pub rows: usize,
    /// Of the first region's content: ids, vectors, metadata, versions.
    pub digest: String,
}

pub(super) fn compare(world: &World, workload: &Workload, base: UnixMs) -> Result<Comparison, BrokerError> {
    let expected = expected_rows(workload, base);
    let found: Vec<Rows> = (0..world.regions.len()).map(|region| stored_rows(world.rows(region), base)).collect();
    let ids: BTreeSet<&VectorId> = found.iter().flat_map(Rows::keys).chain(expected.keys()).collect();
    let agree = |id: &VectorId| found.iter().all(|rows| rows.get(id) == expected.get(id));
    let refusals = oracle::refusals(workload);
    let mut refused_differently = 0;
    for region in 0..world.regions.len() {
        refused_differently += refused(world, region)?.symmetric_difference(&refusals).count();
    }
    Ok(Comparison {
        divergent: ids.into_iter().filter(|id| !agree(id)).count(),
        refused_differently,
        rows: expected.len(),
        digest: digest(&found[0]),
    })
}

fn expected_rows(workload: &Workload, base: UnixMs) -> Rows {
    let mut rows = Rows::new();
    for (id, (change, content)) in oracle::rows(workload) {
        let version = planned_version(change, base);
        rows.insert(VectorId::Uuid(id), canonical(&version, &content.vector, &metadata_text(&content), base));
    }
    rows
}

fn planned_version(change: &PlannedChange, base: UnixMs) -> Version {
    let origin = Region::new(REGIONS[change.region].0);
    Version { hlc: stamp_at(base, change.stamp), origin, sequence: change.sequence }
}

fn stored_rows(stored: BTreeMap<VectorId, StoredRow>, base: UnixMs) -> Rows {
    let mut rows = Rows::new();
    for (id, row) in stored {
        let metadata = String::from_utf8_lossy(&row.metadata);
        rows.insert(id, canonical(&row.version, &row.vector, &metadata, base));
    }
    rows
}

/// Metadata as a row holds it: one JSON object, keys sorted. It is compared as text, since serde_json's reading
/// of a double may be off by its last bit.
fn metadata_text(content: &Content) -> String {
    let object: BTreeMap<&str, Json> = content.metadata.iter().map(|(name, value)| (name.as_str(), json(value))).collect();
    serde_json::to_string(&object).expect("scalars under text keys have a JSON form")
}

fn json(value: &MetaValue) -> Json {
    match value {
        MetaValue::Null => Json::Null,
        MetaValue::Bool(value) => Json::from(*value),
        MetaValue::Long(value) => Json::from(*value),
        MetaValue::Double(value) => Json::from(*value),
        MetaValue::Text(value) => Json::from(value.as_str()),
    }
}

fn canonical(version: &Version, vector: &[f32], metadata: &str, base: UnixMs) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 4 * vector.len());
    bytes.extend(version.hlc.wall().since_ms(base).to_le_bytes());
    bytes.extend(version.hlc.counter().to_le_bytes());
    bytes.extend(version.sequence.to_le_bytes());
    bytes.extend(version.origin.as_str().as_bytes());
    bytes.push(0);
    bytes.extend((vector.len() as u64).to_le_bytes());
    bytes.extend(vector.iter().flat_map(|float| float.to_bits().to_le_bytes()));
    bytes.extend(metadata.bytes());
    bytes
}

fn digest(rows: &Rows) -> String {
    let mut hash = Xxh3Default::new();
    for (id, row) in rows {
        hash.update(id.to_string().as_bytes());
        hash.update(&(row.len() as u64).to_le_bytes());
        hash.update(row);
    }
    format!("{:032x}", hash.digest128())
}

/// The keys and reasons on a region's dead-letter topic. A record that came twice is refused twice.
fn refused(world: &World, region: usize) -> Result<BTreeSet<(String, Reason)>, BrokerError> {
    let broker = &world.regions[region].broker;
    let mut found = BTreeSet::new();
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new(world.names.dead_letter(), number);
        broker.read(&partition, 0, usize::MAX, |record| {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            // A code that is none of ours is left out, and so counted as a missing refusal.
            if let Some(reason) = record.header_text(headers::REASON).and_then(Reason::from_code) {
                found.insert((key, reason));
            }
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::embedded::broker::Message;
    use crate::adapter::embedded::vector::EmbeddedStore;
    use crate::demo::world::DOCUMENTS;
    use crate::port::vector::{RowBatch, StoreRequest, VectorStore};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::Duration;

    const BASE: UnixMs = UnixMs(1_700_000_000_000);

    fn write(world: &World, region: usize, batch: RowBatch) {
        let mut store = EmbeddedStore::new(world.regions[region].database.clone(), Duration::ZERO, Arc::new(|| {}));
        store.submit(DOCUMENTS, StoreRequest::Write(Arc::new(batch)), 1);
        let mut responses = Vec::new();
        store.poll(&mut responses);
        assert!(responses[0].outcome.is_ok(), "{responses:?}");
    }

    fn refuse(world: &World, region: usize, key: &str, code: &'static str) {
        let headers = vec![(Arc::from(headers::REASON), Some(Bytes::from(code)))];
        let message = Message { key: Some(Bytes::copy_from_slice(key.as_bytes())), headers, ..Message::default() };
        let to = TopicPartition::new(world.names.dead_letter(), 0);
        world.regions[region].broker.append(&to, message).expect("a partition of the world");
    }

    /// All three regions as the oracle has them.
    fn settled(workload: &Workload) -> World {
        let world = World::new(workload.dim).expect("fresh brokers");
        for region in 0..world.regions.len() {
            let mut batch = RowBatch::default();
            for (id, (change, content)) in oracle::rows(workload) {
                batch.ids.push(VectorId::Uuid(id));
                batch.versions.push(planned_version(change, BASE));
                batch.vectors.extend(&content.vector);
                batch.metadata.push(metadata_text(&content).into_bytes());
            }
            write(&world, region, batch);
            for (key, reason) in oracle::refusals(workload) {
                refuse(&world, region, &key, reason.code());
            }
        }
        world
    }

    fn verdict(world: &World, workload: &Workload) -> (usize, usize) {
        let compared = compare(world, workload, BASE).expect("the topics are there");
        (compared.divergent, compared.refused_differently)
    }

    #[test]
    fn one_bit_one_row_and_one_refusal_are_each_found() {
        let workload = Workload::generate(11, 500, 50, 4);
        let world = settled(&workload);
        assert_eq!(verdict(&world, &workload), (0, 0));

        let (id, mut row) = world.rows(1).into_iter().next().expect("rows");
        row.vector[0] = f32::from_bits(row.vector[0].to_bits() ^ 1);
        let (ids, versions, metadata) = (vec![id.clone()], vec![row.version], vec![row.metadata]);
        write(&world, 1, RowBatch { ids, versions, vectors: row.vector, metadata, deletes: Vec::new() });
        assert_eq!(verdict(&world, &workload), (1, 0), "a bit of a vector in one region");

        let gone = world.rows(2).into_keys().nth(1).expect("rows");
        write(&world, 2, RowBatch { deletes: vec![gone], ..RowBatch::default() });
        assert_eq!(verdict(&world, &workload), (2, 0), "a row that one region lacks");

        refuse(&world, 0, "a good key", "late");
        assert_eq!(verdict(&world, &workload), (2, 1), "a refusal in one region only");
    }

    #[test]
    fn the_digest_does_not_depend_on_when_the_run_began() {
        let workload = Workload::generate(11, 500, 50, 4);
        let digest_at = |base| digest(&expected_rows(&workload, base));
        assert_eq!(digest_at(BASE), digest_at(UnixMs(BASE.0 + 12_345)));
        assert_eq!(digest_at(BASE), digest(&stored_rows(settled(&workload).rows(0), BASE)));
    }
}

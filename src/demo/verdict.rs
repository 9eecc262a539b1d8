//! The end of a run: every region's content against the oracle and against each other, and what is said of it.

use super::board::WorkerStatus;
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
use crate::record::reason::Reason;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::Xxh3Default;

/// The header that names the reason of a dead letter.
const REASON_HEADER: &str = "driftless.reason";

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

/// Verdict counts summed over the regions.
pub(super) fn total(workers: &[WorkerStatus], word: &str) -> u64 {
    workers.iter().map(|worker| worker.totals.verdict(word)).sum()
}

fn expected_rows(workload: &Workload, base: UnixMs) -> Rows {
    let mut rows = Rows::new();
    for (id, (change, content)) in oracle::rows(workload) {
        let metadata = content.metadata.iter().map(|(name, value)| (name.clone(), json(value))).collect();
        rows.insert(VectorId::Uuid(id), canonical(&planned_version(change, base), &content.vector, metadata, base));
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
        let metadata = serde_json::from_slice(&row.metadata).unwrap_or_default();
        rows.insert(id, canonical(&row.version, &row.vector, metadata, base));
    }
    rows
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

fn canonical(version: &Version, vector: &[f32], metadata: BTreeMap<String, Json>, base: UnixMs) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 4 * vector.len());
    bytes.extend(version.hlc.wall().since_ms(base).to_le_bytes());
    bytes.extend(version.hlc.counter().to_le_bytes());
    bytes.extend(version.sequence.to_le_bytes());
    bytes.extend(version.origin.as_str().as_bytes());
    bytes.push(0);
    bytes.extend((vector.len() as u64).to_le_bytes());
    bytes.extend(vector.iter().flat_map(|float| float.to_bits().to_le_bytes()));
    for (name, value) in metadata {
        bytes.extend(format!("{name}={value}\n").bytes());
    }
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
            if let Some(reason) = record.header_text(REASON_HEADER).and_then(Reason::from_code) {
                found.insert((key, reason));
            }
        })?;
    }
    Ok(found)
}

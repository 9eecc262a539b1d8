//! The end: in every region the vector store and the versions changelog hold, for every row key, the greatest change
//! that was admitted anywhere, and nothing else (INV-3, INV-10).

use super::undone::Undone;
use super::{Demand, Rules, demand};
use crate::adapter::embedded::broker::Broker;
use crate::adapter::embedded::vector::{Database, StoredRow};
use crate::base::ids::{CollectionId, RowKey, TopicPartition, VectorId};
use crate::merge::version::{ContentHash, Version};
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::region::topics::TopicNames;
use crate::store::entry::Entry;
use crate::store::row_key;
use crate::testing::sim::trace::Violations;
use crate::testing::sim::workload::{Made, Workload};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What must be there in the end, computed from the regions' own change topics.
#[derive(Debug, Default)]
pub(in crate::testing::sim) struct Oracle {
    winners: BTreeMap<RowKey, Made>,
    undone: Vec<Undone>,
    /// Of each row that a roll-back may have written, the greatest change before each of them.
    before: BTreeMap<(RowKey, usize), Made>,
    /// Changes that lie in a topic under a wrong key only.
    astray: BTreeMap<bytes::Bytes, String>,
    rekeyed: BTreeSet<bytes::Bytes>,
    pub admitted: u64,
}

impl Oracle {
    /// Of what roll-backs have undone nothing wins.
    pub fn without(undone: Vec<Undone>) -> Self {
        Self { undone, ..Self::default() }
    }

    /// One record of a region's own change topic.
    pub fn take(&mut self, record: &RawRecord, workload: &Workload, rules: &Rules) {
        match demand(record, true, workload, rules) {
            Demand::Held(made) => {
                self.admitted += 1;
                self.rekeyed.extend(record.value.clone());
                for (index, _) in self.undone.iter().enumerate().filter(|(_, undone)| undone.is_after(made)) {
                    keep_greater(&mut self.before, (made.key.clone(), index), made);
                }
                if !self.undone.iter().any(|undone| undone.contains(made)) {
                    keep_greater(&mut self.winners, made.key.clone(), made);
                }
            }
            Demand::Rekeyed => {
                if let Some(value) = &record.value {
                    self.astray.insert(value.clone(), format!("{}[{}] {}", record.topic, record.partition, record.offset));
                }
            }
            // Appended again, and refused there.
            Demand::DeadLetter(_) | Demand::Either => self.rekeyed.extend(record.value.clone()),
            Demand::Nothing => {}
        }
    }

    /// A row whose greatest change was undone has its winner's content under a later version; no other row has.
    fn is_rolled_back(&self, key: &RowKey) -> bool {
        let of_row = |index| self.before.get(&(key.clone(), index));
        self.undone.iter().enumerate().any(|(index, undone)| of_row(index).is_some_and(|made| undone.contains(made)))
    }

    fn has_won(&self, made: &Made, row: &StoredRow) -> bool {
        let version = row.version == made.version || row.version > made.version && self.is_rolled_back(&made.key);
        version && row.vector == made.vector
    }

    /// Every change that had no good key was appended again.
    pub fn verify_rekeyed(&self, now: Duration, violations: &Violations) {
        for (value, place) in &self.astray {
            if !self.rekeyed.contains(value) {
                violations.add("nothing lost", now, format!("{place} was not appended again under its own key"));
            }
        }
    }
}

fn keep_greater<K: Ord>(kept: &mut BTreeMap<K, Made>, key: K, made: &Made) {
    let greater = |held: &Made| (&held.version, held.hash) >= (&made.version, made.hash);
    if !kept.get(&key).is_some_and(greater) {
        kept.insert(key, made.clone());
    }
}

/// One region to be looked at.
pub(in crate::testing::sim) struct Region<'a> {
    pub index: usize,
    pub name: &'a str,
    pub broker: &'a Broker,
    pub database: &'a Database,
    /// Rows of somebody else that are too young to be deleted.
    pub spared: &'a BTreeSet<RowKey>,
}

pub(in crate::testing::sim) fn verify(
    now: Duration,
    region: &Region<'_>,
    oracle: &Oracle,
    names: &TopicNames,
    workload: &Workload,
    rules: &Rules,
    violations: &Violations,
) {
    let collections = crate::testing::sim::workload::collections();
    verify_rows(now, region, oracle, &collections, workload, violations);
    verify_entries(now, region, oracle, names, &collections, workload, rules, violations);
}

fn verify_rows(
    now: Duration,
    region: &Region<'_>,
    oracle: &Oracle,
    collections: &Collections,
    workload: &Workload,
    violations: &Violations,
) {
    let name = region.name;
    for (collection, _) in collections.iter() {
        let mut rows = region.database.scan(collection);
        for (key, made) in oracle.winners.iter().filter(|(key, _)| key.collection == collection) {
            let row = rows.remove(&key.id);
            let wanted = !made.delete && !workload.is_refused(region.index, key);
            match row {
                Some(row) if wanted && !oracle.has_won(made, &row) => {
                    let detail = format!("region {name}: {key:?} is {}, must be {}", row.version, made.version);
                    violations.add("winner correct", now, detail);
                }
                Some(_) if wanted => {}
                Some(row) => {
                    violations.add(
                        "winner correct",
                        now,
                        format!("region {name}: {key:?} is {}, must not be there ({})", row.version, made.version),
                    );
                }
                None if wanted => {
                    violations.add("nothing lost", now, format!("region {name}: {key:?} is missing ({})", made.version))
                }
                None => {}
            }
        }
        let spared = |id: &VectorId| region.spared.contains(&RowKey { collection, id: id.clone() });
        refuse_strangers(now, name, collection, rows.keys().filter(|id| !spared(id)), violations);
    }
}

fn refuse_strangers<'a>(
    now: Duration,
    name: &str,
    collection: CollectionId,
    ids: impl Iterator<Item = &'a VectorId>,
    violations: &Violations,
) {
    for id in ids {
        violations.add(
            "winner correct",
            now,
            format!("region {name}: nobody ever wrote row {id} of collection {}", collection.0),
        );
    }
}

#[allow(clippy::too_many_arguments, reason = "it is everything that there is to compare")]
fn verify_entries(
    now: Duration,
    region: &Region<'_>,
    oracle: &Oracle,
    names: &TopicNames,
    collections: &Collections,
    workload: &Workload,
    rules: &Rules,
    violations: &Violations,
) {
    let name = region.name;
    let last = last_records(region.broker, &names.versions_changelog(0), rules.partitions);
    let vectors = last_records(region.broker, &names.vectors_changelog(0), rules.partitions);
    for (key, made) in oracle.winners.iter().filter(|(key, _)| !oracle.is_rolled_back(key)) {
        let bytes = row_key::encode(key, collections);
        let found = last.get(&bytes);
        let Some(value) = found.and_then(|record| record.value.as_ref()) else {
            // Forgotten, by a null that compaction may have removed.
            if !made.delete {
                violations.add("nothing lost", now, format!("region {name}: no entry of {key:?} ({})", made.version));
            }
            continue;
        };
        match Entry::decode(value) {
            Ok(entry) => {
                let refused = workload.is_refused(region.index, key) && !made.delete;
                let wanted: (&Version, ContentHash, bool, bool) = (&made.version, made.hash, made.delete, refused);
                if (&entry.version, entry.content_hash, entry.tombstone, entry.refused) != wanted {
                    violations.add(
                        "winner correct",
                        now,
                        format!("region {name}: the entry of {key:?} is {entry:?}, must be {wanted:?}"),
                    );
                }
            }
            Err(error) => violations.add("winner correct", now, format!("region {name}: the entry of {key:?}: {error}")),
        }
        let vector = vectors.get(&bytes).and_then(|record| record.value.as_ref());
        if vector.is_none_or(|value| *value != *made.value()) {
            violations.add(
                "nothing lost",
                now,
                format!("region {name}: the change of {key:?} is not the last in the vectors changelog"),
            );
        }
    }
}

/// The last record of each key: what compaction keeps.
fn last_records(broker: &Broker, topic: &std::sync::Arc<str>, partitions: i32) -> BTreeMap<Vec<u8>, RawRecord> {
    let mut last = BTreeMap::new();
    for partition in 0..partitions {
        let at = TopicPartition::new(topic.clone(), partition);
        let read = broker.bounds(&at).and_then(|bounds| {
            broker.read(&at, bounds.first, usize::MAX, |record| {
                if let Some(key) = record.key.clone() {
                    last.insert(key.to_vec(), record);
                }
            })
        });
        // A changelog that is not there holds nothing: its rows will be missed.
        if read.is_err() {
            continue;
        }
    }
    last
}

//! What must never be seen, each property in a file of its own. A region's checkers hear of everything that
//! happens to its log and its vector store, at the moment it happens, and believe nothing that a worker says.

mod buffers;
pub(super) mod content;
pub(super) mod dead_letters;
mod durable;
mod foreign;
mod frontier;
mod key_order;
mod progress;
mod standby;
pub(super) mod undone;

use super::trace::Violations;
use super::workload::{Made, Meaning, Workload};
use crate::adapter::embedded::broker::Broker;
use crate::base::ids::{CollectionId, Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::port::log::Append;
use crate::port::vector::RowBatch;
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::region::partitioner::partition_for_key;
use crate::region::topics::TopicNames;
use std::sync::Arc;
use std::time::Duration;

pub(super) use buffers::Limits;

/// One region's checkers.
pub(super) struct RegionChecks {
    names: TopicNames,
    key_order: key_order::KeyOrder,
    durable: durable::Durable,
    pub progress: progress::ProgressChecks,
    pub standby: standby::StandbyChecks,
    frontier: frontier::FrontierChecks,
    pub foreign: foreign::ForeignRows,
}

/// What a record asks of the region that has read it, decided from its bytes, its key and its append time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand<'a> {
    /// It, or a greater one, holds its row key.
    Held(&'a Made),
    DeadLetter(crate::record::reason::Reason),
    /// As its flaw counts only if it wins: either of the two, or neither.
    Either,
    /// Appended again under its own key, by the region where it was written.
    Rekeyed,
    Nothing,
}

/// Bounds of admission: the arithmetic of DESIGN 4, written here once more on purpose.
const EARLY_MS_MAX: i64 = 60_000;

/// Judges a record of a change topic. `own`: it was read from the topic of the region where it was written.
pub(super) fn demand<'a>(record: &RawRecord, own: bool, workload: &'a Workload, rules: &Rules) -> Demand<'a> {
    use super::workload::Flaw;
    use crate::record::reason::Reason;
    let made = match workload.meaning(record.value.as_ref()) {
        Meaning::Ours => return Demand::Nothing,
        Meaning::NullValue => return Demand::DeadLetter(Reason::NullValue),
        Meaning::Change(made) => made,
    };
    if let Some(Flaw::Always(reason)) = made.flaw {
        return Demand::DeadLetter(reason);
    }
    let lateness_ms = record.appended_at.0 - (made.version.hlc.0 >> 16) as i64;
    let admission = if lateness_ms < -EARLY_MS_MAX {
        Some(Reason::Early)
    } else if lateness_ms > rules.max_lateness_ms {
        Some(Reason::Late)
    } else {
        None
    };
    let keyed = record.key.as_ref() == Some(&made.record_key)
        && record.partition == partition_for_key(&made.record_key, rules.partitions);
    match (keyed, own, admission) {
        (_, _, Some(reason)) => Demand::DeadLetter(reason),
        (false, true, _) => Demand::Rekeyed,
        (false, false, _) => Demand::Nothing,
        _ if made.flaw == Some(Flaw::IfItWins) => Demand::Either,
        _ => Demand::Held(made),
    }
}

/// What all regions agree on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub max_lateness_ms: i64,
    pub partitions: i32,
}

impl RegionChecks {
    pub fn new(names: TopicNames, collections: Arc<Collections>, max_lateness_ms: i64, violations: Violations) -> Self {
        Self {
            key_order: key_order::KeyOrder::new(violations.clone()),
            durable: durable::Durable::new(names.clone(), collections.clone(), violations.clone()),
            standby: standby::StandbyChecks::new(collections, violations.clone()),
            progress: progress::ProgressChecks::new(violations.clone()),
            frontier: frontier::FrontierChecks::new(violations.clone()),
            foreign: foreign::ForeignRows::new(max_lateness_ms, violations),
            names,
        }
    }

    /// A worker sends a batch to the vector store.
    pub fn batch_sent(&mut self, now: Duration, worker: u64, token: u64, collection: CollectionId, batch: &RowBatch) {
        self.key_order.batch_sent(now, worker, token, collection, batch);
    }

    pub fn answered(&mut self, worker: u64, token: u64) {
        self.key_order.answered(worker, token);
    }

    /// The vector store has carried out a batch.
    pub fn row_landed(&mut self, now: Duration, collection: CollectionId, batch: &RowBatch) {
        self.durable.rows_landed(collection, batch);
        self.foreign.rows_landed(now, collection, batch);
    }

    /// A worker's append is in the log.
    pub fn appended(&mut self, now: Duration, append: &Append, offset: i64) {
        self.durable.appended(now, append, offset);
        if append.to.topic == self.names.versions_changelog(0) {
            self.progress.appended(now, append);
            self.standby.appended(append, offset);
        }
    }

    pub fn offsets_committed(&mut self, now: Duration, offsets: &[(TopicPartition, i64)]) {
        self.progress.offsets_committed(now, offsets);
    }

    pub fn topic_recreated(&mut self, topic: &Arc<str>) {
        self.progress.recreated(topic);
    }

    pub fn broker_clock_set_back(&mut self, origin: usize, partitions: i32, from: UnixMs) {
        self.frontier.clock_set_back(origin, partitions, from);
    }

    /// Up to where a source is settled, as the progress records have it.
    pub fn settled_durably(&self, at: &TopicPartition) -> i64 {
        self.progress.settled(at)
    }

    /// Holds the progress records written since the last call against this region's topics and every origin's.
    pub fn verify_progress(&mut self, own: usize, regions: &[(Region, Arc<Broker>)], workload: &Workload, rules: &Rules) {
        let records = self.progress.verify(&regions[own].1, workload, &self.durable, rules);
        for (now, source) in records.iter().flat_map(|(now, progress)| progress.sources.iter().map(move |source| (*now, source)))
        {
            let origin = match source.topic.split_once('.') {
                None => Some(own),
                Some((alias, _)) => regions.iter().position(|(name, _)| name.as_str() == alias),
            };
            // Between the re-creation of a mirror and the next check nobody can know that records were passed over.
            let recreated = self.progress.is_recreated(&source.topic);
            let Some((origin, frontier)) = origin.zip(source.frontier).filter(|_| !recreated) else { continue };
            let local = TopicPartition::new(self.names.local(0), source.partition);
            let place = frontier::Place { origin, log: &regions[origin].1, local: &local };
            self.frontier.verify(now, &place, frontier, workload, &self.durable, rules);
        }
    }
}

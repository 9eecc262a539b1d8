//! Rows that nobody wrote are deleted once they lie below the floor, and not before, since a change that they come from
//! may still be on its way; and those that are stamped so far ahead that no change can be. What may have been written
//! before the regions began, of which they know nothing, is left alone.

use crate::base::ids::{CollectionId, RowKey};
use crate::merge::hlc::Hlc;
use crate::port::vector::RowBatch;
use crate::region::partitioner::partition_for_key;
use crate::testing::sim::clock::EPOCH_MS;
use crate::testing::sim::trace::Violations;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Further than this no broker's clock is ahead of the timeline.
const BROKER_SKEW_MS: i64 = 20_000;
const EARLY_MS_MAX: i64 = 60_000;
/// Stamps that are further ahead no change has, by no clock of the simulation.
const AHEAD_MS_MAX: i64 = 3_600_000;
/// Within so much of the beginning every partition has taken its first record of every origin.
const FIRST_TAKEN_MS: i64 = 25_000;

pub(in crate::testing::sim) struct ForeignRows {
    violations: Violations,
    max_lateness_ms: i64,
    rows: HashMap<RowKey, Hlc>,
}

impl ForeignRows {
    pub fn new(max_lateness_ms: i64, violations: Violations) -> Self {
        Self { violations, max_lateness_ms, rows: HashMap::new() }
    }

    pub fn put(&mut self, key: RowKey, hlc: Hlc) {
        self.rows.insert(key, hlc);
    }

    /// A row has been written over.
    pub fn written_over(&mut self, key: &RowKey, hlc: Hlc) {
        if let Some(held) = self.rows.get_mut(key) {
            *held = hlc;
        }
    }

    pub fn rows_landed(&mut self, now: Duration, collection: CollectionId, batch: &RowBatch) {
        // However far everything is settled, no floor is above this.
        let highest_ms = EPOCH_MS + now.as_millis() as i64 + BROKER_SKEW_MS - self.max_lateness_ms - EARLY_MS_MAX;
        for id in &batch.deletes {
            let Some(hlc) = self.rows.remove(&RowKey { collection, id: id.clone() }) else { continue };
            if hlc.wall().0 >= highest_ms && !is_ahead(hlc, now) {
                let ahead_ms = hlc.wall().0 - highest_ms;
                let detail = format!("row {id} was deleted although its stamp is {ahead_ms} ms above any floor");
                self.violations.add("floor", now, detail);
            }
            if hlc.wall().0 < EPOCH_MS + EARLY_MS_MAX - BROKER_SKEW_MS {
                let detail = format!("row {id} was deleted although it may be older than all that was ever read here");
                self.violations.add("floor", now, detail);
            }
        }
    }

    /// Those of which a change might have come, by their partition's floor at the time, or been there before.
    pub fn spared(&self, now: Duration, floors: Option<&HashMap<i32, i64>>, partitions: i32) -> BTreeSet<RowKey> {
        let is_spared = |key: &RowKey, hlc: &Hlc| {
            let partition = partition_for_key(key.id.to_string().as_bytes(), partitions);
            let floor_ms = floors.and_then(|floors| floors.get(&partition));
            let before = hlc.wall().0 < EPOCH_MS + EARLY_MS_MAX + FIRST_TAKEN_MS;
            floor_ms.is_none_or(|floor_ms| before || hlc.wall().0 >= *floor_ms && !is_ahead(*hlc, now))
        };
        self.rows.iter().filter(|(key, hlc)| is_spared(key, hlc)).map(|(key, _)| key.clone()).collect()
    }
}

fn is_ahead(hlc: Hlc, now: Duration) -> bool {
    hlc.wall().0 - (EPOCH_MS + now.as_millis() as i64) > AHEAD_MS_MAX
}

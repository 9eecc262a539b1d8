//! Rows that nobody wrote are deleted once they lie below the floor, and never before: a change that they come from may
//! still be on its way.

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

    pub fn rows_landed(&mut self, now: Duration, collection: CollectionId, batch: &RowBatch) {
        // However far everything is settled, no floor is above this.
        let highest_ms = EPOCH_MS + now.as_millis() as i64 + BROKER_SKEW_MS - self.max_lateness_ms - EARLY_MS_MAX;
        for id in &batch.deletes {
            let Some(hlc) = self.rows.remove(&RowKey { collection, id: id.clone() }) else { continue };
            if hlc.wall().0 >= highest_ms {
                let ahead_ms = hlc.wall().0 - highest_ms;
                let detail = format!("row {id} was deleted although its stamp is {ahead_ms} ms above any floor");
                self.violations.add("floor", now, detail);
            }
        }
    }

    /// Those that were not below their partition's floor.
    pub fn spared(&self, floors: Option<&HashMap<i32, i64>>, partitions: i32) -> BTreeSet<RowKey> {
        let is_spared = |key: &RowKey, hlc: &Hlc| {
            let partition = partition_for_key(key.id.to_string().as_bytes(), partitions);
            floors.and_then(|floors| floors.get(&partition)).is_none_or(|floor_ms| hlc.wall().0 >= *floor_ms)
        };
        self.rows.iter().filter(|(key, hlc)| is_spared(key, hlc)).map(|(key, _)| key.clone()).collect()
    }
}

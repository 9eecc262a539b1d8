//! The frontier is honest: what a region says to be settled up to A of an origin includes every record that the
//! origin's log took before A. Lag is computed from it.

use super::{Demand, Rules, demand, durable::Durable};
use crate::adapter::embedded::broker::Broker;
use crate::base::ids::TopicPartition;
use crate::base::time::UnixMs;
use crate::testing::sim::trace::Violations;
use crate::testing::sim::workload::Workload;
use std::collections::HashMap;
use std::time::Duration;

struct Walk {
    next: i64,
    greatest: UnixMs,
}

/// The region whose changes a frontier is about: its own Kafka, and a partition of its change topic there.
pub(super) struct Place<'a> {
    pub origin: usize,
    pub log: &'a Broker,
    pub local: &'a TopicPartition,
}

pub(in crate::testing::sim) struct FrontierChecks {
    violations: Violations,
    /// How far each origin's own topic was walked, by region and partition.
    walks: HashMap<(usize, i32), Walk>,
}

impl FrontierChecks {
    pub fn new(violations: Violations) -> Self {
        Self { violations, walks: HashMap::new() }
    }

    /// An origin's broker is set back from this time: what comes may be older than what was there before.
    pub fn clock_set_back(&mut self, origin: usize, partitions: i32, from: UnixMs) {
        for partition in 0..partitions {
            let walk = self.walks.entry((origin, partition)).or_insert(Walk { next: 0, greatest: from });
            walk.greatest = walk.greatest.max(from);
        }
    }

    pub fn verify(
        &mut self,
        now: Duration,
        place: &Place<'_>,
        frontier: UnixMs,
        workload: &Workload,
        durable: &Durable,
        rules: &Rules,
    ) {
        let Place { origin, log, local } = *place;
        let walk = self.walks.entry((origin, local.partition)).or_insert(Walk { next: 0, greatest: UnixMs(i64::MIN) });
        let Ok(bounds) = log.bounds(local) else { return };
        walk.next = walk.next.max(bounds.first);
        let (mut passed, mut missing) = (false, None);
        let visited = log.read(local, walk.next, usize::MAX, |record| {
            if passed || record.appended_at >= frontier {
                passed = true;
                return;
            }
            walk.next = record.offset + 1;
            // The origin's clock was set back: such a record comes after later ones.
            let in_order = record.appended_at >= walk.greatest;
            walk.greatest = walk.greatest.max(record.appended_at);
            if in_order
                && let Demand::Held(made) = demand(&record, false, workload, rules)
                && !durable.holds(&made.key, &made.version, made.hash)
            {
                missing.get_or_insert(record.offset);
            }
        });
        if let (Ok(_), Some(offset)) = (visited, missing) {
            let detail =
                format!("the frontier of region {origin} is {frontier}; {local} {offset} was appended before and is not settled");
            self.violations.add("frontier", now, detail);
        }
    }
}

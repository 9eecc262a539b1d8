//! INV-4: a progress record never runs ahead of what is acknowledged, and the offsets committed for tools never
//! ahead of the progress records.

use super::{Demand, Rules, demand, durable::Durable};
use crate::adapter::embedded::broker::Broker;
use crate::base::ids::TopicPartition;
use crate::port::log::Append;
use crate::store::progress::{PROGRESS_KEY, Progress};
use crate::testing::sim::trace::Violations;
use crate::testing::sim::workload::Workload;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

pub(in crate::testing::sim) struct ProgressChecks {
    violations: Violations,
    /// Written and not yet held against the topics.
    unchecked: Vec<(Duration, Progress)>,
    /// The greatest settled offset that a progress record has told.
    settled: HashMap<TopicPartition, i64>,
    /// Up to where a source was looked through.
    checked: HashMap<TopicPartition, i64>,
    /// Topics that were created again: offsets before and after say nothing about each other.
    recreated: HashSet<std::sync::Arc<str>>,
}

impl ProgressChecks {
    pub fn new(violations: Violations) -> Self {
        Self { violations, unchecked: Vec::new(), settled: HashMap::new(), checked: HashMap::new(), recreated: HashSet::new() }
    }

    pub fn recreated(&mut self, topic: &std::sync::Arc<str>) {
        self.recreated.insert(topic.clone());
    }

    pub fn is_recreated(&self, topic: &str) -> bool {
        self.recreated.contains(topic)
    }

    pub fn settled(&self, at: &TopicPartition) -> i64 {
        self.settled.get(at).copied().unwrap_or(0)
    }

    pub fn appended(&mut self, now: Duration, append: &Append) {
        if append.key.as_deref() != Some(PROGRESS_KEY.as_bytes()) {
            return;
        }
        match Progress::decode(append.value.as_deref().unwrap_or_default()) {
            Ok(progress) => {
                for source in &progress.sources {
                    let at = TopicPartition::new(source.topic.as_str(), source.partition);
                    let settled = self.settled.entry(at).or_default();
                    *settled = source.next_offset.max(*settled);
                }
                self.unchecked.push((now, progress));
            }
            Err(error) => self.violations.add("progress", now, format!("a progress record can't be read: {error}")),
        }
    }

    pub fn offsets_committed(&mut self, now: Duration, offsets: &[(TopicPartition, i64)]) {
        for (at, offset) in offsets {
            let settled = self.settled.get(at).copied().unwrap_or(0);
            if *offset > settled && !self.recreated.contains(&at.topic) {
                self.violations.add("progress", now, format!("offset {offset} of {at} is committed, settled is {settled}"));
            }
        }
    }

    /// Progress records since the last call, to be looked at once more by the frontier's checker.
    pub fn verify(
        &mut self,
        broker: &Broker,
        workload: &Workload,
        durable: &Durable,
        rules: &Rules,
    ) -> Vec<(Duration, Progress)> {
        let records = std::mem::take(&mut self.unchecked);
        for (now, progress) in &records {
            for source in &progress.sources {
                let at = TopicPartition::new(source.topic.as_str(), source.partition);
                if !self.recreated.contains(&at.topic) {
                    self.verify_source(*now, &at, source.next_offset, broker, workload, durable, rules);
                }
            }
        }
        records
    }

    #[allow(clippy::too_many_arguments, reason = "it is everything that there is to compare")]
    fn verify_source(
        &mut self,
        now: Duration,
        at: &TopicPartition,
        next_offset: i64,
        broker: &Broker,
        workload: &Workload,
        durable: &Durable,
        rules: &Rules,
    ) {
        let checked = self.checked.entry(at.clone()).or_default();
        let Ok(bounds) = broker.bounds(at) else { return };
        let from = (*checked).max(bounds.first);
        if next_offset <= from {
            return;
        }
        *checked = next_offset;
        let mut found = Vec::new();
        let own = !at.topic.contains('.');
        let read = broker.read(at, from, (next_offset - from) as usize, |record| {
            if record.offset < next_offset && !is_done(&demand(&record, own, workload, rules), at, &record, durable) {
                found.push(record.offset);
            }
        });
        if let Err(error) = read {
            self.violations.add("progress", now, format!("{at} is settled up to {next_offset}: {error}"));
        }
        if let Some(first) = found.first() {
            let detail = format!("{at} is said to be settled up to {next_offset}; {first} is not ({} in all)", found.len());
            self.violations.add("progress", now, detail);
        }
    }
}

/// Has the region done what the record asks for, so that it may be settled?
pub(super) fn is_done(
    demand: &Demand<'_>,
    at: &TopicPartition,
    record: &crate::record::raw::RawRecord,
    durable: &Durable,
) -> bool {
    match demand {
        Demand::Held(made) => durable.holds(&made.key, &made.version, made.hash) || durable.is_dead_letter(at, record.offset),
        Demand::DeadLetter(_) => durable.is_dead_letter(at, record.offset),
        Demand::Rekeyed => record.value.as_ref().is_some_and(|value| durable.is_rekeyed(value)),
        Demand::Either | Demand::Nothing => true,
    }
}

//! A task's counters: the metrics that Prometheus sees, and the same totals as plain numbers for whoever holds
//! the thread (the demo's view, `/tasks`, tests).

use crate::base::ids::Region;
use crate::base::metric;
use crate::record::collection::Collections;
use crate::record::reason::Reason;
use crate::task::lag::Stage;
use metrics::{Counter, Histogram, counter, histogram};
use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds, in ms, of the classes of [`Latencies`]; the last class has none.
pub const LATENCY_BOUNDS_MS: [u64; 12] = [5, 10, 20, 40, 60, 100, 150, 300, 1_000, 3_000, 10_000, 60_000];

/// Applied rows by how long they took from the origin's append to the vector store's acknowledgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Latencies(pub [u64; LATENCY_BOUNDS_MS.len() + 1]);

impl Latencies {
    fn count(&mut self, latency: Duration) {
        let class = LATENCY_BOUNDS_MS.partition_point(|bound| u128::from(*bound) < latency.as_millis());
        self.0[class] += 1;
    }

    fn add(&mut self, other: &Latencies) {
        for (class, count) in self.0.iter_mut().zip(other.0) {
            *class += count;
        }
    }
}

/// What became of the records of one source. In the end every winner is applied, coalesced, or refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceTotals {
    pub polled: u64,
    /// By verdict: winner, duplicate, stale, conflict, twin, below-floor, mis-keyed, rekeyed, heartbeat, …
    pub verdicts: BTreeMap<&'static str, u64>,
    /// By reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Rows that the vector store has acknowledged, without re-assertions.
    pub applied: u64,
    pub latencies: Latencies,
    /// Winners that were never sent: a newer one of the same key came while they waited.
    pub coalesced: u64,
}

impl SourceTotals {
    fn add(&mut self, other: &SourceTotals) {
        self.polled += other.polled;
        self.applied += other.applied;
        self.latencies.add(&other.latencies);
        self.coalesced += other.coalesced;
        for (word, count) in &other.verdicts {
            *self.verdicts.entry(word).or_default() += count;
        }
        for (code, count) in &other.dead_letters {
            *self.dead_letters.entry(code).or_default() += count;
        }
    }

    pub fn verdict(&self, word: &str) -> u64 {
        self.verdicts.get(word).copied().unwrap_or(0)
    }
}

/// Totals since the task began its life.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    pub sources: BTreeMap<Region, SourceTotals>,
    /// Rows written once more to undo a late write: no source's doing.
    pub reasserted: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.reasserted += other.reasserted;
        for (region, source) in &other.sources {
            self.sources.entry(region.clone()).or_default().add(source);
        }
    }

    /// All sources together.
    pub fn whole(&self) -> SourceTotals {
        let mut whole = SourceTotals::default();
        for source in self.sources.values() {
            whole.add(source);
        }
        whole
    }

    pub fn verdict(&self, word: &str) -> u64 {
        self.sources.values().map(|source| source.verdict(word)).sum()
    }

    pub fn polled(&self) -> u64 {
        self.sources.values().map(|source| source.polled).sum()
    }

    pub fn applied(&self) -> u64 {
        self.sources.values().map(|source| source.applied).sum()
    }

    pub fn coalesced(&self) -> u64 {
        self.sources.values().map(|source| source.coalesced).sum()
    }
}

struct SourceMetrics {
    /// Without the verdicts, which are counted beside what Prometheus sees of them.
    totals: SourceTotals,
    polled: Counter,
    gaps: Counter,
    heartbeat: Histogram,
    apply: Histogram,
    verdicts: Vec<(&'static str, u64, Counter)>,
    region: Region,
}

impl SourceMetrics {
    fn name(&self) -> String {
        self.region.to_string()
    }
}

struct CollectionMetrics {
    upserts: Counter,
    deletes: Counter,
    reasserted: Counter,
    coalesced: Counter,
    write: Histogram,
    rows: Histogram,
    name: String,
}

pub struct TaskMetrics {
    reasserted: u64,
    sources: Vec<SourceMetrics>,
    collections: Vec<CollectionMetrics>,
    pub commits: Counter,
    pub commit: Histogram,
    pub heartbeats: Counter,
    pub zombie_appends: Counter,
    pub tombstones_forgotten: Counter,
}

/// What alerts look for an increase of must have been seen before it increases.
fn show_at_zero(source: &str) {
    counter!(metric::SOURCE_REPLAYS, "source" => source.to_owned()).increment(0);
    for reason in Reason::ALL {
        counter!(metric::DEAD_LETTERS, "source" => source.to_owned(), "reason" => reason.code()).increment(0);
    }
}

impl TaskMetrics {
    pub fn new(sources: &[Region], collections: &Collections) -> Self {
        let apply = |source: &str, stage: Stage| histogram!(metric::APPLY_SECONDS, "source" => source.to_owned(), "stage" => stage.name());
        let sources = sources.iter().map(|region| {
            let name = region.to_string();
            show_at_zero(&name);
            SourceMetrics {
                totals: SourceTotals::default(),
                polled: counter!(metric::RECORDS_POLLED, "source" => name.clone()),
                gaps: counter!(metric::REPLICATION_GAPS, "source" => name.clone()),
                heartbeat: apply(&name, Stage::Polled),
                apply: apply(&name, Stage::Acknowledged),
                verdicts: Vec::new(),
                region: region.clone(),
            }
        });
        let collections = collections.iter().map(|(_, spec)| {
            let rows = |op: &'static str| counter!(metric::SINK_ROWS, "collection" => spec.name.clone(), "op" => op);
            CollectionMetrics {
                upserts: rows("upsert"),
                deletes: rows("delete"),
                reasserted: counter!(metric::SINK_REASSERTED_ROWS, "collection" => spec.name.clone()),
                coalesced: counter!(metric::SINK_COALESCED, "collection" => spec.name.clone()),
                write: histogram!(metric::SINK_WRITE_SECONDS, "collection" => spec.name.clone()),
                rows: histogram!(metric::SINK_BATCH_ROWS, "collection" => spec.name.clone()),
                name: spec.name.clone(),
            }
        });
        Self {
            reasserted: 0,
            sources: sources.collect(),
            collections: collections.collect(),
            commits: counter!(metric::COMMITS),
            commit: histogram!(metric::COMMIT_SECONDS),
            heartbeats: counter!(metric::HEARTBEATS),
            zombie_appends: counter!(metric::ZOMBIE_APPENDS),
            tombstones_forgotten: counter!(metric::TOMBSTONES_FORGOTTEN),
        }
    }

    pub fn totals(&self) -> Totals {
        let sources = self.sources.iter().map(|source| {
            let verdicts = source.verdicts.iter().map(|(word, count, _)| (*word, *count)).collect();
            (source.region.clone(), SourceTotals { verdicts, ..source.totals.clone() })
        });
        Totals { sources: sources.collect(), reasserted: self.reasserted }
    }

    pub fn polled(&mut self, source: usize) {
        let source = &mut self.sources[source];
        source.totals.polled += 1;
        source.polled.increment(1);
    }

    /// A heartbeat has come; `delay` is what it took from its origin's append.
    pub fn heartbeat_polled(&self, source: usize, delay: Duration) {
        self.sources[source].heartbeat.record(delay);
    }

    pub fn replication_gap(&self, source: usize) {
        self.sources[source].gaps.increment(1);
    }

    pub fn verdict(&mut self, source: usize, word: &'static str) {
        let source = &mut self.sources[source];
        if let Some((_, count, counter)) = source.verdicts.iter_mut().find(|(known, ..)| *known == word) {
            *count += 1;
            counter.increment(1);
            return;
        }
        let counter = counter!(metric::VERDICTS, "source" => source.name(), "verdict" => word);
        counter.increment(1);
        source.verdicts.push((word, 1, counter));
    }

    pub fn dead_letter(&mut self, source: usize, reason: Reason) {
        let source = &mut self.sources[source];
        *source.totals.dead_letters.entry(reason.code()).or_default() += 1;
        counter!(metric::DEAD_LETTERS, "source" => source.name(), "reason" => reason.code()).increment(1);
    }

    /// A row that the scrubber has looked at, by what it was found to be.
    pub fn scrubbed(&self, collection: usize, finding: &'static str) {
        let name = self.collections[collection].name.clone();
        counter!(metric::SCRUB_ROWS, "collection" => name, "finding" => finding).increment(1);
    }

    pub fn applied(&mut self, source: usize, collection: usize, delete: bool, latency: Duration) {
        let totals = &mut self.sources[source].totals;
        totals.applied += 1;
        totals.latencies.count(latency);
        let collection = &self.collections[collection];
        if delete {
            collection.deletes.increment(1)
        } else {
            collection.upserts.increment(1)
        }
        self.sources[source].apply.record(latency);
    }

    pub fn reasserted(&mut self, collection: usize) {
        self.reasserted += 1;
        self.collections[collection].reasserted.increment(1);
    }

    /// `source` is the one that brought the winner which is not sent.
    pub fn coalesced(&mut self, source: usize, collection: usize) {
        self.sources[source].totals.coalesced += 1;
        self.collections[collection].coalesced.increment(1);
    }

    pub fn batch(&self, collection: usize, rows: usize, took: Duration) {
        let collection = &self.collections[collection];
        collection.rows.record(rows as f64);
        collection.write.record(took);
    }

    /// A batch's outcome: acknowledged, halved, refused or retried.
    pub fn batch_outcome(&self, collection: usize, outcome: &'static str) {
        let name = self.collections[collection].name.clone();
        counter!(metric::SINK_BATCHES, "collection" => name, "outcome" => outcome).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_two_tasks_add_up_by_source_and_name_it_in_json() {
        let (us, eu) = (Region::new("us"), Region::new("eu"));
        let mut task = TaskMetrics::new(&[us.clone(), eu.clone()], &Collections::new(Vec::new()));
        task.verdict(0, "stale");
        task.verdict(1, "stale");
        task.verdict(1, "winner");
        task.dead_letter(1, Reason::Late);
        let mut totals = task.totals();
        totals.add(&task.totals());
        assert_eq!((totals.sources[&us].verdict("stale"), totals.sources[&eu].verdict("stale")), (2, 2));
        assert_eq!((totals.verdict("stale"), totals.verdict("winner")), (4, 2));
        assert_eq!(totals.whole().dead_letters, BTreeMap::from([("late", 2)]));
        let json = serde_json::to_value(&totals).expect("names and numbers");
        assert_eq!(json["sources"]["eu"]["verdicts"], serde_json::json!({ "stale": 2, "winner": 2 }));
    }
}

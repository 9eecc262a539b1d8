//! What a stream thread is doing, as plain data: for `/tasks`, the demo's view and tests.

use crate::base::ids::Region;
use crate::base::ids::TaskId;
use crate::base::metric;
use crate::base::time::{Now, UnixMs};
use crate::record::collection::Collections;
use crate::store::progress::Gap;
use crate::stream::row_walk::WalkReport;
use crate::task::lag::{LagView, Stage, VISIBLE};
use crate::task::metrics::Totals;
use crate::task::scrub::ScrubReport;
use crate::task::stream_task::StreamTask;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, Default, Serialize)]
pub struct ThreadReport {
    /// The group has told this member what it has, be it nothing.
    pub joined: bool,
    /// All that this member was given at first has been restored. Before that, what it knows of its sources leaves out
    /// the backlog of those tasks that it knows nothing of yet.
    pub began: bool,
    pub tasks: Vec<TaskReport>,
    /// Of all tasks that this thread has held, ended ones included.
    pub totals: Totals,
    /// Of each thread, the share of its time that it was not waiting, lately.
    pub busy: Vec<f64>,
    /// Of each thread, its walk through the vector store's rows.
    pub walks: Vec<WalkReport>,
}

impl ThreadReport {
    /// Of each origin the oldest append time, in Unix ms, up to which a partition held here is settled.
    pub fn oldest_frontiers(&self) -> BTreeMap<String, i64> {
        let mut oldest = BTreeMap::new();
        for source in self.tasks.iter().flat_map(|task| &task.sources) {
            if let Some(frontier) = source.frontier_ms {
                let held = oldest.entry(source.region.clone()).or_insert(frontier);
                *held = frontier.min(*held);
            }
        }
        oldest
    }

    /// Those of several threads of one process as one.
    pub fn together(reports: Vec<ThreadReport>) -> Self {
        let (joined, began) = (reports.iter().all(|report| report.joined), reports.iter().all(|report| report.began));
        let mut whole = ThreadReport { joined, began, ..Self::default() };
        for report in reports {
            whole.totals.add(&report.totals);
            whole.tasks.extend(report.tasks);
            whole.walks.extend(report.walks);
            whole.busy.extend(report.busy);
        }
        whole.tasks.sort_by(|a, b| a.task.cmp(&b.task));
        whole
    }

    /// Reckons every lag for this moment: that of a thread that hangs has grown since it told of it. `unseen`: how long
    /// what the vector store has acknowledged is not found by readers, where that is known.
    pub fn reckon(&mut self, unseen: Option<Duration>, now: UnixMs) {
        for source in self.tasks.iter_mut().flat_map(|task| &mut task.sources) {
            source.reckon(unseen, now);
        }
    }

    fn of_region<'a>(&'a self, region: &'a str) -> impl Iterator<Item = &'a SourceReport> {
        self.tasks.iter().flat_map(|task| &task.sources).filter(move |source| source.region == region)
    }

    /// Of the worst partition; none while that is not known. A task that is restored here for the first time is behind
    /// by the time that it takes, at least.
    fn lag_ms(&self, region: &str, stage: &str) -> Option<i64> {
        let known = self.of_region(region).filter_map(|source| source.lag_ms.get(stage).copied()).max()?;
        let new_here = self.tasks.iter().filter(|task| task.sources.is_empty()).filter_map(|task| task.unserved_ms).max();
        self.began.then_some(known.max(new_here.unwrap_or(0)))
    }

    fn publish_lag(&self, region: &str) {
        for stage in Stage::ALL.map(Stage::name).into_iter().chain([VISIBLE]) {
            let gauge = metrics::gauge!(metric::APPLY_LAG_SECONDS, "source" => region.to_owned(), "stage" => stage);
            gauge.set(seconds_or_unknown(self.lag_ms(region, stage)));
        }
        let stalled_ms = self.of_region(region).map(|source| source.stalled_ms).max().unwrap_or(0);
        metrics::gauge!(metric::STALLED_SECONDS, "source" => region.to_owned()).set(stalled_ms as f64 / 1_000.0);
        let disagreements = self.of_region(region).map(|source| source.disagreements.len()).max().unwrap_or(0);
        metrics::gauge!(metric::CONFIGURATION_DISAGREEMENTS, "source" => region.to_owned()).set(disagreements as f64);
        let overdue = self.of_region(region).filter(|source| source.heartbeat_overdue).count();
        metrics::gauge!(metric::HEARTBEAT_OVERDUE_PARTITIONS, "source" => region.to_owned()).set(overdue as f64);
        let bounds = self.of_region(region).filter_map(|source| source.lag.skew);
        let ahead = bounds.reduce(|a, b| a.and(b).unwrap_or(b));
        for (bound, ms) in [("least", ahead.map(|ahead| ahead.least_ms)), ("most", ahead.map(|ahead| ahead.most_ms))] {
            let gauge = metrics::gauge!(metric::CLOCK_AHEAD_SECONDS, "origin" => region.to_owned(), "bound" => bound);
            gauge.set(seconds_or_unknown(ms));
        }
    }

    /// Sets the gauges, which stand for the process: to be called on the report of all its threads together, whose
    /// lags are [reckoned](ThreadReport::reckon) for now.
    pub fn publish_gauges(&self, collections: &Collections, regions: &[Region], now: UnixMs) {
        for region in regions {
            self.publish_lag(region.as_str());
        }
        metrics::gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        for (thread, busy) in self.busy.iter().enumerate() {
            metrics::gauge!(metric::THREAD_BUSY_RATIO, "thread" => thread.to_string()).set(*busy);
        }
        for state in ["restoring", "running", "draining"] {
            let count = self.tasks.iter().filter(|task| task.state == state).count();
            metrics::gauge!(metric::TASKS, "state" => state).set(count as f64);
        }
        let sum = |of: fn(&TaskReport) -> usize| self.tasks.iter().map(of).sum::<usize>() as f64;
        let incomplete = self.tasks.iter().filter(|task| !task.incomplete.is_empty()).count();
        metrics::gauge!(metric::INCOMPLETE_PARTITIONS).set(incomplete as f64);
        metrics::gauge!(metric::STORE_ENTRIES).set(sum(|task| task.entries));
        metrics::gauge!(metric::STORE_BYTES).set(sum(|task| task.store_bytes));
        let on_disk: u64 = self.tasks.iter().map(|task| task.store_disk_bytes).sum();
        metrics::gauge!(metric::STORE_DISK_BYTES).set(on_disk as f64);
        let remaining: i64 = self.tasks.iter().filter_map(|task| task.restore.as_ref()).map(|restore| restore.remaining).sum();
        metrics::gauge!(metric::RESTORE_REMAINING).set(remaining as f64);
        metrics::gauge!(metric::BUFFERED_BYTES).set(sum(|task| task.buffered_bytes));
        for (_, spec) in collections.iter() {
            let waiting: u64 = self.tasks.iter().filter_map(|task| task.parked.get(&spec.name)).sum();
            metrics::gauge!(metric::PARKED_CHANGES, "collection" => spec.name.clone()).set(waiting as f64);
        }
        let oldest = self.oldest_frontiers();
        for region in regions {
            let age_ms = oldest.get(region.as_str()).map(|frontier_ms| now.since_ms(UnixMs(*frontier_ms)).max(0));
            metrics::gauge!(metric::FRONTIER_AGE_SECONDS, "origin" => region.to_string()).set(seconds_or_unknown(age_ms));
        }
        self.publish_floor(regions, now);
        self.publish_scrub(now);
    }

    /// The lowest floor of the partitions held here, by the origin that holds it back. `None`: there is none yet.
    fn lowest_floor(&self) -> Option<(&str, Option<i64>)> {
        let floors = self.tasks.iter().filter_map(|task| Some((task.floor_held_by.as_deref()?, task.floor_ms)));
        floors.min_by_key(|(_, floor_ms)| *floor_ms)
    }

    fn publish_floor(&self, regions: &[Region], now: UnixMs) {
        let lowest = self.lowest_floor();
        for region in regions {
            let shown = match lowest {
                None => UNKNOWN,
                Some((holder, _)) if holder != region.as_str() => 0.0,
                Some((_, None)) => f64::INFINITY,
                Some((_, Some(floor_ms))) => now.since_ms(UnixMs(floor_ms)).max(0) as f64 / 1_000.0,
            };
            metrics::gauge!(metric::FLOOR_AGE_SECONDS, "origin" => region.to_string()).set(shown);
        }
    }

    fn publish_scrub(&self, now: UnixMs) {
        let running = self.tasks.iter().filter(|task| task.state == "running");
        let entries: Vec<(f64, f64, i64)> = running
            .map(|task| (task.scrub.share, task.entries as f64, task.scrub.ended_ms.unwrap_or(task.scrub.began_ms)))
            .collect();
        let rows: Vec<(f64, f64, i64)> = self
            .walks
            .iter()
            .filter(|walk| walk.began_ms > 0)
            .map(|walk| (walk.share, 1.0, walk.ended_ms.unwrap_or(walk.began_ms)))
            .collect();
        for (walk, shares) in [("entries", entries), ("rows", rows)] {
            let oldest_ms = shares.iter().map(|(_, _, ended_ms)| *ended_ms).min();
            let weight: f64 = shares.iter().map(|(_, weight, _)| weight).sum();
            let done: f64 = shares.iter().map(|(share, weight, _)| share * weight).sum();
            let share = if weight > 0.0 { done / weight } else { 1.0 };
            metrics::gauge!(metric::SCRUB_PROGRESS, "walk" => walk).set(if oldest_ms.is_some() { share } else { UNKNOWN });
            let age_ms = oldest_ms.map(|oldest_ms| now.since_ms(UnixMs(oldest_ms)).max(0));
            metrics::gauge!(metric::SCRUB_PASS_AGE_SECONDS, "walk" => walk).set(seconds_or_unknown(age_ms));
        }
    }

    /// It is a member of its group, and every task is restored and runs.
    pub fn is_ready(&self) -> bool {
        self.joined && self.tasks.iter().all(|task| task.state == "running")
    }

    /// Every source is settled up to `within` ago. A peer that says nothing is not waited for: that its region or the
    /// link is down must not keep this one's workers from being called ready.
    pub fn is_caught_up(&self, own: &str, within: Duration, now: UnixMs) -> bool {
        self.tasks.iter().all(|task| {
            task.sources.iter().all(|source| {
                let silent = source.region != own && source.heartbeat_overdue && source.lag.is_quiet(now);
                silent || task.lag_by_own_log_ms(source, own) <= within.as_millis() as i64
            })
        })
    }
}

/// What Prometheus takes for no number: it passes it over in sums and comparisons. A gauge that has been set can't be
/// taken back, and what it said of tasks that are elsewhere by now must not stand there for ever.
const UNKNOWN: f64 = f64::NAN;

fn seconds_or_unknown(ms: Option<i64>) -> f64 {
    ms.map_or(UNKNOWN, |ms| ms as f64 / 1_000.0)
}

#[derive(Debug, Clone, Serialize)]
pub struct TaskReport {
    pub task: String,
    pub partition: i32,
    /// restoring, running or draining.
    pub state: &'static str,
    /// While it is restoring and reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreReport>,
    /// While it is restoring: for how long it has been held and not been served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unserved_ms: Option<i64>,
    /// While it is restoring: as they were when it last ran here, if it did.
    pub sources: Vec<SourceReport>,
    /// Row keys known, tombstones included.
    pub entries: usize,
    pub store_bytes: usize,
    pub store_disk_bytes: u64,
    pub buffered_bytes: usize,
    pub in_flight: usize,
    /// By collection: changes passed over because the vector store does not take its rows, and not yet judged.
    pub parked: BTreeMap<String, u64>,
    /// Wall time of the floor, in Unix ms.
    pub floor_ms: Option<i64>,
    /// The origin that holds it back: of all the one of which least is settled.
    pub floor_held_by: Option<String>,
    pub scrub: ScrubReport,
    /// What was deleted from its sources before it was settled, in words; empty: it is complete.
    pub incomplete: Vec<String>,
    /// The peer that a resync brings it from.
    pub resync_from: Option<String>,
    /// None while it is restored.
    pub repair: Option<RepairReport>,
}

/// How far a restore has come, in offsets of the changelog, how fast it is, and how long it will still take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Where it began: after the log's first offset, a store was kept.
    pub from_offset: i64,
    pub next_offset: i64,
    pub end_offset: i64,
    pub remaining: i64,
    pub percent: u8,
    pub entries_read: u64,
    pub entries_per_second: u64,
    pub eta_seconds: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct SourceReport {
    pub region: String,
    pub topic: String,
    pub present: bool,
    /// The first offset that is not settled.
    pub next_offset: i64,
    /// Append time at the origin up to which all is settled, in Unix ms.
    pub frontier_ms: Option<i64>,
    pub open_records: usize,
    /// Append time of the oldest record polled and not settled, in Unix ms.
    pub oldest_open_ms: Option<i64>,
    /// By stage: how far behind its origin the source is. Empty: nothing was ever heard of it.
    pub lag_ms: BTreeMap<&'static str, i64>,
    /// How long nothing of it has settled although something waits.
    pub stalled_ms: i64,
    /// In what its region says that it is configured otherwise than this one.
    pub disagreements: Vec<String>,
    /// How often heartbeats have shown that something before them never came.
    pub gaps: u64,
    /// Its newest heartbeat is more than two intervals old.
    pub heartbeat_overdue: bool,
    /// By how much the origin's clock is ahead of ours, at least and at most.
    pub clock_ahead_ms: Option<[i64; 2]>,
    #[serde(skip)]
    pub lag: LagView,
}

/// What a resync brings comes by this topic: no region's, so it has no lag.
#[derive(Debug, Clone, Serialize)]
pub struct RepairReport {
    pub topic: String,
    /// The first offset that is not settled.
    pub next_offset: i64,
    pub open_records: usize,
}

impl SourceReport {
    fn reckon(&mut self, unseen: Option<Duration>, now: UnixMs) {
        let stages = Stage::ALL.iter().filter_map(|stage| Some((stage.name(), self.lag.lag_ms(*stage, now)?)));
        let visible = unseen.and_then(|unseen| self.lag.visible_ms(unseen.as_millis() as i64, now));
        self.lag_ms = stages.chain(visible.map(|lag_ms| (VISIBLE, lag_ms))).collect();
        self.stalled_ms = self.lag.stalled_ms(now);
        self.heartbeat_overdue = self.lag.is_overdue(now);
        self.clock_ahead_ms = self.lag.skew.map(|skew| [skew.least_ms, skew.most_ms]);
    }
}

impl TaskReport {
    /// Of a peer that has never thrown a heartbeat of ours back, as it does not while our clock is wrong by minutes, the
    /// lag has our own clock's fault in it: our own log's heartbeats tell how much that is.
    fn lag_by_own_log_ms(&self, source: &SourceReport, own: &str) -> i64 {
        let lag_ms = source.lag_ms.get(Stage::Acknowledged.name()).copied().unwrap_or(0);
        let own_skew = self.sources.iter().find(|source| source.region == own).and_then(|source| source.lag.skew);
        match (source.lag.skew, own_skew) {
            (None, Some(skew)) => lag_ms + skew.correction_ms(),
            _ => lag_ms,
        }
    }

    pub fn of(task: &StreamTask, state: &'static str, now: Now) -> Self {
        let (repair, regions): (Vec<usize>, Vec<usize>) = (0..task.source_count()).partition(|index| task.is_repair(*index));
        let sources = regions.into_iter().map(|index| {
            let (region, topic) = task.source(index);
            let settled = task.settled(index);
            SourceReport {
                region: region.to_string(),
                topic: topic.to_string(),
                present: task.is_present(index),
                next_offset: settled.next_offset,
                frontier_ms: settled.frontier.map(|at| at.0),
                open_records: task.open_records(index),
                oldest_open_ms: task.oldest_open(index).map(|at| at.0),
                lag_ms: BTreeMap::new(),
                stalled_ms: 0,
                disagreements: task.disagreements(index).to_vec(),
                gaps: task.gaps(index),
                heartbeat_overdue: false,
                clock_ahead_ms: None,
                lag: task.lag(index, now),
            }
        });
        let mut report = Self {
            task: task.id().to_string(),
            partition: task.id().partition,
            state,
            restore: None,
            unserved_ms: None,
            sources: sources.collect(),
            entries: task.store().len(),
            store_bytes: task.store().memory_bytes(),
            store_disk_bytes: task.store().disk_bytes(),
            buffered_bytes: task.buffered_bytes(),
            in_flight: task.items_in_flight(),
            parked: task.parked(),
            floor_ms: task.floor().map(|floor| floor.wall().0),
            floor_held_by: task.floor_held_by().map(ToString::to_string),
            scrub: task.scrub_report(),
            incomplete: task.completeness().gaps().iter().map(Gap::to_string).collect(),
            resync_from: task.completeness().resync_from().map(str::to_owned),
            repair: repair.first().map(|index| RepairReport {
                topic: task.source(*index).1.to_string(),
                next_offset: task.settled(*index).next_offset,
                open_records: task.open_records(*index),
            }),
        };
        report.reckon(now.wall);
        report
    }

    pub fn reckon(&mut self, now: UnixMs) {
        for source in &mut self.sources {
            source.reckon(None, now);
        }
    }

    pub fn restoring(task: TaskId, restore: Option<RestoreReport>, unserved: Duration, sources: Vec<SourceReport>) -> Self {
        Self {
            task: task.to_string(),
            partition: task.partition,
            state: "restoring",
            restore,
            unserved_ms: Some(i64::try_from(unserved.as_millis()).unwrap_or(i64::MAX)),
            sources,
            entries: 0,
            store_bytes: 0,
            store_disk_bytes: 0,
            buffered_bytes: 0,
            in_flight: 0,
            parked: BTreeMap::new(),
            floor_ms: None,
            floor_held_by: None,
            scrub: ScrubReport::default(),
            incomplete: Vec::new(),
            resync_from: None,
            repair: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::lag::SourceLag;
    use crate::task::skew::SkewBounds;

    fn source(region: &str, frontier: i64, heard: bool) -> SourceReport {
        source_of_log(region, frontier, heard, None)
    }

    /// A source that was settled at `frontier` when its task began, looked at a minute later.
    fn source_of_log(region: &str, frontier: i64, heard: bool, skew: Option<SkewBounds>) -> SourceReport {
        let interval = Duration::from_secs(1);
        let mut lag = SourceLag::new(Some(UnixMs(frontier)), interval);
        if heard {
            lag.passed(Stage::Acknowledged, UnixMs(frontier), Now { wall: UnixMs(60_000), monotonic: Duration::from_secs(60) });
        }
        let mut report = SourceReport {
            region: region.to_owned(),
            topic: "vector-cdc".to_owned(),
            present: true,
            next_offset: 0,
            frontier_ms: Some(frontier),
            open_records: 0,
            oldest_open_ms: None,
            lag_ms: BTreeMap::new(),
            stalled_ms: 0,
            disagreements: Vec::new(),
            gaps: 0,
            heartbeat_overdue: false,
            clock_ahead_ms: None,
            lag: lag.view([None; 3], skew, Now { wall: UnixMs(60_000), monotonic: Duration::from_secs(60) }),
        };
        report.reckon(None, UnixMs(60_000));
        report
    }

    fn caught_up(sources: Vec<SourceReport>) -> bool {
        let task = TaskReport::restoring(TaskId { shard: 0, partition: 0 }, None, Duration::ZERO, sources);
        let report = ThreadReport { tasks: vec![task], ..ThreadReport::default() };
        report.is_caught_up("eu", Duration::from_secs(10), UnixMs(60_000))
    }

    #[test]
    fn the_lag_of_a_worker_is_told_once_it_knows_of_all_its_tasks_and_no_longer_than_it_holds_any() {
        let held = |partition, unserved: u64, sources| {
            TaskReport::restoring(TaskId { shard: 0, partition }, None, Duration::from_secs(unserved), sources)
        };
        let told =
            |began, tasks| ThreadReport { began, tasks, ..ThreadReport::default() }.lag_ms("us", Stage::Acknowledged.name());
        let behind = || held(0, 0, vec![source("us", 55_000, true)]);
        assert_eq!(told(false, vec![behind(), held(1, 1, Vec::new())]), None, "of one it knows nothing yet");
        assert_eq!(told(true, vec![behind(), held(1, 1, Vec::new())]), Some(5_000));
        assert_eq!(told(true, vec![behind(), held(1, 9, Vec::new())]), Some(9_000), "one came later, and takes its time");
        assert_eq!(told(true, vec![behind(), held(1, 9, vec![source("us", 59_000, true)])]), Some(5_000), "it ran here before");
        assert_eq!(told(true, Vec::new()), None, "all have gone elsewhere");
        assert!(seconds_or_unknown(None).is_nan());
    }

    #[test]
    fn a_backlog_is_waited_for_and_a_peer_that_says_nothing_is_not() {
        assert!(caught_up(vec![source("eu", 55_000, true)]));
        assert!(!caught_up(vec![source("eu", 30_000, true)]));
        assert!(!caught_up(vec![source("eu", 30_000, false)]), "its own heartbeats come back in any case");
        assert!(!caught_up(vec![source("eu", 55_000, true), source("us", 30_000, true)]), "its backlog is being read");
        assert!(caught_up(vec![source("eu", 55_000, true), source("us", 30_000, false)]));
    }

    #[test]
    fn f41_a_worker_whose_own_clock_is_wrong_is_ready_all_the_same() {
        // By its own clock half a minute ahead of its log, so every append seems that much older than it is.
        let behind = SkewBounds { least_ms: -30_000, most_ms: -30_000 };
        let own = || source_of_log("eu", 28_000, true, Some(behind));
        assert!(caught_up(vec![own(), source("us", 28_000, true)]));
        assert!(!caught_up(vec![own(), source("us", 1_000, true)]), "that is a backlog by any clock");
    }
}

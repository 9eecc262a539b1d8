//! The run at a glance: what the view shows, gathered from the board, the links and the logs.

use super::board::{Board, Incident};
use super::pace::Pace;
use super::report::Counts;
use super::worker::{Workers, settled};
use super::world::{DOCUMENTS, RegionWorld, World};
use crate::adapter::embedded::broker::{Broker, BrokerError};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::{Clock, Now, UnixMs};
use crate::stream::report::ThreadReport;
use crate::task::heartbeat;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rates are over the last second or so.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// Records looked at to find one that is no heartbeat.
const HEARTBEATS_MAX: usize = 64;

/// What `to` makes of the changes from `from`. A region receives its own, too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PairStatus {
    pub from: usize,
    pub to: usize,
    pub up: bool,
    /// Age of the oldest change of `from` that is not settled in `to`; 0 if there is none.
    pub lag_ms: i64,
    /// The greatest that any snapshot has seen.
    pub lag_ms_max: i64,
    pub applied_per_second: f64,
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RegionStatus {
    pub name: Region,
    pub rows: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    pub elapsed: Duration,
    pub sent: usize,
    pub planned: usize,
    /// All is sent; the rest is on its way.
    pub settling: bool,
    /// By receiving region, then by source.
    pub pairs: Vec<PairStatus>,
    pub regions: Vec<RegionStatus>,
    /// Oldest first.
    pub events: Vec<Incident>,
}

/// What is remembered of a pair from one snapshot to the next.
#[derive(Debug, Clone, Copy, Default)]
struct PairHistory {
    lag_ms_max: i64,
    applied_at_mark: u64,
    applied_per_second: f64,
}

pub(super) struct Observer<'a> {
    world: &'a World,
    workers: &'a Workers,
    board: &'a Board,
    pace: Pace,
    planned: usize,
    /// When rates were last taken.
    mark: Duration,
    /// By `(to, from)`.
    history: BTreeMap<(usize, usize), PairHistory>,
}

impl<'a> Observer<'a> {
    pub fn new(world: &'a World, workers: &'a Workers, board: &'a Board, pace: Pace, planned: usize) -> Self {
        Self { world, workers, board, pace, planned, mark: Duration::ZERO, history: BTreeMap::new() }
    }

    pub fn snapshot(&mut self) -> Result<Snapshot, BrokerError> {
        let now = self.world.clock.now();
        let elapsed = now.since(self.pace.started);
        let pairs = self.pairs(now, elapsed)?;
        let rows = |region: &RegionWorld| RegionStatus { name: region.region.clone(), rows: region.database.rows(DOCUMENTS) };
        let regions = self.world.regions.iter().map(rows).collect();
        let state = self.board.read();
        Ok(Snapshot {
            elapsed,
            sent: state.sent,
            planned: self.planned,
            settling: state.sent == self.planned,
            pairs,
            regions,
            events: state.events.clone(),
        })
    }

    fn pairs(&mut self, now: Now, elapsed: Duration) -> Result<Vec<PairStatus>, BrokerError> {
        let workers = self.workers.reports();
        let span = elapsed.saturating_sub(self.mark);
        let rates_are_due = span >= RATE_WINDOW;
        let mut pairs = Vec::new();
        for (to, worker) in workers.iter().enumerate() {
            for (from, source) in self.world.regions.iter().enumerate() {
                let totals = worker.totals.sources.get(&source.region);
                let counts = totals.map(Counts::of).unwrap_or_default();
                let (up, lag_ms) = self.lag(from, to, worker, now)?;
                let history = self.history.entry((to, from)).or_default();
                history.lag_ms_max = history.lag_ms_max.max(lag_ms);
                if rates_are_due {
                    history.applied_per_second =
                        counts.applied.saturating_sub(history.applied_at_mark) as f64 / span.as_secs_f64();
                    history.applied_at_mark = counts.applied;
                }
                let PairHistory { lag_ms_max, applied_per_second, .. } = *history;
                pairs.push(PairStatus { from, to, up, lag_ms, lag_ms_max, applied_per_second, counts });
            }
        }
        if rates_are_due {
            self.mark = elapsed;
        }
        Ok(pairs)
    }

    /// Is there a way from one to the other, and how old is the oldest change that has not come to its end?
    fn lag(&self, from: usize, to: usize, worker: &ThreadReport, now: Now) -> Result<(bool, i64), BrokerError> {
        let settled = settled(worker);
        let mut oldest: Option<UnixMs> = None;
        let mut look = |region: usize, partition: &TopicPartition, position: i64| {
            let found = oldest_change(&self.world.regions[region].broker, partition, position)?;
            oldest = oldest.into_iter().chain(found).min();
            Ok(())
        };
        let position = |partition: &TopicPartition| settled.get(partition).copied().unwrap_or(0);
        let mut up = true;
        if from == to {
            for local in self.world.local() {
                look(to, &local, position(&local))?;
            }
        } else {
            let links = self.world.links();
            let link = links.iter().find(|link| (link.from, link.to) == (from, to));
            up = link.is_some_and(|link| link.mirror.is_up());
            for (source, mirror) in self.world.local().zip(self.world.mirror(from)) {
                look(from, &source, link.map_or(0, |link| link.mirror.position(&source)))?;
                look(to, &mirror, position(&mirror))?;
            }
        }
        Ok((up, oldest.map_or(0, |oldest| now.wall.since_ms(oldest).max(0))))
    }
}

/// When the first change at or after `position` was appended at its origin.
fn oldest_change(broker: &Broker, partition: &TopicPartition, position: i64) -> Result<Option<UnixMs>, BrokerError> {
    let mut oldest = None;
    broker.read(partition, position, HEARTBEATS_MAX, |record| {
        let is_heartbeat = record.key.as_deref().is_some_and(|key| key.starts_with(heartbeat::key("").as_bytes()));
        if !is_heartbeat && oldest.is_none() {
            oldest = Some(record.appended_at);
        }
    })?;
    Ok(oldest)
}

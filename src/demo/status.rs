//! The run at a glance: what the view shows, gathered from the board, the links and the logs.

use super::board::{Board, Incident};
use super::pace::Pace;
use super::worker::{Workers, settled};
use super::world::{DOCUMENTS, World};
use crate::adapter::embedded::broker::{Broker, BrokerError};
use crate::base::ids::TopicPartition;
use crate::base::time::{Clock, Now, UnixMs};
use crate::stream::report::ThreadReport;
use crate::task::heartbeat;
use crate::task::metrics::Totals;
use std::time::Duration;

/// Rates are over the last second or so.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// Records looked at to find one that is no heartbeat.
const HEARTBEATS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PairStatus {
    pub from: usize,
    pub to: usize,
    pub up: bool,
    /// Age of the oldest change of `from` that is not settled in `to`; 0 if there is none.
    pub lag_ms: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RegionStatus {
    pub name: String,
    pub applied_per_second: f64,
    pub applied: u64,
    pub duplicates: u64,
    pub stale: u64,
    pub conflicts: u64,
    pub dead_letters: u64,
    pub rows: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    pub elapsed: Duration,
    pub sent: usize,
    pub planned: usize,
    /// All is sent; the rest is on its way.
    pub settling: bool,
    pub pairs: Vec<PairStatus>,
    pub regions: Vec<RegionStatus>,
    /// The last few, oldest first.
    pub events: Vec<Incident>,
}

pub(super) struct Observer<'a> {
    world: &'a World,
    workers: &'a Workers,
    board: &'a Board,
    pace: Pace,
    planned: usize,
    /// When rates were last taken, and what had been applied in each region by then.
    mark: (Duration, Vec<u64>),
    rates: Vec<f64>,
}

impl<'a> Observer<'a> {
    pub fn new(world: &'a World, workers: &'a Workers, board: &'a Board, pace: Pace, planned: usize) -> Self {
        let regions = world.regions.len();
        Self { world, workers, board, pace, planned, mark: (Duration::ZERO, vec![0; regions]), rates: vec![0.0; regions] }
    }

    pub fn snapshot(&mut self, events_max: usize) -> Result<Snapshot, BrokerError> {
        let now = self.world.clock.now();
        let workers = self.workers.reports();
        let pairs = self.pairs(&workers, now)?;
        let elapsed = now.since(self.pace.started);
        take_rates(&mut self.mark, &mut self.rates, elapsed, &workers);
        let regions = workers.iter().enumerate().map(|(region, worker)| self.region(region, &worker.totals)).collect();
        let state = self.board.read();
        Ok(Snapshot {
            elapsed,
            sent: state.sent,
            planned: self.planned,
            settling: state.sent == self.planned,
            pairs,
            regions,
            events: state.events[state.events.len().saturating_sub(events_max)..].to_vec(),
        })
    }

    fn region(&self, region: usize, totals: &Totals) -> RegionStatus {
        let world = &self.world.regions[region];
        RegionStatus {
            name: world.region.to_string(),
            applied_per_second: self.rates[region],
            applied: totals.applied,
            duplicates: totals.verdict("duplicate"),
            stale: totals.verdict("stale"),
            conflicts: totals.verdict("conflict"),
            dead_letters: totals.dead_letters.values().sum(),
            rows: world.database.rows(DOCUMENTS),
        }
    }

    fn pairs(&self, workers: &[ThreadReport], now: Now) -> Result<Vec<PairStatus>, BrokerError> {
        let mut pairs = Vec::new();
        for link in self.world.links().iter() {
            let (from, to) = (link.from, link.to);
            let settled = settled(&workers[to]);
            let mut oldest: Option<UnixMs> = None;
            let mut look = |broker: &Broker, partition: &TopicPartition, position: i64| {
                let found = oldest_change(broker, partition, position)?;
                oldest = oldest.into_iter().chain(found).min();
                Ok(())
            };
            for (source, mirror) in self.world.local().zip(self.world.mirror(from)) {
                look(&self.world.regions[from].broker, &source, link.mirror.position(&source))?;
                look(&self.world.regions[to].broker, &mirror, settled.get(&mirror).copied().unwrap_or(0))?;
            }
            let lag_ms = oldest.map_or(0, |oldest| now.wall.since_ms(oldest).max(0));
            pairs.push(PairStatus { from, to, up: link.mirror.is_up(), lag_ms });
        }
        Ok(pairs)
    }
}

fn take_rates(mark: &mut (Duration, Vec<u64>), rates: &mut [f64], elapsed: Duration, workers: &[ThreadReport]) {
    let span = elapsed.saturating_sub(mark.0);
    if span < RATE_WINDOW {
        return;
    }
    for (region, worker) in workers.iter().enumerate() {
        let applied = worker.totals.applied;
        rates[region] = applied.saturating_sub(mark.1[region]) as f64 / span.as_secs_f64();
        mark.1[region] = applied;
    }
    mark.0 = elapsed;
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

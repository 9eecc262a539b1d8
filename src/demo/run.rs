//! A run from its first change to its verdict.
//!
//! ```text
//!  Writing ──all sent──► Settling ──all settled everywhere, or out of time──► verdict
//! ```
//! Settled means: what the writers sent has been copied by the links, and each region's worker has settled its
//! own topic and the mirrors up to there. (Heartbeats go on; they are not waited for.)

use super::board::Board;
use super::pace::{Pace, Stop, StopOnDrop};
use super::report::{RegionReport, Report};
use super::status::{Observer, RegionStatus};
use super::view::View;
use super::workload::Workload;
use super::world::World;
use super::{DemoError, DemoOptions, network, verdict, worker, writer};
use crate::adapter::embedded::broker::BrokerError;
use crate::adapter::system::CtrlC;
use crate::base::ids::TopicPartition;
use crate::base::time::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the regions may take to settle once everything is sent.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Runs the demo, showing its progress on standard error, and answers what came of it.
pub fn run(options: &DemoOptions) -> Result<Report, DemoError> {
    options.check()?;
    let workload = Workload::generate(options.seed, options.changes, options.vectors, options.dim);
    let world = World::new(options.dim)?;
    let board = Board::new(world.regions.len());
    let pace = Pace { started: world.clock.now(), length: Duration::from_secs(options.seconds), planned_ms: workload.span_ms() };
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ctrl_c = {
        let interrupted = interrupted.clone();
        CtrlC::listen(move || interrupted.store(true, Ordering::Relaxed))?
    };
    let stop = Stop::default();
    let settled = thread::scope(|scope| {
        let _stops_the_threads = StopOnDrop(&stop);
        let threads = Threads { workload: &workload, world: &world, pace, board: &board, stop: &stop };
        threads.start(scope);
        watch(&threads, &interrupted)
    })?;
    report(options, &world, &workload, &board, pace, settled)
}

#[derive(Clone, Copy)]
struct Threads<'a> {
    workload: &'a Workload,
    world: &'a World,
    pace: Pace,
    board: &'a Board,
    stop: &'a Stop,
}

impl<'a> Threads<'a> {
    fn start<'scope>(self, scope: &'scope thread::Scope<'scope, '_>)
    where
        'a: 'scope,
    {
        let Self { workload, world, pace, board, stop } = self;
        for region in 0..world.regions.len() {
            scope.spawn(move || board.note(worker::run(region, world, board, stop)));
            scope.spawn(move || board.note(writer::write(region, workload, world, pace, board, stop)));
        }
        scope.spawn(move || board.note(network::run(world, pace, board, stop)));
    }
}

/// Shows the run until it is over; answers whether all was settled in time.
fn watch(threads: &Threads<'_>, interrupted: &AtomicBool) -> Result<bool, DemoError> {
    let Threads { workload, world, pace, board, .. } = *threads;
    let mut view = View::open()?;
    let mut observer = Observer::new(world, board, pace, workload.changes.len());
    let (mut seen, mut shown, mut goal, mut give_up) = (0, None, None, None);
    loop {
        let now = world.clock.now().monotonic;
        if interrupted.load(Ordering::Relaxed) || view.wants_end()? {
            return Err(DemoError::Interrupted);
        }
        if let Some(failure) = board.read().failure.clone() {
            return Err(DemoError::Failed(failure));
        }
        if goal.is_none() && board.read().sent == workload.changes.len() && pace.fraction(world.clock.now()) >= 1.0 {
            goal = Some(Goal::capture(world)?);
            give_up = Some(now + SETTLE_MAX);
        }
        let settled = match &mut goal {
            Some(goal) => goal.is_reached(world, board)?,
            None => false,
        };
        let over = settled || give_up.is_some_and(|give_up| now >= give_up);
        if over || shown.is_none_or(|shown| now >= shown + view.interval()) {
            view.show(&observer.snapshot(view.events_max())?)?;
            shown = Some(now);
        }
        if over {
            return Ok(settled);
        }
        seen = board.wait(seen, view.interval());
    }
}

/// Where everything must have come to.
struct Goal {
    /// Per region, the ends of its own change topic when all was sent.
    sent: Vec<Vec<(TopicPartition, i64)>>,
    /// Per region, the ends of its mirrors when the links had copied that much.
    copied: Option<Vec<Vec<(TopicPartition, i64)>>>,
}

impl Goal {
    fn capture(world: &World) -> Result<Self, BrokerError> {
        let sent = (0..world.regions.len()).map(|region| ends(world, region, world.local()));
        Ok(Self { sent: sent.collect::<Result<_, _>>()?, copied: None })
    }

    fn is_reached(&mut self, world: &World, board: &Board) -> Result<bool, BrokerError> {
        if self.copied.is_none() && self.links_are_there(world) {
            let regions = 0..world.regions.len();
            let copied = regions.map(|region| {
                let peers = (0..world.regions.len()).filter(|peer| *peer != region);
                ends(world, region, peers.flat_map(|peer| world.mirror(peer)))
            });
            self.copied = Some(copied.collect::<Result<_, _>>()?);
        }
        let Some(copied) = &self.copied else { return Ok(false) };
        let state = board.read();
        let reached = |region: usize, partition: &TopicPartition, end: i64| {
            state.workers[region].settled.get(partition).copied().unwrap_or(0) >= end
        };
        let all = |goals: &[Vec<(TopicPartition, i64)>]| {
            goals.iter().enumerate().all(|(region, ends)| ends.iter().all(|(partition, end)| reached(region, partition, *end)))
        };
        Ok(all(&self.sent) && all(copied))
    }

    fn links_are_there(&self, world: &World) -> bool {
        let links = world.links();
        links.iter().all(|link| self.sent[link.from].iter().all(|(source, end)| link.mirror.position(source) >= *end))
    }
}

fn ends(
    world: &World,
    region: usize,
    partitions: impl Iterator<Item = TopicPartition>,
) -> Result<Vec<(TopicPartition, i64)>, BrokerError> {
    let broker = &world.regions[region].broker;
    partitions.map(|partition| Ok((partition.clone(), broker.bounds(&partition)?.end))).collect()
}

fn report(
    options: &DemoOptions,
    world: &World,
    workload: &Workload,
    board: &Board,
    pace: Pace,
    settled: bool,
) -> Result<Report, DemoError> {
    let compared = verdict::compare(world, workload, pace.base())?;
    let snapshot = Observer::new(world, board, pace, workload.changes.len()).snapshot(0)?;
    let state = board.read();
    let sum = |of: fn(&RegionStatus) -> u64| snapshot.regions.iter().map(of).sum();
    Ok(Report {
        seed: options.seed,
        seconds: options.seconds,
        vectors: options.vectors,
        dim: options.dim,
        changes: state.sent,
        duplicates: sum(|region| region.duplicates),
        stale: sum(|region| region.stale),
        conflicts: sum(|region| region.conflicts),
        dead_letters: sum(|region| region.dead_letters),
        applied: sum(|region| region.applied),
        cuts: state.cuts,
        settled,
        rows: compared.rows,
        divergent: compared.divergent,
        refused_differently: compared.refused_differently,
        converged: compared.divergent == 0 && compared.refused_differently == 0,
        digest: compared.digest,
        regions: snapshot.regions.into_iter().map(region_report).collect(),
    })
}

fn region_report(status: RegionStatus) -> RegionReport {
    let RegionStatus { name, applied, duplicates, stale, conflicts, dead_letters, rows, .. } = status;
    RegionReport { region: name, applied, duplicates, stale, conflicts, dead_letters, rows }
}

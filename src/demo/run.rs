//! A run from its first change to its verdict.
//!
//! ```text
//!  Starting ──workers ready──► Writing ──all sent──► Settling ──all settled, or out of time──► verdict
//! ```
//! Settled means: what the writers sent has been copied by the links, and each region's worker has settled its
//! own topic and the mirrors up to there. (Heartbeats go on; they are not waited for.)

use super::board::Board;
use super::pace::{Pace, Stop};
use super::report::{Counts, PairReport, RegionReport, Report};
use super::status::{Observer, Snapshot};
use super::view::{self, View};
use super::worker::{self, Workers, settled};
use super::workload::Workload;
use super::world::World;
use super::{DemoError, DemoOptions, network, verdict, writer};
use crate::adapter::embedded::broker::BrokerError;
use crate::adapter::system::CtrlC;
use crate::base::ids::TopicPartition;
use crate::base::time::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

/// How long the workers may take to get their partitions, and the regions to settle once everything is sent.
const START_MAX: Duration = Duration::from_secs(30);
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Runs the demo, showing its progress on standard error, and answers what came of it.
pub fn run(options: &DemoOptions) -> Result<Report, DemoError> {
    options.check()?;
    let workload = Workload::generate(options.seed, options.changes, options.vectors, options.dim);
    let world = World::new(options.dim)?;
    let board = Arc::new(Board::default());
    let workers = {
        let board = board.clone();
        Workers::new(world.regions.len(), Arc::new(move || board.changed()))
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ctrl_c = {
        let (interrupted, board) = (interrupted.clone(), board.clone());
        CtrlC::listen(move || {
            interrupted.store(true, Ordering::Relaxed);
            board.changed();
        })?
    };
    let stop = Stop::default();
    let run = Run {
        options,
        workload: &workload,
        world: &world,
        workers: &workers,
        board: &board,
        stop: &stop,
        interrupted: &interrupted,
    };
    let report = thread::scope(|scope| {
        let _ends_the_threads = EndOnDrop(run);
        run.go(scope)
    })?;
    match board.read().failure.take() {
        Some(failure) => Err(DemoError::Failed(failure)),
        None => Ok(report),
    }
}

#[derive(Clone, Copy)]
struct Run<'a> {
    options: &'a DemoOptions,
    workload: &'a Workload,
    world: &'a World,
    workers: &'a Workers,
    board: &'a Board,
    stop: &'a Stop,
    interrupted: &'a AtomicBool,
}

/// Ends the run's threads when it goes out of scope, however that comes about: the scope waits for them.
struct EndOnDrop<'a>(Run<'a>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.set();
        self.0.workers.stop();
    }
}

impl<'a> Run<'a> {
    fn go<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Result<Report, DemoError>
    where
        'a: 'scope,
    {
        let Run { workload, world, workers, board, stop, .. } = self;
        for region in 0..world.regions.len() {
            scope.spawn(move || board.note(worker::run(region, world, workers.watch(region), None)));
        }
        self.await_workers()?;
        let length = Duration::from_secs(self.options.seconds);
        let pace = Pace { started: world.clock.now(), length, planned_ms: workload.span_ms() };
        for region in 0..world.regions.len() {
            scope.spawn(move || board.note(writer::write(region, workload, world, pace, board, stop)));
        }
        scope.spawn(move || board.note(network::run(world, pace, board, stop)));
        let (last, settled) = self.watch(pace)?;
        self.report(pace, &last, settled)
    }

    fn await_workers(&self) -> Result<(), DemoError> {
        let give_up = self.world.clock.now().monotonic + START_MAX;
        let mut seen = 0;
        while !self.workers.are_ready() {
            self.check_on_threads()?;
            let left = give_up.saturating_sub(self.world.clock.now().monotonic);
            if left.is_zero() {
                return Err(DemoError::Failed("the workers did not get their partitions".to_owned()));
            }
            seen = self.board.wait(seen, left);
        }
        Ok(())
    }

    /// Shows the run until it is over; answers how it was in the end, and whether all was settled in time.
    fn watch(&self, pace: Pace) -> Result<(Snapshot, bool), DemoError> {
        let Run { workload, world, workers, board, .. } = *self;
        let mut view = View::open(self.options)?;
        let mut observer = Observer::new(world, workers, board, pace, workload.changes.len());
        let (mut seen, mut shown, mut settling) = (0, None, None);
        loop {
            let now = world.clock.now();
            self.check_on_threads()?;
            if view.wants_end()? {
                return Err(DemoError::Interrupted);
            }
            if settling.is_none() && board.read().sent == workload.changes.len() && pace.fraction(now) >= 1.0 {
                settling = Some((Goal::capture(world)?, now.monotonic + SETTLE_MAX));
                board.event(now.since(pace.started), "all is sent; the regions settle".to_owned());
            }
            let (mut settled, mut over) = (false, false);
            if let Some((goal, give_up)) = &mut settling {
                settled = goal.is_reached(world, workers)?;
                over = settled || now.monotonic >= *give_up;
            }
            if over || shown.is_none_or(|shown| now.monotonic >= shown + view::INTERVAL) {
                let snapshot = observer.snapshot()?;
                view.show(&snapshot)?;
                if over {
                    return Ok((snapshot, settled));
                }
                shown = Some(now.monotonic);
            }
            seen = board.wait(seen, view::INTERVAL);
        }
    }

    fn check_on_threads(&self) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        match self.board.read().failure.clone() {
            Some(failure) => Err(DemoError::Failed(failure)),
            None => Ok(()),
        }
    }

    fn report(&self, pace: Pace, last: &Snapshot, settled: bool) -> Result<Report, DemoError> {
        let Run { options, workload, world, board, .. } = *self;
        let compared = verdict::compare(world, workload, pace.base())?;
        let mut counts = Counts::default();
        for pair in &last.pairs {
            counts += pair.counts;
        }
        Ok(Report {
            seed: options.seed,
            seconds: options.seconds,
            vectors: options.vectors,
            dim: options.dim,
            changes: last.sent,
            counts,
            cuts: board.read().cuts,
            settled,
            rows: compared.rows,
            divergent: compared.divergent,
            refused_differently: compared.refused_differently,
            converged: compared.divergent == 0 && compared.refused_differently == 0,
            digest: compared.digest,
            regions: region_reports(last),
            pairs: pair_reports(last),
        })
    }
}

fn region_reports(last: &Snapshot) -> Vec<RegionReport> {
    let mut reports = Vec::new();
    for (index, region) in last.regions.iter().enumerate() {
        let mut counts = Counts::default();
        for pair in last.pairs.iter().filter(|pair| pair.to == index) {
            counts += pair.counts;
        }
        reports.push(RegionReport { region: region.name.to_string(), rows: region.rows, counts });
    }
    reports
}

fn pair_reports(last: &Snapshot) -> Vec<PairReport> {
    let mut reports = Vec::new();
    for pair in &last.pairs {
        reports.push(PairReport {
            from: last.regions[pair.from].name.to_string(),
            to: last.regions[pair.to].name.to_string(),
            lag_ms_max: pair.lag_ms_max,
            applied_per_second: (pair.counts.applied as f64 / last.elapsed.as_secs_f64()).round(),
            counts: pair.counts,
        });
    }
    reports
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

    fn is_reached(&mut self, world: &World, workers: &Workers) -> Result<bool, BrokerError> {
        if self.copied.is_none() && self.links_are_there(world) {
            let regions = 0..world.regions.len();
            let copied = regions.map(|region| {
                let peers = (0..world.regions.len()).filter(|peer| *peer != region);
                ends(world, region, peers.flat_map(|peer| world.mirror(peer)))
            });
            self.copied = Some(copied.collect::<Result<_, _>>()?);
        }
        let Some(copied) = &self.copied else { return Ok(false) };
        let positions: Vec<_> = workers.reports().iter().map(settled).collect();
        let reached =
            |region: usize, partition: &TopicPartition, end: i64| positions[region].get(partition).is_some_and(|at| *at >= end);
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

//! `driftless demo --serve`: the same regions and workers, written to until somebody stops it, and a console in which
//! links are cut and healed by hand.

use super::board::Board;
use super::pace::{Pace, Stop};
use super::worker::{self, Workers};
use super::workload::Workload;
use super::world::{APPLICATION, DOCUMENTS, World};
use super::{DemoError, DemoOptions, network, retention, writer};
use crate::adapter::system::CtrlC;
use crate::base::time::Clock;
use crate::console::plant::{About, LinkObserved, Mode, Observation, Plant, RegionObserved, Switchboard};
use crate::console::server::Server;
use crate::console::{Console, tap};
use crate::topology::describe;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often it is looked whether it goes on, should a wake-up be lost.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C. `serving` is told the address once pages can be opened.
pub fn serve(options: &DemoOptions, listen: SocketAddr, serving: impl FnOnce(SocketAddr)) -> Result<(), DemoError> {
    options.check()?;
    let board = Arc::new(Board::default());
    let site = Site {
        world: Arc::new(World::new(options.dim)?),
        workers: Arc::new(Workers::new(super::workload::REGIONS.len(), Arc::new(|| ()))),
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ctrl_c = {
        let (interrupted, board) = (interrupted.clone(), board.clone());
        CtrlC::listen(move || {
            interrupted.store(true, Ordering::Relaxed);
            board.changed();
        })?
    };
    let (ear, inbox) = tap::channel();
    let console = Arc::new(Console::new(about(&site.world)?, Box::new(site.clone()), inbox, true));
    let server = Server::start(listen, console, Some(Arc::new(site.clone())));
    let server = server.map_err(|error| DemoError::Listen { listen, error })?;
    let stop = Stop::default();
    thread::scope(|scope| {
        let (world, workers, board, stop, ear) = (&*site.world, &*site.workers, &*board, &stop, &ear);
        let _ends_the_threads = EndOnDrop { workers, stop };
        let pace = Pace {
            started: world.clock.now(),
            length: Duration::from_secs(options.seconds),
            planned_ms: Workload::round(options.seed, 0, 1, 1, 1).span_ms(),
        };
        for region in 0..world.regions.len() {
            let plan = |round| Workload::round(options.seed, round, options.changes, options.vectors, options.dim);
            scope.spawn(move || board.note(worker::run(region, world, workers.watch(region), Some(ear))));
            scope.spawn(move || board.note(writer::write_on(region, plan, world, pace, board, stop)));
        }
        scope.spawn(move || board.note(network::carry(world, board, stop)));
        scope.spawn(move || retention::run(world, workers, board, stop));
        serving(server.address());
        let mut seen = 0;
        while !interrupted.load(Ordering::Relaxed) && board.read().failure.is_none() {
            seen = board.wait(seen, LOOK);
        }
    });
    match board.read().failure.take() {
        Some(failure) => Err(DemoError::Failed(failure)),
        None => Ok(()),
    }
}

/// Ends the threads when it goes out of scope, however that comes about: the scope waits for them.
struct EndOnDrop<'a> {
    workers: &'a Workers,
    stop: &'a Stop,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.stop.set();
        self.workers.stop();
    }
}

fn about(world: &World) -> Result<About, DemoError> {
    let topology = worker::topology().map_err(|error| DemoError::Failed(error.to_string()))?;
    Ok(About {
        mode: Mode::Demo,
        version: env!("CARGO_PKG_VERSION"),
        application: APPLICATION.to_owned(),
        topology: describe::json(&topology),
        regions: world.regions.iter().map(|region| region.region.clone()).collect(),
    })
}

/// All three regions, as the console sees them and switches their links.
#[derive(Clone)]
struct Site {
    world: Arc<World>,
    workers: Arc<Workers>,
}

impl Plant for Site {
    fn observe(&self) -> Observation {
        let now = self.world.clock.now().wall;
        let mut regions = Vec::new();
        for (region, mut report) in self.world.regions.iter().zip(self.workers.reports()) {
            report.reckon(None, now);
            regions.push(RegionObserved { region: region.region.clone(), report, rows: Some(region.database.rows(DOCUMENTS)) });
        }
        let name = |region: usize| self.world.regions[region].region.clone();
        let links = self.world.links();
        let links = links.iter().map(|link| LinkObserved { from: name(link.from), to: name(link.to), up: link.mirror.is_up() });
        Observation { now, regions, links: links.collect() }
    }
}

impl Switchboard for Site {
    fn switch(&self, from: &str, to: &str, up: bool) -> Option<String> {
        let name = |region: usize| self.world.regions[region].region.as_str();
        let mut links = self.world.links();
        let link = links.iter_mut().find(|link| name(link.from) == from && name(link.to) == to)?;
        match (up, link.mirror.is_up()) {
            (true, false) => Some(match network::heal(link) {
                Ok(held_back) => format!("The link from {from} to {to} is healed; {held_back} records waited."),
                Err(error) => format!("The link from {from} to {to} can't be healed: {error}."),
            }),
            (false, true) => {
                link.mirror.cut();
                Some(format!("The link from {from} to {to} is cut."))
            }
            (true, true) => Some(format!("The link from {from} to {to} is whole.")),
            (false, false) => Some(format!("The link from {from} to {to} is cut already.")),
        }
    }
}

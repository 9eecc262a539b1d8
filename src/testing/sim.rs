//! The deterministic simulator: regions, their logs, mirrors, vector stores, clocks and workers in one thread, in
//! virtual time, from one seed. The stream thread, tasks, restorer and commit code that run in it are production's;
//! only the ports are others.
//!
//! A run has two phases. First things go wrong, as the [`Scenario`] says, and what must never be seen is looked for
//! at each step. Then everything works again, and within bounded time every region must hold, row by row, what an
//! oracle finds in the raw topics. Equal seeds have equal histories.
//!
//! ```
//! use driftless::testing::sim::{FaultKind, FaultSpec, Scenario, Simulation};
//! use std::time::Duration;
//!
//! // The shipped topology; one's own goes into `Simulation::new`.
//! let simulation = Simulation::default();
//! let mut scenario = Scenario { regions: 2, duration: Duration::from_secs(10), ..Scenario::default() };
//! scenario.workload.changes = 200;
//! scenario.faults.push(FaultSpec { every: Some(Duration::from_secs(4)), ..FaultSpec::new(FaultKind::KillWorker) });
//! let outcome = simulation.run(7, &scenario);
//! assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
//! assert_eq!(outcome.digest, simulation.run(7, &scenario).digest);
//! ```
//!
//! Method: FoundationDB's simulation (Zhou et al., "FoundationDB", SIGMOD 2021) and swarm testing (Groce et al., 2012).

mod aliases;
mod batch;
mod check;
mod clock;
mod consumer;
mod finish;
mod inject;
mod interrupt;
mod log_line;
mod meddle;
mod operator;
mod plan;
mod region;
mod registry;
mod scenario;
mod shrink;
mod span;
mod store_line;
mod swarm;
mod trace;
mod worker;
mod workload;
mod world;

pub use batch::{Batch, Tally};
pub use scenario::{FaultKind, FaultSpec, Scenario, WorkloadSpec};
pub use shrink::shrink;
pub use swarm::swarm;
pub use trace::{Keep, Violation};

use crate::processor;
use crate::testing::random::SplitMix64;
use crate::topology::build::{NodeTypes, Topology};
use crate::topology::spec::REPLICATE;
use serde::Serialize;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use trace::Trace;
use world::World;

/// What came out of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub seed: u64,
    pub scenario: String,
    /// What was seen and must never be; empty if all is well.
    pub violations: Vec<Violation>,
    /// Of the whole history.
    pub digest: u64,
    /// Virtual time that passed, in ms.
    pub virtual_ms: u64,
    /// Records that the writers wrote, and those of them that were admitted (in the regions of their origin).
    pub changes: u64,
    pub admitted: u64,
    /// How often each fault was injected, and what else befell the workers.
    pub counts: BTreeMap<&'static str, u64>,
    /// The history as text, as far as it was kept.
    #[serde(skip)]
    pub history: Vec<String>,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs scenarios on one topology.
#[derive(Clone)]
pub struct Simulation {
    topology: Arc<Topology>,
}

impl Default for Simulation {
    /// The shipped topology, `topologies/replicate.toml`.
    fn default() -> Self {
        let mut types = NodeTypes::default();
        processor::register_standard(&mut types);
        Self::new(Arc::new(Topology::parse("replicate.toml", REPLICATE, &types).expect("the shipped topology is good")))
    }
}

impl Simulation {
    /// The topology must keep the last writer, whatever else it does: the oracle does.
    pub fn new(topology: Arc<Topology>) -> Self {
        Self { topology }
    }

    /// One run; no text of it is kept.
    pub fn run(&self, seed: u64, scenario: &Scenario) -> Outcome {
        self.run_keeping(seed, scenario, Keep::Nothing)
    }

    pub fn run_keeping(&self, seed: u64, scenario: &Scenario, keep: Keep) -> Outcome {
        let trace = Trace::new(keep);
        let mut random = SplitMix64::new(seed);
        let faults = plan::plan(scenario, &mut random.fork());
        let world_seed = random.next();
        // A broken assertion of the engine is a finding like any other.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(scenario, self.topology.clone(), faults, trace.clone(), world_seed);
            finish::run(&mut world)
        }));
        let ended = ended.unwrap_or_else(|panic| finish::Ended::panicked(panic.as_ref()));
        Outcome {
            seed,
            scenario: scenario.name.clone(),
            violations: ended.violations,
            digest: trace.digest(),
            virtual_ms: ended.virtual_ms,
            changes: ended.changes,
            admitted: ended.admitted,
            counts: trace.counts(),
            history: trace.take_lines(),
        }
    }
}

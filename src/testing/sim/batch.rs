//! Many seeds, on as many threads as there are cores. Each run is a world of its own, so their order says nothing.

use super::{Outcome, Scenario, Simulation, swarm};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// What is to be run.
pub struct Batch {
    pub seeds: Range<u64>,
    /// None: the swarm, with so many regions.
    pub scenario: Option<Scenario>,
    pub regions: usize,
    pub threads: usize,
}

/// What came out of many runs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    pub seeds: u64,
    pub failed: u64,
    pub changes: u64,
    /// The fewest that one seed wrote.
    pub changes_min: u64,
    pub admitted: u64,
    pub virtual_seconds: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        self.changes_min = if self.seeds == 0 { outcome.changes } else { self.changes_min.min(outcome.changes) };
        self.seeds += 1;
        self.failed += u64::from(!outcome.is_good());
        self.changes += outcome.changes;
        self.admitted += outcome.admitted;
        self.virtual_seconds += outcome.virtual_ms / 1_000;
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

impl Batch {
    /// The scenario of one of the seeds.
    pub fn scenario(&self, seed: u64) -> Scenario {
        self.scenario.clone().unwrap_or_else(|| swarm(seed, self.regions))
    }

    /// Runs until the seeds are used up or `stop` is set. `seen` is told of each run with the tally so far, and ends the
    /// batch by answering false.
    pub fn run(&self, simulation: &Simulation, stop: &AtomicBool, mut seen: impl FnMut(&Outcome, &Tally) -> bool) -> Tally {
        let next = AtomicU64::new(self.seeds.start);
        let mut tally = Tally::default();
        thread::scope(|scope| {
            let (outcomes, done) = mpsc::sync_channel(self.threads);
            for _ in 0..self.threads.max(1) {
                let (outcomes, next) = (outcomes.clone(), &next);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || outcomes.send(simulation.run(seed, &self.scenario(seed))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(outcomes);
            for outcome in done {
                tally.add(&outcome);
                if !seen(&outcome, &tally) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        tally
    }
}

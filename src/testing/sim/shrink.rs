//! The smallest scenario that still fails: faults are left out as long as the seed goes on failing, half of them
//! at first, then fewer (after Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

use super::plan::{self, PlannedFault};
use super::scenario::Scenario;
use super::{Outcome, Simulation};
use crate::testing::random::SplitMix64;

/// Runs that may be spent.
const RUNS_MAX: usize = 150;

/// `scenario` fails with `seed`. Answers with a scenario that says every fault exactly, and fails with the same seed,
/// and what comes out of it.
pub fn shrink(simulation: &Simulation, seed: u64, scenario: &Scenario) -> (Scenario, Outcome) {
    let planned = plan::plan(scenario, &mut SplitMix64::new(seed).fork());
    let mut search = Search { simulation, seed, runs: 0 };
    let exact = plan::as_scenario(&planned, scenario);
    let mut best = (exact.clone(), simulation.run(seed, &exact));
    if best.1.is_good() {
        // What it says exactly is not the same after all: then it is given as it was.
        return (scenario.clone(), simulation.run(seed, scenario));
    }
    search.leave_out_faults(planned, &mut best);
    search.write_less(&mut best);
    best
}

struct Search<'a> {
    simulation: &'a Simulation,
    seed: u64,
    runs: usize,
}

impl Search<'_> {
    /// Takes `candidate` if it fails too.
    fn try_it(&mut self, candidate: Scenario, best: &mut (Scenario, Outcome)) -> bool {
        self.runs += 1;
        let outcome = self.simulation.run(self.seed, &candidate);
        let fails = !outcome.is_good();
        if fails {
            *best = (candidate, outcome);
        }
        fails
    }

    fn leave_out_faults(&mut self, mut faults: Vec<PlannedFault>, best: &mut (Scenario, Outcome)) {
        let mut chunk = faults.len().div_ceil(2);
        while chunk > 0 {
            let (mut begin, mut any) = (0, false);
            while begin < faults.len() && self.runs < RUNS_MAX {
                let end = (begin + chunk).min(faults.len());
                let fewer: Vec<PlannedFault> = [&faults[..begin], &faults[end..]].concat();
                if self.try_it(plan::as_scenario(&fewer, &best.0.clone()), best) {
                    faults = fewer;
                    any = true;
                } else {
                    begin = end;
                }
            }
            if self.runs >= RUNS_MAX {
                return;
            }
            chunk = if any && chunk > 1 { chunk } else { chunk / 2 };
        }
    }

    fn write_less(&mut self, best: &mut (Scenario, Outcome)) {
        while best.0.workload.changes > 10 && self.runs < RUNS_MAX {
            let mut fewer = best.0.clone();
            fewer.workload.changes /= 2;
            if !self.try_it(fewer, best) {
                return;
            }
        }
    }
}

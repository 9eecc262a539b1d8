//! `driftless sim`.

use super::output;
use crate::adapter::system::{CtrlC, SystemClock};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::time::{Clock, Now};
use crate::testing::sim::{Batch, FaultKind, Keep, Outcome, Scenario, Simulation, Tally, shrink};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many of the last events before a failure are shown.
const EVENTS_SHOWN: usize = 40;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Several regions in virtual time, with every fault drawn from a seed, and the proof that they end up the same
///
/// The workers' own code runs on simulated logs, mirrors, vector stores and clocks. Each seed is a history of its own:
/// faults first, with safety looked at in each step, then everything is healed, and every region must hold what an
/// oracle finds in the raw topics. Without --scenario each seed draws its own mix of faults (swarm testing).
///
/// A failure is told with its seed, the smallest scenario that still fails, and the last events.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless sim --seeds 1000
  driftless sim --scenario tests/scenarios/zombies.toml --seeds 200
  driftless sim --seed 4711 --trace | less

Progress goes to standard error, the result to standard output.

Exit codes: 0 no seed failed, 1 failed, 2 wrong usage or scenario, 3 a seed failed, 130 interrupted")]
pub struct SimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 100, value_name = "N")]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// This one alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// A scenario file, instead of the swarm
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Regions of the swarm (a scenario says its own)
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=8), conflicts_with = "scenario")]
    regions: u64,
    /// Print everything that happens in the one seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Go on after a failure; only the first one is shrunk
    #[arg(long)]
    keep_going: bool,
    /// Do not look for the smallest scenario that still fails
    #[arg(long)]
    no_shrink: bool,
    /// Runs side by side [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// The result, as --json prints it.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    tally: Tally,
    seeds_per_second: f64,
    interrupted: bool,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    outcome: Outcome,
    /// The smallest scenario that was found to fail with this seed, as a file; none if it was not looked for.
    scenario: Option<String>,
    last_events: Vec<String>,
}

pub fn run(args: &SimArgs) -> Result<Exit> {
    let batch = batch(args)?;
    let simulation = Simulation::default();
    if args.trace {
        return trace(&simulation, &batch);
    }
    let (interrupted, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let _guard = {
        let (interrupted, stop) = (interrupted.clone(), stop.clone());
        CtrlC::listen(move || {
            interrupted.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        })
        .map_err(|error| Error::fatal(format!("Ctrl-C can't be listened to: {error}")))?
    };
    let mut progress = Progress::new(batch.seeds.end - batch.seeds.start);
    let mut failures = Vec::new();
    let tally = batch.run(&simulation, &stop, |outcome, tally| {
        if !outcome.is_good() {
            failures.push(outcome.clone());
        }
        progress.show(tally);
        outcome.is_good() || args.keep_going
    });
    let seeds_per_second = progress.end(&tally);
    failures.sort_by_key(|outcome| outcome.seed);
    let failures = failures
        .into_iter()
        .enumerate()
        .map(|(index, outcome)| explain(&simulation, &batch, outcome, index == 0 && !args.no_shrink));
    let report =
        Report { failures: failures.collect(), tally, seeds_per_second, interrupted: interrupted.load(Ordering::Relaxed) };
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(&text(&report, args))?
    };
    Ok(if !report.failures.is_empty() {
        Exit::DIFFERENT
    } else if report.interrupted {
        Exit::INTERRUPTED
    } else {
        Exit::DONE
    })
}

fn batch(args: &SimArgs) -> Result<Batch> {
    let scenario = match &args.scenario {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::refuse(format!("{} can't be read: {error}", path.display())))?;
            Some(Scenario::parse(&path.display().to_string(), &text)?)
        }
    };
    let seeds = match args.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => args.from..args.from.saturating_add(args.seeds),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Batch { seeds, scenario, regions: args.regions as usize, threads: args.threads.unwrap_or(cores) })
}

/// One seed, with everything that happens in it.
fn trace(simulation: &Simulation, batch: &Batch) -> Result<Exit> {
    let seed = batch.seeds.start;
    let scenario = batch.scenario(seed);
    let outcome = simulation.run_keeping(seed, &scenario, Keep::All);
    output::print(&format!("# {}\n", scenario.to_toml().replace('\n', "\n# ")))?;
    for line in &outcome.history {
        output::print_line(line)?;
    }
    output::print(&verdict(&outcome))?;
    Ok(if outcome.is_good() { Exit::DONE } else { Exit::DIFFERENT })
}

fn explain(simulation: &Simulation, batch: &Batch, outcome: Outcome, smallest: bool) -> Failure {
    if !smallest {
        return Failure { outcome, scenario: None, last_events: Vec::new() };
    }
    let seed = outcome.seed;
    let (scenario, outcome) = shrink(simulation, seed, &batch.scenario(seed));
    let last_events = simulation.run_keeping(seed, &scenario, Keep::Last(EVENTS_SHOWN)).history;
    Failure { outcome, scenario: Some(scenario.to_toml()), last_events }
}

fn verdict(outcome: &Outcome) -> String {
    let mut text = String::new();
    for violation in &outcome.violations {
        text += &format!("  {} at {:.3} s: {}\n", violation.check, violation.at_ms as f64 / 1_000.0, violation.detail);
    }
    if outcome.is_good() {
        text +=
            &format!("seed {}: all regions agree; {} changes, digest {:016x}\n", outcome.seed, outcome.changes, outcome.digest);
    }
    text
}

fn text(report: &Report, args: &SimArgs) -> String {
    let tally = &report.tally;
    let mut text = String::new();
    for failure in &report.failures {
        text += &format!("seed {} FAILED ({})\n{}", failure.outcome.seed, failure.outcome.scenario, verdict(&failure.outcome));
        if let Some(scenario) = &failure.scenario {
            text += &format!("\nThe last events:\n{}\n", failure.last_events.join("\n"));
            text += &format!("\nThe smallest scenario found that still fails:\n\n{scenario}\n");
            text += &format!(
                "Keep it in a file and see all of it: driftless sim --scenario FILE --seed {} --trace\n\n",
                failure.outcome.seed
            );
        }
    }
    let what = args.scenario.as_ref().map_or("the swarm".to_owned(), |path| path.display().to_string());
    text += &format!(
        "{} seeds of {what}: {} failed; {} changes ({} at least in a seed), {} admitted, {} of virtual time, {:.1} seeds/s\n",
        tally.seeds,
        tally.failed,
        tally.changes,
        tally.changes_min,
        tally.admitted,
        humantime::format_duration(Duration::from_secs(tally.virtual_seconds)),
        report.seeds_per_second,
    );
    let rows = |faults: bool| {
        let is_fault = |what: &str| FaultKind::ALL.iter().any(|kind| kind.name() == what);
        let counts = tally.counts.iter().filter(|(what, _)| is_fault(what) == faults);
        counts.map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect::<Vec<_>>()
    };
    let mut injected = rows(true);
    for kind in FaultKind::ALL.iter().filter(|kind| args.scenario.is_none() && !tally.counts.contains_key(kind.name())) {
        injected.push(vec![kind.name().to_owned(), "0".to_owned()]);
    }
    text += &format!("\n{}\n{}", output::table(&["injected", "times"], injected), output::table(&["seen", "times"], rows(false)));
    text
}

/// How far it is, on standard error.
struct Progress {
    clock: SystemClock,
    began: Now,
    shown: Duration,
    seeds: u64,
    terminal: bool,
}

impl Progress {
    fn new(seeds: u64) -> Self {
        let clock = SystemClock::start();
        let began = clock.now();
        Self { began, shown: began.monotonic, seeds, terminal: std::io::stderr().is_terminal(), clock }
    }

    fn show(&mut self, tally: &Tally) {
        let now = self.clock.now().monotonic;
        // Plain lines (a log file) come less often than a line that is written over.
        let every = if self.terminal { PROGRESS_EVERY } else { PROGRESS_EVERY * 10 };
        if now.saturating_sub(self.shown) < every {
            return;
        }
        self.shown = now;
        let rate = self.rate(tally);
        let left = Duration::from_secs(((self.seeds - tally.seeds) as f64 / rate.max(0.01)) as u64);
        let line = format!(
            "{} of {} seeds, {} failed, {rate:.1} seeds/s, {} left",
            tally.seeds,
            self.seeds,
            tally.failed,
            humantime::format_duration(left)
        );
        if self.terminal { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }

    fn rate(&self, tally: &Tally) -> f64 {
        tally.seeds as f64 / self.clock.now().since(self.began).as_secs_f64().max(0.001)
    }

    fn end(&self, tally: &Tally) -> f64 {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        self.rate(tally)
    }
}

//! The simulator as its users have it: the scenarios of this folder, the swarm, and that a seed is a history.

use driftless::testing::sim::{Batch, FaultKind, Keep, Scenario, Simulation, swarm};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;

/// Of each scenario; more of them are run by hand (`driftless sim --scenario F --seeds N`).
const SEEDS_OF_A_SCENARIO: u64 = 8;
/// Of the swarm, unless the environment asks for more (`scripts/test.sh` does).
const SEEDS_OF_THE_SWARM: u64 = 60;
const REGIONS: usize = 3;

fn run(batch: &Batch) -> driftless::testing::sim::Tally {
    batch.run(&Simulation::default(), &AtomicBool::new(false), |outcome, _| {
        assert!(
            outcome.is_good(),
            "{}: `driftless sim` shows more of seed {}: {:#?}",
            outcome.scenario,
            outcome.seed,
            outcome.violations
        );
        true
    })
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn every_scenario_of_this_folder_ends_well_with_every_one_of_its_faults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut names = 0;
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("readable");
        let scenario = Scenario::parse(&path.display().to_string(), &text).unwrap_or_else(|faults| panic!("{faults}"));
        let kinds: Vec<FaultKind> = scenario.faults.iter().map(|fault| fault.kind).collect();
        let batch = Batch { seeds: 0..SEEDS_OF_A_SCENARIO, scenario: Some(scenario), regions: REGIONS, threads: threads() };
        let tally = run(&batch);
        for kind in kinds {
            assert!(tally.counts.contains_key(kind.name()), "{}: {} never happened", path.display(), kind.name());
            if matches!(kind, FaultKind::Rebuild | FaultKind::Rollback) {
                assert!(tally.counts.contains_key("command killed"), "{}: no {} was killed", path.display(), kind.name());
            }
        }
        names += 1;
    }
    assert!(names > 5, "only {names} scenarios");
}

#[test]
fn seeds_of_the_swarm_end_well_and_every_kind_of_fault_happens() {
    let seeds =
        std::env::var("DRIFTLESS_SIM_SEEDS").map_or(SEEDS_OF_THE_SWARM, |seeds| seeds.parse().expect("a number of seeds"));
    let tally = run(&Batch { seeds: 0..seeds, scenario: None, regions: REGIONS, threads: threads() });
    assert_eq!(tally.failed, 0);
    assert!(tally.changes_min >= 1_000, "a seed wrote only {} changes", tally.changes_min);
    for kind in FaultKind::ALL {
        assert!(tally.counts.contains_key(kind.name()), "{} never happened in {seeds} seeds", kind.name());
    }
}

#[test]
fn a_seed_is_a_history_and_another_seed_another_one() {
    let simulation = Simulation::default();
    for seed in 0..5 {
        let scenario = swarm(seed, REGIONS);
        let (one, again) = (simulation.run(seed, &scenario), simulation.run_keeping(seed, &scenario, Keep::All));
        assert_eq!((one.digest, &one.counts), (again.digest, &again.counts), "seed {seed}");
        assert!(!again.history.is_empty());
        assert_ne!(one.digest, simulation.run(seed + 1_000, &scenario).digest, "seed {seed}");
    }
}

#[test]
fn a_scenario_is_written_as_it_is_read() {
    let scenario = swarm(3, REGIONS);
    assert_eq!(Scenario::parse("swarm.toml", &scenario.to_toml()).unwrap_or_else(|faults| panic!("{faults}")), scenario);
}

#[test]
fn everything_that_is_wrong_with_a_scenario_is_told_at_once_with_its_place() {
    let text = "regions = 1\nspeed = 3\n[[fault]]\nkind = \"kill_worker\"\nregion = \"mars\"\n";
    let faults = Scenario::parse("bad.toml", text).expect_err("it is bad").to_string();
    assert!(faults.contains("bad.toml:2:1: unknown key `speed`"), "{faults}");
    let text = "regions = 1\n[[fault]]\nkind = \"kill_worker\"\nregion = \"mars\"\n";
    let faults = Scenario::parse("bad.toml", text).expect_err("it is bad").to_string();
    assert!(faults.contains("2 to 8 regions") && faults.contains("either `at` or `every`"), "{faults}");
    let faults = Scenario::parse("bad.toml", "[[fault]]\nkind = \"kil_worker\"\n").expect_err("it is bad").to_string();
    assert!(faults.contains("kil_worker") && faults.contains("kill_worker"), "{faults}");
}

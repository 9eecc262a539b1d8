//! Swarm testing (Groce et al., "Swarm Testing", 2012): each seed draws its own mix of faults, workload and limits.
//! A mix that leaves most kinds out goes deeper than one that always has a little of everything.

use super::scenario::{FaultKind, FaultSpec, Scenario, WorkloadSpec};
use crate::testing::random::SplitMix64;
use std::time::Duration;

/// The scenario of one seed of the swarm. Every one writes at least 1 000 changes.
pub fn swarm(seed: u64, regions: usize) -> Scenario {
    let mut random = SplitMix64::new(seed ^ 0x5741_524d);
    let seconds = |random: &mut SplitMix64, low, high| Duration::from_secs(random.between(low, high));
    // The long ones see tombstones go, and what comes after them.
    let duration = if random.percent(15) { seconds(&mut random, 100, 170) } else { seconds(&mut random, 25, 70) };
    let mut scenario = Scenario {
        name: format!("swarm {seed}"),
        regions,
        partitions: random.between(1, 4) as i32,
        workers: random.between(1, 3) as usize,
        duration,
        // Short ones let tombstones go within the run.
        max_lateness: *random.one_of(&[Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(3600)]),
        heartbeat_interval: seconds(&mut random, 1, 3),
        link_delay: Duration::from_millis(random.between(1, 250)),
        append_queue: *random.one_of(&[10, 100, 10_000]),
        batch_bytes: *random.one_of(&[200, 2_000, 2 << 20]),
        buffer_bytes: *random.one_of(&[4_000, 100_000, 4 << 20]),
        workload: workload(&mut random),
        ..Scenario::default()
    };
    if random.percent(35) {
        scenario.scrub_pass = Some(seconds(&mut random, 4, 12));
    }
    for kind in FaultKind::ALL.iter().filter(|kind| !kind.is_command()) {
        let likely = if kind.needs_scrubber() { 60 * usize::from(scenario.scrub_pass.is_some()) } else { 30 };
        if random.percent(likely) {
            let every = seconds(&mut random, 4, 40);
            scenario.faults.push(FaultSpec { every: Some(every), ..FaultSpec::new(*kind) });
        }
    }
    if scenario.workers > 1 {
        scenario.standby_replicas = random.below(3);
    }
    with_commands(scenario, seed)
}

/// Drawn apart, so that all else of a seed is what it would be without them.
fn with_commands(mut scenario: Scenario, seed: u64) -> Scenario {
    let mut random = SplitMix64::new(seed ^ 0x434f_4d4d);
    let roll_back = random.percent(15);
    if roll_back {
        scenario = Scenario { max_lateness: Duration::from_secs(3600), ..scenario.with_clear_stamps() };
    }
    let mut kinds = vec![FaultKind::Rollback; usize::from(roll_back)];
    if random.percent(30) {
        kinds.extend([FaultKind::Rebuild, FaultKind::AliasTurnsBack]);
    }
    for kind in kinds {
        let every = Duration::from_secs(random.between(5, 20));
        scenario.faults.push(FaultSpec { every: Some(every), ..FaultSpec::new(kind) });
    }
    scenario
}

fn workload(random: &mut SplitMix64) -> WorkloadSpec {
    let mut percent = |of: u64| random.between(0, of) as usize;
    WorkloadSpec {
        delete_percent: percent(30),
        duplicate_percent: percent(20),
        disorder_percent: percent(25),
        tie_percent: percent(15),
        bad_percent: percent(6),
        keyless_percent: percent(8),
        // With late writes about, nobody could tell such changes apart.
        twin_percent: 0,
        json_percent: percent(10),
        refused_percent: percent(10),
        changes: random.between(1_000, 1_300) as usize,
        keys: *random.one_of(&[8, 40, 200]),
        disorder_max: Duration::from_secs(random.between(1, 9)),
        clock_skew: Duration::from_secs(random.between(0, 20)),
    }
}

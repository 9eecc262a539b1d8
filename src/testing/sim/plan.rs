//! From a scenario to what happens exactly when: everything that the scenario leaves open is drawn from the seed.

use super::scenario::{FaultKind, FaultSpec, Scenario};
use crate::testing::random::SplitMix64;
use std::time::Duration;

/// One fault, complete.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedFault {
    pub at: Duration,
    pub kind: FaultKind,
    pub span: Duration,
    pub region: usize,
    pub peer: usize,
    pub which: u64,
    pub amount: i64,
}

/// In the order of their times.
pub(super) fn plan(scenario: &Scenario, random: &mut SplitMix64) -> Vec<PlannedFault> {
    let mut planned = Vec::new();
    for fault in &scenario.faults {
        for at in times(fault, scenario.duration, random) {
            planned.push(complete(fault, at, scenario, random));
        }
    }
    planned.sort_by_key(|fault| fault.at);
    planned
}

/// What was planned, as a scenario that plans exactly that.
pub(super) fn as_scenario(planned: &[PlannedFault], scenario: &Scenario) -> Scenario {
    let names = scenario.region_names();
    let faults = planned.iter().map(|fault| FaultSpec {
        kind: fault.kind,
        at: Some(fault.at),
        every: None,
        span: Some(fault.span),
        region: Some(names[fault.region].to_owned()),
        peer: Some(names[fault.peer].to_owned()),
        which: Some(fault.which),
        amount: Some(fault.amount),
    });
    Scenario { faults: faults.collect(), ..scenario.clone() }
}

fn times(fault: &FaultSpec, duration: Duration, random: &mut SplitMix64) -> Vec<Duration> {
    let Some(every) = fault.every else { return fault.at.into_iter().collect() };
    let every = (every.as_millis() as u64).max(1);
    let mut times = Vec::new();
    let mut at = random.between(1, every);
    while Duration::from_millis(at) < duration {
        times.push(Duration::from_millis(at));
        at += random.between(every / 2 + 1, every + every / 2 + 1);
    }
    times
}

fn complete(fault: &FaultSpec, at: Duration, scenario: &Scenario, random: &mut SplitMix64) -> PlannedFault {
    let named = |name: &Option<String>| {
        let name = name.as_ref()?;
        scenario.region_names().iter().position(|region| region == name)
    };
    let region = named(&fault.region).unwrap_or_else(|| random.below(scenario.regions));
    // Another region than the first, whatever the file says: a link to oneself is none.
    let away = 1 + random.below(scenario.regions - 1);
    let peer = named(&fault.peer).filter(|peer| *peer != region).unwrap_or((region + away) % scenario.regions);
    let (longest, least, most) = measure(fault.kind);
    let longest = fault.span.unwrap_or(longest).as_millis() as u64;
    // An exact time asks for an exact length.
    let span = if fault.at.is_some() && fault.span.is_some() { longest } else { random.between(longest / 4, longest) };
    let drawn = least + random.below((most - least + 1) as usize) as i64;
    PlannedFault {
        at,
        kind: fault.kind,
        span: Duration::from_millis(span),
        region,
        peer,
        which: fault.which.unwrap_or_else(|| random.next() & 0xffff),
        amount: fault.amount.unwrap_or(drawn),
    }
}

/// Of each kind: how long it lasts at most, and the bounds of its amount, where nothing is said.
fn measure(kind: FaultKind) -> (Duration, i64, i64) {
    let seconds = Duration::from_secs;
    match kind {
        FaultKind::KillWorker | FaultKind::StopWorker | FaultKind::StartWorker => (seconds(3), 0, 0),
        FaultKind::KillWorkerMidRound => (seconds(3), 0, 40),
        FaultKind::PauseWorker => (seconds(60), 0, 0),
        // Longer ones can outlive the safety window of the next owner: that is for the scrubber.
        FaultKind::PauseWorkerMidRound => (seconds(18), 0, 40),
        FaultKind::CutWorkerFromLog => (seconds(20), 0, 0),
        FaultKind::StoreDown | FaultKind::StoreHangs => (seconds(12), 0, 0),
        FaultKind::StoreThrottles => (seconds(10), 20, 100),
        FaultKind::StoreSlow => (seconds(10), 200, 7_000),
        FaultKind::StoreLosesReplies | FaultKind::StoreLandsLate => (seconds(10), 10, 60),
        FaultKind::CollectionUnloaded => (seconds(25), 0, 0),
        FaultKind::LinkCut => (seconds(20), 0, 0),
        FaultKind::LinkSlow => (seconds(10), 200, 3_000),
        FaultKind::LinkRestart | FaultKind::MirrorRecreated => (seconds(0), 0, 0),
        FaultKind::LogDown => (seconds(12), 0, 0),
        FaultKind::LogSlow => (seconds(10), 50, 2_000),
        FaultKind::AppendFails | FaultKind::ControlRecords => (seconds(0), 1, 5),
        FaultKind::Compaction | FaultKind::Retention => (seconds(0), 0, 0),
        FaultKind::WorkerClockJump | FaultKind::WriterClockJump => (seconds(0), -60_000, 60_000),
        FaultKind::BrokerClockJump => (seconds(0), -10_000, 10_000),
        FaultKind::RegistrySilent => (seconds(15), 0, 0),
        FaultKind::RowVanishes => (seconds(0), 0, 0),
        FaultKind::RowOverwritten => (seconds(0), 0, 2),
        FaultKind::RowAppears => (seconds(0), 0, 2),
        FaultKind::Rebuild | FaultKind::Rollback => (seconds(25), -150, 150),
        FaultKind::AliasTurnsBack => (seconds(0), 1, 2),
    }
}

//! A run from its beginning to its verdict: the faults, the healing, the settling, the last looks.

use super::check::content::{self, Oracle, Region};
use super::check::dead_letters;
use super::inject;
use super::trace::Violation;
use super::world::World;
use crate::adapter::embedded::vector::EmbeddedCollections;
use crate::base::ids::TopicPartition;
use crate::base::time::Clock;
use crate::port::vector::VectorAdmin;
use crate::region::topics::REPAIR;
use std::any::Any;
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(200);
/// How long a lost or late write may still do harm (DESIGN 1, safety window), and what its repair takes.
const AFTERMATH: Duration = Duration::from_secs(42);
/// What the scrubber's last repairs take.
const LAST_REPAIRS: Duration = Duration::from_secs(5);
/// Beside two heartbeats and the way: what settling a heartbeat takes at most when nothing else goes on.
const IDLE_FRONTIER_SLACK: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Ended {
    pub violations: Vec<Violation>,
    pub virtual_ms: u64,
    pub changes: u64,
    pub admitted: u64,
}

impl Ended {
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let detail = text.unwrap_or_else(|| "a panic without a message".to_owned());
        Self { violations: vec![Violation { check: "no panic", at_ms: 0, detail }], ..Self::default() }
    }
}

pub(super) fn run(world: &mut World) -> Ended {
    let changes = world.writes_left as u64;
    world.run_until(world.scenario.duration);
    // What the writers have left over they write now.
    while world.writes_left > 0 && !is_over(world) {
        world.run_until(world.now() + LOOK);
    }
    inject::heal(world);
    let mut admitted = 0;
    if settle(world) {
        world.run_until(world.now() + AFTERMATH);
        if settle(world) && sweep(world) && settle(world) {
            admitted = verify(world);
        }
    }
    if let Some(broken) = world.broken.take() {
        world.violations.add("goes on", world.now(), broken);
    }
    let virtual_ms = world.now().as_millis() as u64;
    Ended { violations: world.violations.take(), virtual_ms, changes, admitted }
}

fn is_over(world: &World) -> bool {
    world.broken.is_some() || world.violations.any()
}

/// Until everything written so far has been copied everywhere and is settled everywhere. Twice, since a change
/// without a good key is appended again.
fn settle(world: &mut World) -> bool {
    let deadline = world.now() + world.scenario.heal_within;
    for _ in 0..2 {
        let written = local_ends(world);
        if !wait(world, deadline, |world| copied(world, &written)) {
            return false;
        }
        let ends = source_ends(world);
        if !wait(world, deadline, |world| settled(world, &ends)) {
            return false;
        }
    }
    true
}

fn wait(world: &mut World, deadline: Duration, done: impl Fn(&World) -> bool) -> bool {
    while !done(world) {
        if is_over(world) {
            return false;
        }
        if world.now() > deadline {
            let detail = format!("not settled {:?} after the healing: {}", world.scenario.heal_within, state(world));
            world.violations.add("converges", world.now(), detail);
            return false;
        }
        world.run_until(world.now() + LOOK);
    }
    !is_over(world)
}

/// Until the scrubbers have been through everything once from here on, and have put right what they found.
fn sweep(world: &mut World) -> bool {
    let Some(pass) = world.scenario.scrub_pass else { return true };
    world.swept = floors(world);
    let before = passes(world);
    let deadline = world.now() + world.scenario.heal_within;
    // The pass that is under way, and a whole one.
    let through = |world: &World| passes(world).iter().all(|(who, done)| *done >= before.get(who).map_or(0, |before| before + 2));
    let swept = wait(world, deadline, through);
    world.run_until(world.now() + pass * 2 + LAST_REPAIRS);
    swept
}

/// Whole passes of each task and each walk.
fn passes(world: &World) -> HashMap<(u64, String), u64> {
    let mut passes = HashMap::new();
    for worker in world.regions.iter().flat_map(|region| &region.workers) {
        let report = worker.report();
        for task in report.tasks {
            passes.insert((worker.id, task.task), task.scrub.passes);
        }
        // One that has no task walks nowhere.
        if passes.keys().any(|(id, _)| *id == worker.id) {
            passes.insert((worker.id, "walk".to_owned()), report.walks.iter().map(|walk| walk.passes).sum());
        }
    }
    passes
}

/// Of each region, by partition; of one that lacks records none.
fn floors(world: &World) -> Vec<HashMap<i32, i64>> {
    let of = |tasks: Vec<crate::stream::report::TaskReport>| {
        let whole = tasks.into_iter().filter(|task| task.incomplete.is_empty());
        whole.filter_map(|task| Some((task.partition, task.floor_ms?))).collect::<Vec<_>>()
    };
    let floors = world.regions.iter().map(|region| {
        let reports = region.workers.iter().map(|worker| of(worker.report().tasks));
        reports.flatten().collect()
    });
    floors.collect()
}

fn local_ends(world: &World) -> Vec<(usize, TopicPartition, i64)> {
    let mut ends = Vec::new();
    for region in &world.regions {
        for partition in 0..world.rules.partitions {
            let at = TopicPartition::new(world.names.local(0), partition);
            let end = region.broker.bounds(&at).map_or(0, |bounds| bounds.end);
            ends.push((region.index, at, end));
        }
    }
    ends
}

fn copied(world: &World, written: &[(usize, TopicPartition, i64)]) -> bool {
    world.operators.are_idle()
        && world.regions.iter().all(|region| region.wrecks.is_empty())
        && written.iter().all(|(region, at, end)| {
            let links = world.links.iter().filter(|link| link.from == *region);
            links.into_iter().all(|link| link.link.position(at) >= *end)
        })
}

fn source_ends(world: &World) -> Vec<HashMap<TopicPartition, i64>> {
    let ends = |region: usize| {
        let repair = (0..world.rules.partitions).map(|partition| TopicPartition::new(world.names.repair(0), partition));
        let sources = world.sources(region).into_iter().chain(repair);
        let broker = &world.regions[region].broker;
        sources.map(|at| (at.clone(), broker.bounds(&at).map_or(0, |bounds| bounds.end))).collect()
    };
    (0..world.regions.len()).map(ends).collect()
}

/// Every partition has one owner in each region, which runs, has nothing in flight and has passed these ends.
fn settled(world: &World, ends: &[HashMap<TopicPartition, i64>]) -> bool {
    world.regions.iter().all(|region| {
        let tasks: Vec<_> = region.workers.iter().flat_map(|worker| worker.report().tasks).collect();
        tasks.len() == world.rules.partitions as usize
            && tasks.iter().all(|task| {
                task.state == "running"
                    && task.in_flight == 0
                    && task.sources.iter().all(|source| {
                        let at = TopicPartition::new(source.topic.as_str(), task.partition);
                        source.present && ends[region.index].get(&at).is_some_and(|end| source.next_offset >= *end)
                    })
            })
    })
}

/// What is not settled, in words.
fn state(world: &World) -> String {
    let ends = source_ends(world);
    let mut text = world.operators.state();
    for region in &world.regions {
        for worker in &region.workers {
            for task in worker.report().tasks {
                let open: Vec<String> = task
                    .sources
                    .iter()
                    .filter_map(|source| {
                        let at = TopicPartition::new(source.topic.as_str(), task.partition);
                        let end = ends[region.index].get(&at).copied().unwrap_or(0);
                        (source.next_offset < end).then(|| format!("{} {} of {end}", at, source.next_offset))
                    })
                    .collect();
                text += &format!(
                    "{}: worker {} task {} {}, in flight {}, {open:?}, scrubbed {} times; ",
                    region.name, worker.id, task.task, task.state, task.in_flight, task.scrub.passes
                );
            }
            for walk in worker.report().walks {
                text += &format!("{}: worker {} walked {} times; ", region.name, worker.id, walk.passes);
            }
        }
    }
    text
}

/// The last looks. Answers how many changes were admitted.
fn verify(world: &mut World) -> u64 {
    let now = world.now();
    let mut oracle = Oracle::without(world.operators.undone.clone());
    for region in &world.regions {
        for record in &region.archive {
            oracle.take(record, &world.workload, &world.rules);
        }
        for partition in 0..world.rules.partitions {
            let at = TopicPartition::new(world.names.local(0), partition);
            let first = region.broker.bounds(&at).map_or(0, |bounds| bounds.first);
            let read = region.broker.read(&at, first, usize::MAX, |record| oracle.take(&record, &world.workload, &world.rules));
            if let Err(error) = read {
                world.violations.add("nothing lost", now, format!("{at} can't be read: {error}"));
            }
        }
    }
    oracle.verify_rekeyed(now, &world.violations);
    for region in &world.regions {
        let floors = world.swept.get(region.index);
        let spared =
            region.checks.lock().unwrap_or_else(PoisonError::into_inner).foreign.spared(now, floors, world.rules.partitions);
        let looked_at = Region {
            index: region.index,
            name: region.name.as_str(),
            broker: &region.broker,
            database: &region.database,
            spared: &spared,
        };
        content::verify(now, &looked_at, &oracle, &world.names, &world.workload, &world.rules, &world.violations);
        dead_letters::verify(
            now,
            &dead_letters::Place {
                broker: &region.broker,
                names: &world.names,
                sources: &world.sources(region.index),
                recreated: &region.recreated,
            },
            &world.workload,
            &world.rules,
            &world.violations,
        );
    }
    verify_aliases(world);
    verify_idle_frontiers(world);
    verify_idle_lag(world);
    oracle.admitted
}

/// Each alias stands for what the last rebuild that is done has made.
fn verify_aliases(world: &World) {
    for ((region, collection), standing) in &world.operators.standing {
        let region = &world.regions[*region];
        let name = &region.collections.get(*collection).name;
        let found = EmbeddedCollections(region.database.clone()).alias(name);
        if !matches!(&found, Ok(Some(found)) if found == standing) {
            let detail = format!("region {}: the alias {name} stands for {found:?}, must for {standing}", region.name);
            world.violations.add("alias", world.now(), detail);
        }
    }
}

/// With nothing to do there is no lag, whatever the clocks were and are.
fn verify_idle_lag(world: &World) {
    for region in &world.regions {
        let tasks = region.workers.iter().flat_map(|worker| worker.report().tasks);
        for (task, source) in tasks.flat_map(|task| task.sources.into_iter().map(move |source| (task.task.clone(), source))) {
            // It has no heartbeats, and no lag.
            if source.region == REPAIR {
                continue;
            }
            if source.lag_ms.values().any(|lag_ms| *lag_ms != 0) || source.lag_ms.is_empty() {
                let detail = format!(
                    "region {} idles, and task {task} lags behind {} by {:?} ms; {:?}",
                    region.name, source.region, source.lag_ms, source.lag
                );
                world.violations.add("lag", world.now(), detail);
            }
        }
    }
}

/// With nothing to do, the frontiers follow the heartbeats.
fn verify_idle_frontiers(world: &World) {
    for region in &world.regions {
        for (name, frontier_ms) in region.workers.iter().flat_map(|worker| worker.report().oldest_frontiers()) {
            let Some(origin) = world.regions.iter().find(|origin| origin.name.as_str() == name) else { continue };
            let age_ms = origin.broker_clock.now().wall.0 - frontier_ms;
            let allowed = world.scenario.heartbeat_interval * 2 + world.scenario.link_delay + IDLE_FRONTIER_SLACK;
            if age_ms > allowed.as_millis() as i64 {
                let detail = format!("region {} idles, and its frontier of {name} is {age_ms} ms old", region.name);
                world.violations.add("frontier", world.now(), detail);
            }
        }
    }
}

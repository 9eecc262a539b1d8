//! An operator who rebuilds a collection or rolls a region back while everything else goes on: the commands' own code.
//! It is killed somewhere on its way, or fails, and then is begun again, until it is done.

mod baton;
mod commands;
mod ports;

use super::check::undone::Undone;
use super::clock::{EPOCH_MS, NodeClock, Timeline};
use super::interrupt::Interrupt;
use super::plan::PlannedFault;
use super::region::SimRegion;
use super::registry::SilentRegistries;
use super::scenario::FaultKind;
use super::trace::Trace;
use super::worker::Lines;
use super::workload::COLLECTIONS;
use super::world::World;
use crate::base::error::Error;
use crate::base::ids::{CollectionId, Region};
use crate::base::time::{Clock, UnixMs};
use crate::ops::history::Setting;
use crate::ops::job::JobFile;
use crate::testing::random::SplitMix64;
use baton::Process;
use commands::Desk;
use std::collections::BTreeMap;
use std::time::Duration;

/// Commands are numbered like workers, from here on.
const FIRST_ID: u64 = 1_000_000;
/// Of what a killed process had handed over, so much is lost.
const LOST_PERCENT: usize = 40;
/// Records that it may have handed to its log client and not seen acknowledged.
const APPEND_QUEUE: usize = 20;
/// What begins anew although it was not killed: somebody reads the message first.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// How far back in time a roll-back goes.
const BACK_MS: (u64, u64) = (1_000, 15_000);
/// Nothing is known of earlier ones: there are no changes of them.
const FIRST_INSTANT: Duration = Duration::from_secs(6);

/// What is to be done.
#[derive(Clone)]
enum Command {
    Rebuild { collection: CollectionId, drop_old: bool, file: JobFile },
    Rollback { to: UnixMs, collections: Vec<CollectionId>, origin: Option<Region>, writer: u16, file: JobFile },
}

/// What is done.
enum Done {
    Rebuilt { collection: CollectionId, standing: String },
    RolledBack(Undone),
}

type Ended = Result<Done, Error>;

enum State {
    Waits { until: Duration },
    Works { process: Process<Ended>, lines: Lines },
}

struct Operator {
    id: u64,
    region: usize,
    command: Command,
    state: State,
    /// The first process is killed when it has waited so often.
    lives: Option<u64>,
    again: Duration,
    /// Why the last attempt ended, if there was one.
    last_error: String,
}

/// What an operator needs of the world.
struct Surroundings<'a> {
    region: &'a mut SimRegion,
    setting: Setting,
    timeline: &'a Timeline,
    registries: &'a SilentRegistries,
    trace: &'a Trace,
    random: &'a mut SplitMix64,
}

/// All of them, and what they have done.
#[derive(Default)]
pub(super) struct Operators {
    at_work: Vec<Operator>,
    begun: u64,
    pub undone: Vec<Undone>,
    /// When the last roll-back was done: another one does not go back beyond it.
    undone_by: UnixMs,
    /// What the aliases must stand for.
    pub standing: BTreeMap<(usize, CollectionId), String>,
}

impl Operators {
    pub fn are_idle(&self) -> bool {
        self.at_work.is_empty()
    }

    /// When one of them does something next.
    pub fn due(&self) -> Option<Duration> {
        self.at_work.iter().map(Operator::due).min()
    }

    /// From here on nothing kills their processes.
    pub fn spare(&mut self, now: Duration) {
        self.at_work.iter_mut().for_each(|operator| operator.spare(now));
    }

    /// Why those at work are not done yet.
    pub fn state(&self) -> String {
        let state = |operator: &Operator| format!("command {}, last error: {}; ", operator.id, operator.last_error);
        self.at_work.iter().map(state).collect()
    }

    fn take(&mut self, region: usize, done: Done, now: UnixMs, trace: &Trace) {
        match done {
            Done::Rebuilt { collection, standing } => {
                trace.count(FaultKind::Rebuild.name(), 1);
                self.standing.insert((region, collection), standing);
            }
            Done::RolledBack(undone) => {
                trace.count(FaultKind::Rollback.name(), 1);
                self.undone.push(undone);
                self.undone_by = now;
            }
        }
    }
}

/// An operator begins, unless another is about the same.
pub(super) fn begin(world: &mut World, fault: &PlannedFault) -> bool {
    let rebuild = fault.kind == FaultKind::Rebuild;
    let busy = world.operators.at_work.iter().any(|other| match other.command {
        Command::Rebuild { .. } => rebuild && other.region == fault.region,
        Command::Rollback { .. } => !rebuild,
    });
    let now = wall(&world.timeline);
    let not_before = world.operators.undone_by.max(UnixMs(EPOCH_MS).plus(FIRST_INSTANT));
    if busy || !rebuild && now.since_ms(not_before) < BACK_MS.0 as i64 {
        return false;
    }
    world.operators.begun += 1;
    let id = FIRST_ID + world.operators.begun;
    let operator = Operator::new(id, fault, &world.region_names, now, not_before, &mut world.random);
    world.operators.at_work.push(operator);
    true
}

pub(super) fn step(world: &mut World, now: Duration) {
    let mut at_work = std::mem::take(&mut world.operators.at_work);
    at_work.retain_mut(|operator| {
        let surroundings = Surroundings {
            setting: setting(world, operator.region),
            region: &mut world.regions[operator.region],
            timeline: &world.timeline,
            registries: &world.registries,
            trace: &world.trace,
            random: &mut world.random,
        };
        let Some(done) = operator.step(surroundings, now) else { return true };
        world.operators.take(operator.region, done, wall(&world.timeline), &world.trace);
        false
    });
    world.operators.at_work = at_work;
}

fn setting(world: &World, region: usize) -> Setting {
    let name = &world.region_names[region];
    Setting {
        region: name.clone(),
        peers: world.region_names.iter().filter(|peer| *peer != name).cloned().collect(),
        names: world.names.clone(),
        partitions: world.rules.partitions,
        collections: world.regions[region].collections.clone(),
        max_lateness_ms: world.rules.max_lateness_ms,
    }
}

/// The instant that an unskewed clock shows.
fn wall(timeline: &Timeline) -> UnixMs {
    NodeClock::new(timeline, 0).now().wall
}

impl Operator {
    /// `not_before`: what was written until then is not undone any more.
    fn new(id: u64, fault: &PlannedFault, regions: &[Region], now: UnixMs, not_before: UnixMs, random: &mut SplitMix64) -> Self {
        let file = JobFile::in_memory();
        let command = if fault.kind == FaultKind::Rebuild {
            let collection = CollectionId((fault.which % COLLECTIONS) as u16);
            Command::Rebuild { collection, drop_old: (fault.which / COLLECTIONS).is_multiple_of(2), file }
        } else {
            // All of them, or one.
            let one_of = |number: u64, count: u64| Some(number % (count + 1)).filter(|number| *number < count);
            let origin = one_of(fault.which, regions.len() as u64).map(|number| regions[number as usize].clone());
            let collection = one_of(fault.which / 16, COLLECTIONS).map(|number| CollectionId(number as u16));
            let back = Duration::from_millis(random.between(BACK_MS.0, BACK_MS.1));
            let to = now.minus(back).max(not_before);
            Command::Rollback { to, collections: collection.into_iter().collect(), origin, writer: random.next() as u16, file }
        };
        let lives = u64::try_from(fault.amount).ok();
        let state = State::Waits { until: Duration::ZERO };
        Self { id, region: fault.region, command, state, lives, again: fault.span, last_error: "none yet".to_owned() }
    }

    fn due(&self) -> Duration {
        match &self.state {
            State::Waits { until } => *until,
            State::Works { process, lines } => lines.due().map_or(process.due, |due| due.min(process.due)),
        }
    }

    /// From here on nothing kills it, and it goes on at once.
    fn spare(&mut self, now: Duration) {
        self.lives = None;
        match &mut self.state {
            State::Waits { until } => *until = now,
            State::Works { process, .. } => process.spare(),
        }
    }

    /// Does what is due. Answers with what is done, once it is.
    fn step(&mut self, surroundings: Surroundings<'_>, now: Duration) -> Option<Done> {
        match &mut self.state {
            State::Waits { until } if *until > now => None,
            State::Waits { .. } => {
                self.begin(surroundings, now);
                None
            }
            State::Works { process, lines } => {
                lines.advance(now);
                if process.due > now {
                    return None;
                }
                let ended = process.step(now)?;
                let killed = process.was_killed();
                self.end(ended, killed, surroundings, now)
            }
        }
    }

    fn begin(&mut self, surroundings: Surroundings<'_>, now: Duration) {
        let Surroundings { region, setting, timeline, registries, trace, random } = surroundings;
        trace.note(now, "command begins", &[self.id], || format!("command {} in {}", self.id, region.name));
        let clock = NodeClock::new(timeline, 0);
        let interrupt = Interrupt::new(clock.clone());
        let lines = Lines::new(region, &interrupt, trace, random, APPEND_QUEUE, self.id);
        let desk = Desk {
            setting,
            clock,
            timeline: timeline.clone(),
            broker: region.broker.clone(),
            database: region.database.clone(),
            aliases: region.aliases.clone(),
            weather: region.store_weather.clone(),
            registries: registries.clone(),
            lines: lines.clone(),
            trace: trace.clone(),
            id: self.id,
        };
        let command = self.command.clone();
        let process = Process::start(self.lives.take(), random.fork(), now, move |baton| desk.run(&command, baton));
        self.state = State::Works { process, lines };
    }

    fn end(&mut self, ended: Ended, killed: bool, surroundings: Surroundings<'_>, now: Duration) -> Option<Done> {
        let Surroundings { region, trace, .. } = surroundings;
        let wait = if killed { self.again } else { AGAIN_AFTER };
        let ended_state = std::mem::replace(&mut self.state, State::Waits { until: now + wait });
        if let State::Works { lines, .. } = ended_state {
            lines.orphan(if killed { LOST_PERCENT } else { 0 });
            region.wrecks.push(lines);
        }
        trace.note(now, "command ends", &[self.id, u64::from(killed), u64::from(ended.is_ok())], || {
            let outcome = ended.as_ref().err().map_or("done".to_owned(), Error::to_string);
            format!("command {}: {}{outcome}", self.id, if killed { "killed, " } else { "" })
        });
        match ended {
            // Who was killed has said nothing.
            _ if killed => trace.count("command killed", 1),
            Ok(done) => return Some(done),
            Err(error) => {
                trace.count("command failed", 1);
                self.last_error = error.to_string();
            }
        }
        None
    }
}

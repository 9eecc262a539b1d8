//! Drives the links between the regions: moves what they carry, cuts them and heals them again, by plan or by hand.

use super::board::Board;
use super::pace::{Pace, Stop};
use super::world::{Link, World};
use crate::adapter::embedded::broker::BrokerError;
use crate::base::time::{Clock, Now};
use std::time::Duration;

/// How finely the links' delay is kept.
const STEP: Duration = Duration::from_millis(2);
/// Which pair is cut, as places in the list of regions, and for which part of the run.
const CUT_PAIR: (usize, usize) = (0, 1);
const CUT_FROM: f64 = 0.38;
const CUT_UNTIL: f64 = 0.58;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeCut,
    Cut,
    Healed,
}

/// Runs until it is stopped, and cuts a pair for a while as planned.
pub(super) fn run(world: &World, pace: Pace, board: &Board, stop: &Stop) -> Result<(), BrokerError> {
    let mut phase = Phase::BeforeCut;
    while !stop.wait(STEP) {
        let now = world.clock.now();
        phase = keep_to_schedule(phase, world, pace, now, board)?;
        step(world, now, board)?;
    }
    Ok(())
}

/// Runs until it is stopped; links are cut by hand alone.
pub(super) fn carry(world: &World, board: &Board, stop: &Stop) -> Result<(), BrokerError> {
    while !stop.wait(STEP) {
        step(world, world.clock.now(), board)?;
    }
    Ok(())
}

fn step(world: &World, now: Now, board: &Board) -> Result<(), BrokerError> {
    let mut copied = 0;
    for link in world.links().iter_mut() {
        copied += link.mirror.step(now)?;
    }
    for region in &world.regions {
        region.database.wake_due();
    }
    if copied > 0 {
        board.changed();
    }
    Ok(())
}

/// Answers how many records waited. Its MirrorMaker begins again where it committed last: what it copied since comes
/// twice.
pub(super) fn heal(link: &mut Link) -> Result<i64, BrokerError> {
    let held_back = link.mirror.outstanding()?;
    link.mirror.restart();
    link.mirror.heal();
    Ok(held_back)
}

fn keep_to_schedule(phase: Phase, world: &World, pace: Pace, now: Now, board: &Board) -> Result<Phase, BrokerError> {
    let fraction = pace.fraction(now);
    let (a, b) = (&world.regions[CUT_PAIR.0].region, &world.regions[CUT_PAIR.1].region);
    let at = now.since(pace.started);
    let mut links = world.links();
    let pair = links.iter_mut().filter(|link| [CUT_PAIR, (CUT_PAIR.1, CUT_PAIR.0)].contains(&(link.from, link.to)));
    match phase {
        Phase::BeforeCut if fraction >= CUT_FROM => {
            for link in pair {
                link.mirror.cut();
            }
            board.event(at, format!("the link between {a} and {b} is cut"));
            Ok(Phase::Cut)
        }
        Phase::Cut if fraction >= CUT_UNTIL => {
            let mut held_back = 0;
            for link in pair {
                held_back += heal(link)?;
            }
            board.event(at, format!("the link between {a} and {b} is healed; {held_back} records waited"));
            board.healed(held_back);
            Ok(Phase::Healed)
        }
        other => Ok(other),
    }
}

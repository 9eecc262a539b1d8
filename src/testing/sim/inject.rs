//! Carrying out faults, and ending those that last.

use super::interrupt::Blow;
use super::meddle;
use super::operator;
use super::plan::PlannedFault;
use super::region::SimRegion;
use super::scenario::FaultKind;
use super::worker::Pause;
use super::workload::COLLECTIONS;
use super::world::World;
use crate::adapter::embedded::broker::{Compaction, TimestampType};
use crate::base::ids::{CollectionId, TopicPartition};
use crate::base::time::Clock;
use std::sync::PoisonError;
use std::time::Duration;

/// Of what a dead worker had handed over, so much is lost (by the order of each partition).
const LOST_PERCENT: usize = 40;
/// More workers than this are not started in a region.
const WORKERS_MAX: usize = 4;

/// How long a process that went on may not know what its group did meanwhile.
const DEAF_MAX: Duration = Duration::from_millis(2_000);
/// A proxy that learns the old collection does so soon.
const TURNS_BACK_WITHIN_MS: u64 = 600;
/// A stop waits for rows under way: one with nothing in hand does no harm.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// The cleaner's rules in a run of minutes: nothing may be compacted that the safety window still needs.
pub(super) const COMPACTION: Compaction =
    Compaction { min_lag: Duration::from_secs(45), delete_retention: Duration::from_secs(60) };

pub(super) fn strike(world: &mut World, fault: &PlannedFault, now: Duration) {
    if apply(world, fault, now) {
        world.trace.count(fault.kind.name(), u64::from(!fault.kind.is_command()));
        let numbers = [fault.region as u64, fault.peer as u64, fault.which, fault.amount as u64];
        world.trace.note(now, fault.kind.name(), &numbers, || {
            let name = &world.regions[fault.region].name;
            let (span, which, amount) = (humantime::format_duration(fault.span), fault.which, fault.amount);
            format!("in {name}, for {span}, which {which}, amount {amount}, peer {}", world.regions[fault.peer].name)
        });
    }
}

/// False where there is nothing that it could happen to.
fn apply(world: &mut World, fault: &PlannedFault, now: Duration) -> bool {
    let until = now + fault.span;
    match fault.kind {
        FaultKind::KillWorker
        | FaultKind::KillWorkerMidRound
        | FaultKind::StopWorker
        | FaultKind::StartWorker
        | FaultKind::PauseWorker
        | FaultKind::PauseWorkerMidRound
        | FaultKind::CutWorkerFromLog
        | FaultKind::WorkerClockJump => return to_worker(world, fault, now),
        FaultKind::LinkCut | FaultKind::LinkSlow | FaultKind::LinkRestart | FaultKind::MirrorRecreated => {
            return to_link(world, fault, until);
        }
        FaultKind::Compaction => compact(world, fault),
        FaultKind::Retention => return retain(world, fault),
        FaultKind::ControlRecords => leave_holes(world, fault),
        FaultKind::RegistrySilent => {
            let region = &mut world.regions[fault.region];
            prolong(&mut region.spells.registry, until);
            world.registries.set(&region.name, true);
        }
        FaultKind::WriterClockJump => world.regions[fault.region].writer_clock.jump(fault.amount),
        FaultKind::BrokerClockJump => {
            // A broker's clock is never far off for long: admission allows it a minute.
            let clock = world.regions[fault.region].broker_clock.clone();
            if (clock.skew_ms() + fault.amount).abs() <= 12_000 {
                let before = clock.now().wall;
                clock.jump(fault.amount);
                for region in &world.regions {
                    let mut checks = region.checks.lock().unwrap_or_else(PoisonError::into_inner);
                    checks.broker_clock_set_back(fault.region, world.rules.partitions, before);
                }
            }
        }
        FaultKind::RowVanishes | FaultKind::RowOverwritten | FaultKind::RowAppears => {
            return meddle::with_rows(&mut world.regions[fault.region], fault, now);
        }
        FaultKind::Rebuild | FaultKind::Rollback => return operator::begin(world, fault),
        FaultKind::AliasTurnsBack => {
            let after = Duration::from_millis(fault.which % TURNS_BACK_WITHIN_MS);
            world.regions[fault.region].aliases.arm(fault.amount.unsigned_abs(), after);
        }
        _ => weather(&mut world.regions[fault.region], fault, until),
    }
    true
}

fn prolong(spell: &mut Option<Duration>, until: Duration) {
    *spell = Some(spell.map_or(until, |earlier| earlier.max(until)));
}

/// Faults of a region's log and vector store.
fn weather(region: &mut SimRegion, fault: &PlannedFault, until: Duration) {
    let mut log = region.log_weather.lock().unwrap_or_else(PoisonError::into_inner);
    let mut store = region.store_weather.lock().unwrap_or_else(PoisonError::into_inner);
    let spells = &mut region.spells;
    let amount = fault.amount.unsigned_abs();
    match fault.kind {
        FaultKind::StoreDown => {
            store.down = true;
            prolong(&mut spells.store_down, until);
        }
        FaultKind::StoreHangs => {
            store.hangs = true;
            prolong(&mut spells.store_hangs, until);
        }
        FaultKind::StoreThrottles => {
            store.throttles_percent = amount as usize;
            prolong(&mut spells.store_throttles, until);
        }
        FaultKind::StoreSlow => {
            store.slow_ms = amount;
            prolong(&mut spells.store_slow, until);
        }
        FaultKind::StoreLosesReplies => {
            store.loses_replies_percent = amount as usize;
            prolong(&mut spells.store_loses, until);
        }
        FaultKind::StoreLandsLate => {
            store.lands_late_percent = amount as usize;
            prolong(&mut spells.store_late, until);
        }
        FaultKind::CollectionUnloaded => {
            store.unloaded = Some(CollectionId((fault.which % COLLECTIONS) as u16));
            prolong(&mut spells.unloaded, until);
        }
        FaultKind::LogDown => {
            log.down = true;
            prolong(&mut spells.log_down, until);
        }
        FaultKind::LogSlow => {
            log.slow_ms = amount;
            prolong(&mut spells.log_slow, until);
        }
        FaultKind::AppendFails => log.fails += amount as u32,
        _ => {}
    }
}

fn to_worker(world: &mut World, fault: &PlannedFault, now: Duration) -> bool {
    let region = fault.region;
    if fault.kind == FaultKind::StartWorker {
        if world.regions[region].workers.len() >= WORKERS_MAX {
            return false;
        }
        world.start_worker(region);
        return true;
    }
    let workers = &mut world.regions[region].workers;
    if workers.is_empty() {
        return false;
    }
    let index = (fault.which as usize) % workers.len();
    let worker = &mut workers[index];
    let effects = fault.amount.unsigned_abs();
    match fault.kind {
        FaultKind::KillWorker => {
            bury(world, region, index);
            world.regions[region].starts.push(now + fault.span);
            return true;
        }
        FaultKind::KillWorkerMidRound => {
            worker.interrupt.arm(effects, Blow::Kill);
            world.regions[region].starts.push(now + fault.span);
            return true;
        }
        FaultKind::StopWorker => {
            worker.stop();
            world.regions[region].starts.push(now + fault.span);
            return true;
        }
        FaultKind::PauseWorker => {
            let deaf = DEAF_MAX * (fault.which % 8) as u32 / 8;
            worker.pause = Some(Pause { latest: now + BUSY_WITHIN, span: fault.span, deaf });
        }
        FaultKind::PauseWorkerMidRound => worker.interrupt.arm(effects, Blow::Pause(fault.span)),
        FaultKind::CutWorkerFromLog => {
            worker.lines.set_cut(true);
            worker.cut_until = Some(now + fault.span);
        }
        _ => worker.clock.jump(fault.amount),
    }
    true
}

/// Removes a dead worker; what it had handed over is a wreck of its own.
pub(super) fn bury(world: &mut World, region: usize, index: usize) {
    let worker = world.regions[region].workers.remove(index);
    worker.lines.orphan(LOST_PERCENT);
    let id = worker.id;
    world.trace.note(world.now(), "worker is dead", &[id], || format!("worker {id}"));
    world.regions[region].disks.extend(worker.disk.clone());
    world.regions[region].wrecks.push(worker.lines.clone());
}

fn to_link(world: &mut World, fault: &PlannedFault, until: Duration) -> bool {
    let wanted = (fault.peer, fault.region);
    let Some(link) = world.links.iter_mut().find(|link| (link.from, link.to) == wanted) else { return false };
    match fault.kind {
        FaultKind::LinkCut => {
            link.link.cut();
            prolong(&mut link.cut_until, until);
        }
        FaultKind::LinkSlow => {
            link.link.set_delay(Duration::from_millis(fault.amount.unsigned_abs()));
            prolong(&mut link.slow_until, until);
        }
        FaultKind::LinkRestart => link.link.restart(),
        _ => {
            // What retention has deleted at the origin could not be copied again.
            if !world.regions[fault.peer].archive.is_empty() {
                return false;
            }
            let target_topic = world.names.mirror(&world.regions[fault.peer].name, 0);
            let target_broker = &world.regions[fault.region].broker;
            target_broker.delete_topic(&target_topic);
            if let Err(error) = target_broker.create_topic(&target_topic, world.rules.partitions, TimestampType::CreateTime) {
                world.broken = Some(format!("a mirror could not be created again: {error}"));
            }
            link.link.begin_again();
            let target = &mut world.regions[fault.region];
            target.checks.lock().unwrap_or_else(PoisonError::into_inner).topic_recreated(&target_topic);
            target.recreated.insert(target_topic);
        }
    }
    true
}

fn compact(world: &mut World, fault: &PlannedFault) {
    let region = &world.regions[fault.region];
    for topic in [world.names.versions_changelog(0), world.names.vectors_changelog(0)] {
        for partition in 0..world.rules.partitions {
            let at = TopicPartition::new(topic.clone(), partition);
            if let Err(error) = region.broker.compact(&at, COMPACTION) {
                world.broken = Some(format!("{at} could not be compacted: {error}"));
            }
        }
    }
}

/// Deletes from a region's own change topic what its workers have settled and every link has copied for good.
fn retain(world: &mut World, fault: &PlannedFault) -> bool {
    let local = world.names.local(0);
    let mirror_recreated =
        world.regions.iter().any(|region| region.recreated.contains(&world.names.mirror(&world.regions[fault.region].name, 0)));
    if mirror_recreated {
        return false;
    }
    let mut deleted = false;
    for partition in 0..world.rules.partitions {
        let at = TopicPartition::new(local.clone(), partition);
        let links = world.links.iter().filter(|link| link.from == fault.region);
        let copied = links.map(|link| link.link.committed(&at)).min().unwrap_or(0);
        let region = &mut world.regions[fault.region];
        let settled = region.checks.lock().unwrap_or_else(PoisonError::into_inner).settled_durably(&at);
        let below = copied.min(settled);
        let Ok(bounds) = region.broker.bounds(&at) else { continue };
        if below <= bounds.first {
            continue;
        }
        let archive = &mut region.archive;
        let read = region.broker.read(&at, bounds.first, usize::MAX, |record| {
            if record.offset < below {
                archive.push(record);
            }
        });
        match read.and_then(|_| region.broker.delete_below(&at, below)) {
            Ok(()) => deleted = true,
            Err(error) => world.broken = Some(format!("{at} could not be shortened: {error}")),
        }
    }
    deleted
}

fn leave_holes(world: &mut World, fault: &PlannedFault) {
    let region = &world.regions[fault.region];
    let topics = [world.names.local(0), world.names.versions_changelog(0), world.names.vectors_changelog(0)];
    for index in 0..fault.amount.unsigned_abs() {
        let topic = topics[((fault.which + index) % topics.len() as u64) as usize].clone();
        let partition = (fault.which / 7 + index) % world.rules.partitions as u64;
        let at = TopicPartition::new(topic, partition as i32);
        if let Err(error) = region.broker.leave_hole(&at) {
            world.broken = Some(format!("{at} takes no control record: {error}"));
        }
    }
}

/// Ends what is over, and starts the workers that are due.
pub(super) fn end_spells(world: &mut World, now: Duration) {
    let over = |spell: &mut Option<Duration>| spell.take_if(|until| *until <= now).is_some();
    for link in &mut world.links {
        if over(&mut link.cut_until) {
            link.link.heal();
        }
        if over(&mut link.slow_until) {
            link.link.set_delay(world.scenario.link_delay);
        }
    }
    let mut starts = Vec::new();
    for region in &mut world.regions {
        let mut log = region.log_weather.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = region.store_weather.lock().unwrap_or_else(PoisonError::into_inner);
        let spells = &mut region.spells;
        log.down &= !over(&mut spells.log_down);
        log.slow_ms *= u64::from(!over(&mut spells.log_slow));
        store.down &= !over(&mut spells.store_down);
        store.unloaded = store.unloaded.filter(|_| !over(&mut spells.unloaded));
        store.hangs &= !over(&mut spells.store_hangs);
        store.slow_ms *= u64::from(!over(&mut spells.store_slow));
        store.throttles_percent *= usize::from(!over(&mut spells.store_throttles));
        store.loses_replies_percent *= usize::from(!over(&mut spells.store_loses));
        store.lands_late_percent *= usize::from(!over(&mut spells.store_late));
        if over(&mut spells.registry) {
            world.registries.set(&region.name, false);
        }
        for worker in &mut region.workers {
            if over(&mut worker.cut_until) {
                worker.lines.set_cut(false);
            }
        }
        let due = region.starts.extract_if(.., |at| *at <= now).count();
        // One that was not killed after all needs no successor.
        starts.extend(std::iter::repeat_n(region.index, due.min(WORKERS_MAX.saturating_sub(region.workers.len()))));
    }
    for region in starts {
        world.start_worker(region);
    }
}

/// Ends everything: from here on nothing goes wrong any more.
pub(super) fn heal(world: &mut World) {
    let now = world.now();
    world.faults.clear();
    world.operators.spare(now);
    for link in &mut world.links {
        link.cut_until = link.cut_until.map(|_| now);
        link.slow_until = link.slow_until.map(|_| now);
    }
    for region in &mut world.regions {
        let spells = &mut region.spells;
        let all = [
            &mut spells.store_down,
            &mut spells.store_hangs,
            &mut spells.store_throttles,
            &mut spells.store_loses,
            &mut spells.store_late,
            &mut spells.store_slow,
            &mut spells.unloaded,
            &mut spells.log_down,
            &mut spells.log_slow,
            &mut spells.registry,
        ];
        for spell in all {
            *spell = spell.map(|_| now);
        }
        region.log_weather.lock().unwrap_or_else(PoisonError::into_inner).fails = 0;
        region.aliases.disarm();
        for worker in &mut region.workers {
            (worker.paused_until, worker.pause) = (None, None);
            worker.lines.deafen(now);
            worker.interrupt.disarm();
            worker.cut_until = worker.cut_until.map(|_| now);
        }
        region.starts.iter_mut().for_each(|at| *at = now);
    }
    end_spells(world, now);
    for region in 0..world.regions.len() {
        // A worker that is stopping is none that stays.
        if world.regions[region].workers.iter().all(|worker| worker.is_stopping()) {
            world.start_worker(region);
        }
    }
    world.trace.note(now, "healed", &[], || "everything works again".to_owned());
}

//! Keeps a demo that never ends within bounds: old records go as they would from a real log, but none that somebody still
//! has to read.

use super::board::Board;
use super::pace::Stop;
use super::worker::{Workers, settled};
use super::world::World;
use crate::adapter::embedded::broker::{BrokerError, Compaction};
use crate::base::ids::TopicPartition;
use crate::base::time::{Clock, UnixMs};
use crate::stream::report::ThreadReport;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(20);
/// What is younger stays, read or not.
const RETENTION: Duration = Duration::from_secs(300);
const COMPACTION: Compaction = Compaction { min_lag: RETENTION, delete_retention: Duration::from_secs(24 * 60 * 60) };

/// Runs until it is stopped.
pub(super) fn run(world: &World, workers: &Workers, board: &Board, stop: &Stop) {
    while !stop.wait(INTERVAL) {
        let old = world.clock.now().wall.minus(RETENTION);
        for (region, report) in workers.reports().iter().enumerate() {
            board.note(purge(world, region, report, old));
        }
    }
}

fn purge(world: &World, region: usize, report: &ThreadReport, old: UnixMs) -> Result<(), BrokerError> {
    let broker = &world.regions[region].broker;
    let settled = settled(report);
    let settled_up_to = |partition: &TopicPartition| settled.get(partition).copied().unwrap_or(0);
    for partition in world.local() {
        let copied = world.links().iter().filter(|link| link.from == region).map(|link| link.mirror.committed(&partition)).min();
        let read = settled_up_to(&partition).min(copied.unwrap_or(0));
        broker.delete_below(&partition, read.min(broker.offset_at(&partition, old)?))?;
    }
    for peer in (0..world.regions.len()).filter(|peer| *peer != region) {
        for partition in world.mirror(peer) {
            broker.delete_below(&partition, settled_up_to(&partition).min(broker.offset_at(&partition, old)?))?;
        }
    }
    for partition in world.partitions_of([world.names.dead_letter(), world.names.conflicts()]) {
        broker.delete_below(&partition, broker.offset_at(&partition, old)?)?;
    }
    for partition in world.partitions_of([world.names.versions_changelog(0), world.names.vectors_changelog(0)]) {
        broker.compact(&partition, COMPACTION)?;
    }
    Ok(())
}

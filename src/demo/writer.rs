//! A region's gateway: sends the changes that are planned for it, each when it is due.

use super::board::Board;
use super::content;
use super::pace::{Pace, Stop};
use super::workload::Workload;
use super::world::{PARTITIONS, World};
use crate::adapter::embedded::broker::{BrokerError, Message};
use crate::base::ids::TopicPartition;
use crate::base::time::Clock;
use crate::region::partitioner::partition_for_key;
use bytes::Bytes;

/// Round after round, until it is stopped.
pub(super) fn write_on(
    region: usize,
    plan: impl Fn(u32) -> Workload,
    world: &World,
    pace: Pace,
    board: &Board,
    stop: &Stop,
) -> Result<(), BrokerError> {
    let mut round = 0;
    while !stop.is_set() {
        write(region, &plan(round), world, pace.round(round), board, stop)?;
        round += 1;
    }
    Ok(())
}

/// Returns when all is sent, or the run was stopped.
pub(super) fn write(
    region: usize,
    workload: &Workload,
    world: &World,
    pace: Pace,
    board: &Board,
    stop: &Stop,
) -> Result<(), BrokerError> {
    let broker = &world.regions[region].broker;
    let topic = world.names.local(0);
    for change in workload.changes.iter().filter(|change| change.region == region) {
        let early = pace.due(change.due_ms).saturating_sub(world.clock.now().monotonic);
        if stop.wait(early) {
            return Ok(());
        }
        let key = Bytes::from(content::key_text(change));
        let to = TopicPartition::new(topic.clone(), partition_for_key(&key, PARTITIONS));
        let value = content::encode(change, workload.dim, pace.base());
        broker.append(&to, Message { key: Some(key), value: Some(value), ..Message::default() })?;
        board.sent_one();
    }
    Ok(())
}

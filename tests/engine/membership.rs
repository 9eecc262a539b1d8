//! Partitions that come and go, in order, too late, or unnoticed.

use crate::oracle::{assert_oracle, progress_records};
use crate::worker::Worker;
use crate::world::{APPLICATION, DOCUMENTS, World, row_id, stamp};
use bytes::Bytes;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::base::ids::TopicPartition;
use driftless::port::log::LogEvent;
use driftless::record::avro::WireOp;
use driftless::record::framing;
use driftless::record::raw::RawRecord;
use driftless::region::partitioner::partition_for_key;
use std::time::Duration;

fn local(partition: i32) -> TopicPartition {
    TopicPartition::new("vector-cdc", partition)
}

/// An id whose key lies in that partition.
fn id_in(world: &World, partition: i32, from: i64) -> i64 {
    (from..).find(|id| partition_for_key(id.to_string().as_bytes(), world.partitions) == partition).expect("murmur2 spreads")
}

/// A worker with both of two partitions, a row of partition 1 on its way into a store that hangs, and a
/// newcomer for whom partition 1 is to be given up.
fn revoke_in_flight(world: &mut World) -> (Worker, Worker, i64) {
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let id = id_in(world, 1, 0);
    worker.store().hangs = true;
    world.upsert("eu", id, 1_000, 0.1);
    world.run(&mut [&mut worker], 50);
    let newcomer = world.start();
    (worker, newcomer, id)
}

#[test]
fn f06_a_revoked_partition_is_drained_closed_and_given_on() {
    let mut world = World::new(2);
    let (mut worker, mut newcomer, id) = revoke_in_flight(&mut world);
    world.run(&mut [&mut worker, &mut newcomer], 1_000);
    assert_eq!(worker.task("0_1").state, "draining");
    assert!(worker.consumer().released.is_empty() && newcomer.report().tasks.is_empty());
    // What comes for it meanwhile is its successor's.
    world.upsert("eu", id, 2_000, 0.2);
    worker.store().hangs = false;
    world.run(&mut [&mut worker, &mut newcomer], 100);
    assert_eq!(worker.consumer().released, [local(1)]);
    assert!(progress_records(&world, 1).iter().any(|progress| progress.closed));
    world.settle(&mut [&mut worker, &mut newcomer]);
    assert_oracle(&world, &[], "after the hand-over");
    assert_eq!((worker.store().times_sent(id), newcomer.store().times_sent(id)), (1, 1));
    world.run_in_steps(&mut [&mut worker, &mut newcomer], 35_000, 500);
    assert_eq!(newcomer.report().totals.reasserted, 0, "the end was a clean one");
}

#[test]
fn f07_a_drain_that_cannot_end_is_given_up_in_time_and_its_late_write_is_undone() {
    let mut world = World::new(2);
    let (mut worker, mut newcomer, id) = revoke_in_flight(&mut world);
    world.run(&mut [&mut worker, &mut newcomer], 4_900);
    assert!(worker.consumer().released.is_empty());
    world.run(&mut [&mut worker, &mut newcomer], 200);
    assert_eq!(worker.consumer().released, [local(1)], "let go after the drain time-out");
    assert!(progress_records(&world, 1).iter().all(|progress| !progress.closed));
    world.upsert("eu", id, 2_000, 0.2);
    world.run(&mut [&mut worker, &mut newcomer], 1_000);
    assert_eq!(world.database.scan(DOCUMENTS)[&row_id(id)].version.hlc, stamp(2_000));
    worker.store().hangs = false;
    world.settle(&mut [&mut worker, &mut newcomer]);
    assert_eq!(world.database.scan(DOCUMENTS)[&row_id(id)].version.hlc, stamp(1_000), "the old write has landed");
    world.run_in_steps(&mut [&mut worker, &mut newcomer], 35_000, 500);
    assert_oracle(&world, &[], "after the safety window");
}

#[test]
fn f02_nothing_is_sent_or_appended_for_a_partition_that_is_lost() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().hangs = true;
    for id in 0..10 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.run(&mut [&mut worker], 50);
    world.upsert("eu", 11, 1_000, 0.1);
    let end = |world: &World| world.broker.bounds(&world.versions_changelog(0)).unwrap().end;
    let (sent, appended) = (worker.store().sent.len(), end(&world));
    worker.consumer().inject.push(LogEvent::Lost(vec![local(0)]));
    worker.store().hangs = false;
    for _ in 0..100 {
        world.clock.advance(5);
        // It is assigned again at once; without a restore that life does nothing either.
        worker.round_without_restorer(world.now());
    }
    assert_eq!((worker.store().sent.len(), end(&world)), (sent, appended));
    assert_eq!(worker.consumer().released, [local(0)]);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 35_000, 500);
    assert_oracle(&world, &[], "after the loss");
}

#[test]
fn f03_records_of_a_revoked_partition_and_records_delivered_twice_are_dropped() {
    let mut world = World::new(2);
    let mut worker = world.start();
    let mut other = world.start();
    world.settle(&mut [&mut worker, &mut other]);
    let ids = [id_in(&world, 0, 0), id_in(&world, 1, 0)];
    for ms in [1_000, 2_000, 3_000] {
        world.upsert("eu", ids[0], ms, 0.1);
        world.upsert("eu", ids[1], ms, 0.1);
    }
    world.settle(&mut [&mut worker, &mut other]);
    let own = worker.report().tasks[0].partition;
    let (settled, polled) = (worker.report().tasks[0].sources[0].next_offset, worker.report().totals.polled());
    let again = |partition: i32| LogEvent::Record(world.read(&local(partition)).remove(0));
    let foreign = LogEvent::Record(RawRecord { offset: 99, ..world.read(&local(1 - own)).remove(0) });
    worker.consumer().inject.extend([again(own), again(1 - own), foreign]);
    world.run(&mut [&mut worker, &mut other], 500);
    assert_eq!(worker.report().totals.polled(), polled);
    assert_eq!(worker.report().tasks[0].sources[0].next_offset, settled, "INV-4: settled offsets never go back");
    assert!(progress_records(&world, own).windows(2).all(|two| two[0].sources[0].next_offset <= two[1].sources[0].next_offset));
}

#[test]
fn f01_after_a_gap_everything_is_restored_before_anything_is_sent() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().hangs = true;
    world.upsert("eu", 1, 1_000, 0.1);
    world.run(&mut [&mut worker], 30);
    world.upsert("eu", 1, 2_000, 0.2);
    world.upsert("eu", 2, 2_000, 0.2);
    world.run(&mut [&mut worker], 30);
    worker.store().hangs = false;
    let sent = worker.store().sent.len();
    world.clock.advance(6_000);
    worker.round(world.now());
    assert_eq!(worker.task("0_0").state, "restoring");
    world.run(&mut [&mut worker], 2_900);
    assert_eq!(worker.store().sent.len(), sent, "nothing is sent while the group may have decided otherwise");
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the gap");
    // And it goes on reading.
    world.upsert("eu", 3, 3_000, 0.3);
    world.upsert("us", 4, 3_000, 0.3);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the gap, with new changes");
}

#[test]
fn f01_after_a_gap_a_source_that_was_paused_before_it_is_read_again() {
    let mut world = World::new(1);
    world.settings.task.buffer_bytes_max = 8 << 10;
    world.settings.task.items_max = 20;
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().hangs = true;
    for id in 0..200 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.run_in_steps(&mut [&mut worker], 3_000, 100);
    assert_eq!(worker.pauses(), (1, 0));
    world.clock.advance(6_000);
    world.round(&mut [&mut worker]);
    assert_eq!(worker.task("0_0").state, "restoring");
    worker.store().hangs = false;
    world.settle(&mut [&mut worker]);
    world.upsert("eu", 300, 3_000, 0.3);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the gap");
}

#[test]
fn a_member_for_which_no_partition_is_left_is_ready_once_the_group_has_said_so() {
    let world = World::new(1);
    let (mut worker, mut other) = (world.start(), world.start());
    assert!(!worker.report().is_ready() && !other.report().is_ready(), "the group has not answered");
    world.settle(&mut [&mut worker, &mut other]);
    let mut tasks = [worker.report().tasks.len(), other.report().tasks.len()];
    tasks.sort_unstable();
    assert_eq!(tasks, [0, 1]);
    assert!(worker.report().is_ready() && other.report().is_ready());
}

#[test]
fn f63_a_partition_that_comes_back_after_a_generation_elsewhere_misses_nothing_of_it() {
    let mut world = World::new(2);
    let (mut stalled, mut other) = (world.start(), world.start());
    for id in 0..20 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.settle(&mut [&mut stalled, &mut other]);
    // Rows in its buffers and under way when it stalls.
    stalled.store().hangs = true;
    for id in 0..20 {
        world.upsert("us", id, 1_500, 0.2);
    }
    world.run(&mut [&mut stalled, &mut other], 20);
    world.run_in_steps(&mut [&mut other], 11_000, 500);
    assert_eq!(other.report().tasks.len(), 2, "the other has taken over");
    for id in 0..20 {
        world.upsert("eu", id, 2_000, 0.3);
    }
    world.delete("us", 3, 2_500);
    world.settle(&mut [&mut other]);
    // It comes back, the other leaves.
    stalled.store().hangs = false;
    world.run(&mut [&mut stalled, &mut other], 500);
    world.stop(other);
    world.upsert("eu", 5, 3_000, 0.4);
    world.settle(&mut [&mut stalled]);
    assert_eq!(stalled.report().tasks.len(), 2);
    world.run_in_steps(&mut [&mut stalled], 35_000, 500);
    assert_oracle(&world, &[], "after the generation elsewhere");
}

#[test]
fn a_stopping_worker_takes_no_new_partitions_and_does_stop() {
    let mut world = World::new(2);
    world.settings.drain_timeout = Duration::from_secs(30);
    let (mut stopping, mut other) = (world.start(), world.start());
    world.settle(&mut [&mut stopping, &mut other]);
    stopping.store().hangs = true;
    for partition in 0..2 {
        let id = id_in(&world, partition, 0);
        world.upsert("eu", id, 1_000, 0.1);
    }
    world.run(&mut [&mut stopping, &mut other], 50);
    stopping.stop(world.now());
    world.run(&mut [&mut stopping, &mut other], 50);
    world.stop(other);
    world.run(&mut [&mut stopping], 500);
    stopping.store().hangs = false;
    world.run(&mut [&mut stopping], 2_000);
    assert!(stopping.stopped, "{:?}", stopping.report().tasks);
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_oracle(&world, &[], "after both have stopped");
}

#[test]
fn offsets_are_committed_for_tools_behind_the_progress_record() {
    let mut world = World::new(1);
    let mut worker = world.start();
    for id in 0..10 {
        world.upsert("eu", id, 1_000, 0.1);
    }
    worker.store().hangs = true;
    world.run(&mut [&mut worker], 3_000);
    let settled_before = world.broker.committed(APPLICATION, &local(0)).unwrap_or(0);
    assert_eq!(settled_before, 0, "INV-4");
    worker.store().hangs = false;
    // Settled, and the progress record that says so is not acknowledged.
    let versions = world.settings.topics.versions_changelog(0);
    let end = world.broker.bounds(&local(0)).unwrap().end;
    while worker.source("vector-cdc").next_offset < end {
        world.run(&mut [&mut worker], 5);
    }
    worker.appends().unacked.insert(versions);
    world.run(&mut [&mut worker], 3_000);
    assert_eq!(world.broker.committed(APPLICATION, &local(0)).unwrap_or(0), 0, "INV-4");
    worker.appends().unacked.clear();
    world.run(&mut [&mut worker], 3_000);
    assert_eq!(world.broker.committed(APPLICATION, &local(0)), Some(end));
}

#[test]
fn several_shards_are_as_many_tasks_as_shards_times_partitions() {
    let world = World::of("eu", &["eu", "us"], 2, 3, Default::default());
    world.create_mirror("us", 3);
    let (mut worker, mut other) = (world.start(), world.start());
    world.run(&mut [&mut worker, &mut other], 500);
    let put = |region: &str, shard: u16, id: i64| {
        let names = &world.settings.topics;
        let topic =
            if region == "eu" { names.local(shard) } else { names.mirror(&driftless::base::ids::Region::new(region), shard) };
        let key = id.to_string();
        let value = framing::frame(OUR_SCHEMA_ID, &crate::world::change(WireOp::Upsert, region, id, 1_000, &[1.0, 2.0]));
        world.append(&TopicPartition::new(topic, partition_for_key(key.as_bytes(), 3)), Some(&key), Some(Bytes::from(value)));
    };
    for id in 0..20 {
        put("eu", 0, id);
        put("us", 0, id + 100);
        put("eu", 1, id + 200);
        put("us", 1, id + 300);
    }
    world.settle(&mut [&mut worker, &mut other]);
    let mut tasks: Vec<String> =
        [worker.report(), other.report()].into_iter().flat_map(|report| report.tasks).map(|task| task.task).collect();
    tasks.sort();
    assert_eq!(tasks, ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2"]);
    assert_eq!(world.database.rows(DOCUMENTS), 80);
    world.stop(worker);
    world.stop(other);
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_eq!((next.report().tasks.len(), next.store().rows_sent()), (6, 0));
}

#[test]
fn offsets_of_the_last_progress_record_are_committed_while_the_next_one_is_under_way() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.upsert("eu", 1, 1_000, 0.0);
    let first = world.broker.bounds(&local(0)).unwrap().end;
    while world.broker.committed(APPLICATION, &local(0)) != Some(first) {
        world.run(&mut [&mut worker], 10);
    }
    // The next commit is a second away.
    world.upsert("eu", 1, 1_001, 0.0);
    world.run(&mut [&mut worker], 500);
    let end = world.broker.bounds(&local(0)).unwrap().end;
    let changelog = world.versions_changelog(0).topic;
    worker.appends().unacked.insert(changelog);
    // It is stale, and so settled at once.
    world.upsert("eu", 1, 999, 0.0);
    world.run(&mut [&mut worker], 1_000);
    assert_eq!(world.broker.committed(APPLICATION, &local(0)), Some(end), "what is acknowledged is said, and no more");
}

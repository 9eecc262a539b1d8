//! Deletes stay deletes: tombstones go only when no admissible change can be older.

use crate::oracle::{dead_letters, last_of};
use crate::pair::Pair;
use crate::worker::Worker;
use crate::world::{DOCUMENTS, EPOCH_MS, World, change, row_id};
use bytes::Bytes;
use driftless::adapter::embedded::broker::Message;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::base::ids::{Region, TopicPartition};
use driftless::base::time::UnixMs;
use driftless::record::avro::{self, Fields, WireOp};
use driftless::record::change::MetaValue;
use driftless::record::framing;
use driftless::store::entry::FORGOTTEN_HEADER;
use std::collections::BTreeSet;
use std::time::Duration;

pub const LATENESS: Duration = Duration::from_secs(10);

pub fn world_with_heartbeats() -> World {
    let mut world = World::new(1);
    world.settings.max_lateness = LATENESS;
    world.settings.task.heartbeat_interval = Duration::from_secs(1);
    world
}

/// A heartbeat of the peer's, as its worker writes it and the mirror brings it.
fn peer_heartbeat(world: &World) {
    let lateness = MetaValue::Long(LATENESS.as_millis() as i64);
    let body = avro::encode(&Fields {
        op: WireOp::Heartbeat,
        hlc: driftless::merge::hlc::Hlc::at(world.now().wall),
        origin: "us",
        sequence: 0,
        collection: "",
        vector_id: "",
        vector: &[],
        metadata: &[("max_lateness_ms".to_owned(), lateness)],
    });
    let to = TopicPartition::new(world.topic("us"), 0);
    world.append(&to, Some("driftless/heartbeat/us"), Some(Bytes::from(framing::frame(OUR_SCHEMA_ID, &body))));
}

pub fn run_with_peer(world: &World, worker: &mut Worker, seconds: u64) {
    for _ in 0..seconds {
        peer_heartbeat(world);
        world.run_in_steps(&mut [worker], 1_000, 100);
    }
}

#[test]
fn heartbeats_come_once_a_second_into_a_silent_partition_and_the_floor_moves_with_them() {
    let world = world_with_heartbeats();
    let mut worker = world.start();
    world.run_in_steps(&mut [&mut worker], 1_000, 100);
    let end = |world: &World| world.broker.bounds(&TopicPartition::new("vector-cdc", 0)).unwrap().end;
    let before = end(&world);
    assert_eq!(worker.task("0_0").floor_ms, None, "us has not spoken: nothing is known of what is still to come from it");
    run_with_peer(&world, &mut worker, 20);
    let beats = end(&world) - before;
    assert!((15..=20).contains(&beats), "{beats} heartbeats in 20 s");
    let floor = |worker: &Worker| worker.task("0_0").floor_ms.expect("both origins have spoken");
    let first = floor(&worker);
    let behind_ms = world.now().wall.0 - first;
    assert!((70_000..73_000).contains(&behind_ms), "F = A - L - 60 s: {behind_ms} ms behind");
    run_with_peer(&world, &mut worker, 20);
    assert!(floor(&worker) - first > 18_000);
}

#[test]
fn f44_a_tombstone_is_forgotten_below_the_floor_alone_and_old_updates_stay_out_afterwards() {
    let mut world = world_with_heartbeats();
    let mut worker = world.start();
    let update = world.upsert("us", 1, 0, 0.1);
    world.delete("eu", 1, 500);
    world.settle(&mut [&mut worker]);
    assert_eq!(world.database.rows(DOCUMENTS), 0);
    // Its origin us is silent: the floor waits for it, however long.
    world.run_in_steps(&mut [&mut worker], 120_000, 500);
    assert_eq!(worker.task("0_0").entries, 1, "the floor may not pass a silent origin");
    run_with_peer(&world, &mut worker, 12);
    assert_eq!(worker.task("0_0").entries, 0);
    let (versions, vectors) = (world.versions_changelog(0), world.vectors_changelog(0));
    for changelog in [&versions, &vectors] {
        let last = last_of(&world, changelog, 1).1.unwrap();
        assert!(last.value.is_none() && last.header_text(FORGOTTEN_HEADER).is_some(), "{changelog}");
    }
    // The mirror brings the update once more, as MirrorMaker does after a restart: with its old A.
    let timestamp = Some(update.appended_at);
    let message = Message { key: Some("1".into()), value: Some(update.value), headers: Vec::new(), timestamp };
    world.broker.append(&update.at, message).unwrap();
    run_with_peer(&world, &mut worker, 2);
    assert_eq!((worker.report().totals.verdict("below-floor"), world.database.rows(DOCUMENTS)), (1, 0));
    // A successor knows the floor too.
    world.stop(worker);
    let mut next = world.start();
    let message = Message { key: Some("1".into()), value: Some(world.produced[0].value.clone()), headers: Vec::new(), timestamp };
    world.broker.append(&update.at, message).unwrap();
    run_with_peer(&world, &mut next, 2);
    assert_eq!((next.report().totals.verdict("below-floor"), world.database.rows(DOCUMENTS)), (1, 0));
}

/// The region is new here, so its history is no replay; and nobody can tell any more whether one of the deletes that
/// are forgotten had beaten it.
#[test]
fn f44_of_a_region_that_came_later_what_lies_below_the_floor_wins_against_an_entry_or_is_a_dead_letter() {
    let mut world = world_with_heartbeats();
    let mut worker = world.start();
    world.upsert("eu", 1, 0, 0.1);
    run_with_peer(&world, &mut worker, 120);
    let floor_ms = worker.task("0_0").floor_ms.unwrap() - EPOCH_MS;
    assert!(floor_ms > 40_000);
    world.stop(worker);
    world.settings.regions.push(Region::new("ap"));
    world.create_mirror("ap", 1);
    let bring = |id: i64, ms: i64| {
        let body = change(WireOp::Upsert, "ap", id, ms, &[0.5, 0.5]);
        let value = Some(Bytes::from(framing::frame(OUR_SCHEMA_ID, &body)));
        let message =
            Message { key: Some(id.to_string().into()), value, headers: Vec::new(), timestamp: Some(UnixMs(EPOCH_MS + ms)) };
        world.broker.append(&TopicPartition::new("ap.vector-cdc", 0), message).unwrap()
    };
    let [_, beaten_or_not, _] = [bring(1, 1_000), bring(2, 2_000), bring(3, floor_ms + 5_000)];
    let mut next = world.start();
    run_with_peer(&world, &mut next, 3);
    let place = ("ap.vector-cdc".to_owned(), 0, beaten_or_not, "below-floor".to_owned());
    assert_eq!(dead_letters(&world), BTreeSet::from([place]));
    let rows = world.database.scan(DOCUMENTS);
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), [row_id(1), row_id(3)]);
    assert_eq!(rows[&row_id(1)].version.origin, Region::new("ap"));
    assert_eq!(next.report().totals.verdict("below-floor"), 0, "nothing was dropped as a replay");
}

#[test]
fn a_tombstone_that_is_not_below_the_floor_is_kept_over_a_restart() {
    let mut world = world_with_heartbeats();
    let mut worker = world.start();
    world.delete("eu", 1, 0);
    run_with_peer(&world, &mut worker, 60);
    assert_eq!(worker.task("0_0").entries, 1);
    world.stop(worker);
    let mut next = world.start();
    run_with_peer(&world, &mut next, 5);
    assert_eq!(next.task("0_0").entries, 1);
}

#[test]
fn f70_a_tombstone_forgotten_here_before_the_peer_sees_the_delete_brings_nothing_back_anywhere() {
    let mut pair = Pair::new(1, LATENESS);
    let mut workers = [pair.worlds[0].start(), pair.worlds[1].start()];
    pair.run(&mut workers, 2_000);
    let update = pair.worlds[1].upsert("us", 1, 2_000, 0.1);
    pair.run(&mut workers, 1_000);
    assert_eq!(pair.worlds.each_ref().map(|world| world.database.rows(DOCUMENTS)), [1, 1]);
    // eu deletes; us does not hear of it, while eu hears us and so may forget.
    pair.links[0].cut();
    pair.worlds[0].delete("eu", 1, 3_000);
    pair.run(&mut workers, 90_000);
    assert_eq!(workers[0].task("0_0").entries, 0, "eu has forgotten");
    assert_eq!(pair.worlds.each_ref().map(|world| world.database.rows(DOCUMENTS)), [0, 1]);
    // All of us's changes come to eu once more, the update before the delete among them.
    pair.links[1].restart();
    pair.run(&mut workers, 3_000);
    assert_eq!(pair.worlds[0].database.rows(DOCUMENTS), 0, "the update came back in eu");
    pair.links[0].heal();
    pair.run(&mut workers, 3_000);
    assert_eq!(pair.worlds.each_ref().map(|world| world.database.rows(DOCUMENTS)), [0, 0]);
    // us forgets as well, and the update is replayed there too.
    pair.run(&mut workers, 90_000);
    assert_eq!(workers[1].task("0_0").entries, 0, "us has forgotten");
    for (world, topic) in pair.worlds.iter().zip(["us.vector-cdc", "vector-cdc"]) {
        let message = Message {
            key: Some("1".into()),
            value: Some(update.value.clone()),
            headers: Vec::new(),
            timestamp: Some(UnixMs(update.appended_at.0)),
        };
        world.broker.append(&TopicPartition::new(topic, 0), message).unwrap();
    }
    pair.run(&mut workers, 3_000);
    assert_eq!(pair.worlds.each_ref().map(|world| world.database.rows(DOCUMENTS)), [0, 0]);
}

/// Found by the simulator: what is forgotten cannot be deleted again.
#[test]
fn f44_f61_a_tombstone_is_known_until_no_write_of_its_row_can_land_late_any_more() {
    let mut world = world_with_heartbeats();
    world.settings.task.safety_window = Duration::from_secs(150);
    let mut worker = world.start();
    worker.store().lose_replies = 1;
    world.upsert("eu", 1, 0, 0.1);
    run_with_peer(&world, &mut worker, 2);
    let delete = world.delete("eu", 1, 1_000);
    run_with_peer(&world, &mut worker, 120);
    let floor_ms = worker.task("0_0").floor_ms.expect("both origins have spoken");
    assert!(floor_ms > delete.version.hlc.wall().0, "the floor has passed the delete");
    worker.store().land_strays();
    assert_eq!(world.database.rows(DOCUMENTS), 1, "the lost write has landed");
    run_with_peer(&world, &mut worker, 60);
    assert_eq!(world.database.rows(DOCUMENTS), 0, "deleted again");
    assert_eq!(worker.task("0_0").entries, 0, "and forgotten then");
}

//! The repair topic as a task's input, and what a partition remembers of what it lacks.

use crate::lag::beat;
use crate::oracle::{dead_letters, last_of, progress_records};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, EPOCH_MS, World, change, row_id, stamp};
use bytes::Bytes;
use driftless::adapter::embedded::broker::Message;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::base::ids::{Region, TopicPartition};
use driftless::base::time::UnixMs;
use driftless::merge::version::Version;
use driftless::port::log::Append;
use driftless::record::avro::WireOp;
use driftless::record::change::MetaValue;
use driftless::record::raw::{Headers, RawRecord};
use driftless::record::{framing, headers};
use driftless::region::topics::REPAIR;
use driftless::store::entry::Entry;
use driftless::store::progress::Gap;
use driftless::task::heartbeat::PREVIOUS;
use driftless::task::repair_topic::{self, Mark};
use std::collections::BTreeMap;
use std::time::Duration;

const LATENESS: Duration = Duration::from_secs(10);

fn world(partitions: i32) -> World {
    let mut world = World::new(partitions);
    world.settings.max_lateness = LATENESS;
    world.settings.task.heartbeat_interval = Duration::from_secs(1);
    world
}

fn repair(world: &World, partition: i32) -> TopicPartition {
    TopicPartition::new(world.settings.topics.repair(0), partition)
}

fn put(world: &World, append: Append) -> i64 {
    let Append { to, key, value, headers } = append;
    world.broker.append(&to, Message { key, value, headers: headers.into_vec(), timestamp: None }).unwrap()
}

fn version(origin: &str, ms: i64) -> Version {
    Version { hlc: stamp(ms), origin: Region::new(origin), sequence: 7 }
}

/// A record as a peer's vectors changelog has it.
fn in_peers_changelog(op: WireOp, origin: &str, id: i64, ms: i64) -> RawRecord {
    let vector: &[f32] = if op == WireOp::Delete { &[] } else { &[0.9, 0.9] };
    RawRecord {
        topic: "driftless-vectors-changelog".into(),
        partition: 0,
        offset: 11,
        appended_at: UnixMs(EPOCH_MS + 999_999),
        key: Some(format!("documents\0{id}").into()),
        value: Some(Bytes::from(framing::frame(OUR_SCHEMA_ID, &change(op, origin, id, ms, vector)))),
        headers: vec![(headers::APPENDED_AT.into(), Some((EPOCH_MS + ms + 1).to_string().into()))],
    }
}

fn bring(world: &World, op: WireOp, origin: &str, id: i64, ms: i64) -> i64 {
    let record = in_peers_changelog(op, origin, id, ms);
    put(world, repair_topic::change(&repair(world, 0), &record, &version(origin, ms)))
}

fn peer_heartbeat(world: &World) {
    let mut fields = avro_heartbeat();
    fields.hlc = driftless::merge::hlc::Hlc::at(world.now().wall);
    let body = driftless::record::avro::encode(&fields);
    let to = TopicPartition::new(world.topic("us"), 0);
    world.append(&to, Some("driftless/heartbeat/us"), Some(Bytes::from(framing::frame(OUR_SCHEMA_ID, &body))));
}

fn avro_heartbeat() -> driftless::record::avro::Fields<'static> {
    driftless::record::avro::Fields {
        op: WireOp::Heartbeat,
        hlc: stamp(0),
        origin: "us",
        sequence: 0,
        collection: "",
        vector_id: "",
        vector: &[],
        metadata: &[],
    }
}

fn run_with_peer(world: &World, worker: &mut Worker, seconds: u64) {
    for _ in 0..seconds {
        peer_heartbeat(world);
        world.run_in_steps(&mut [worker], 1_000, 100);
    }
}

#[test]
fn what_a_peer_holds_is_taken_by_its_version_however_old_and_whosever_it_is() {
    let mut world = world(1);
    let mut worker = world.start();
    run_with_peer(&world, &mut worker, 120);
    let kept = world.upsert("eu", 2, 118_000, 0.2);
    world.upsert("eu", 4, 118_000, 0.2);
    run_with_peer(&world, &mut worker, 1);
    let floor_ms = worker.task("0_0").floor_ms.unwrap() - EPOCH_MS;
    assert!(floor_ms > 40_000, "what is brought lies below the floor: {floor_ms}");
    bring(&world, WireOp::Upsert, "us", 1, 1_000);
    bring(&world, WireOp::Upsert, "us", 2, 1_000);
    bring(&world, WireOp::Upsert, "ap", 3, 2_000);
    bring(&world, WireOp::Delete, "us", 4, 119_000);
    run_with_peer(&world, &mut worker, 1);
    let rows = world.database.scan(DOCUMENTS);
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), [row_id(1), row_id(2), row_id(3)]);
    assert_eq!((&rows[&row_id(1)].version, &rows[&row_id(3)].version), (&version("us", 1_000), &version("ap", 2_000)));
    assert_eq!(rows[&row_id(2)].version, kept.version, "an older one loses here as anywhere");
    assert!(dead_letters(&world).is_empty());
    let (_, vector) = last_of(&world, &world.vectors_changelog(0), 1);
    let vector = vector.unwrap();
    assert_eq!(vector.header_text(headers::APPENDED_AT), Some((EPOCH_MS + 1_001).to_string().as_str()), "A of its origin");
    assert_eq!(vector.value, in_peers_changelog(WireOp::Upsert, "us", 1, 1_000).value, "bytes unchanged");
    // All of it once more, to a successor: nothing is done twice.
    world.stop(worker);
    let mut next = world.start();
    bring(&world, WireOp::Upsert, "us", 1, 1_000);
    run_with_peer(&world, &mut next, 1);
    assert_eq!(next.report().totals.verdict("duplicate"), 1);
    assert_eq!(next.report().totals.verdict("winner"), 0, "what was settled is not read again");
}

#[test]
fn the_floor_neither_waits_for_the_repair_topic_nor_rises_by_it() {
    let world = world(1);
    let mut worker = world.start();
    bring(&world, WireOp::Upsert, "us", 1, 1_000);
    world.run_in_steps(&mut [&mut worker], 100_000, 500);
    assert_eq!(worker.task("0_0").floor_ms, None, "us has not spoken, and a repair does not speak for it");
    run_with_peer(&world, &mut worker, 2);
    let before = worker.task("0_0").floor_ms.expect("both origins have spoken");
    run_with_peer(&world, &mut worker, 20);
    assert!(worker.task("0_0").floor_ms.unwrap() - before > 18_000, "the repair topic is silent and holds nothing back");
    assert!(!worker.report().oldest_frontiers().contains_key("repair"));
}

#[test]
fn what_a_peer_has_forgotten_is_deleted_here_and_what_is_older_stays_out() {
    let mut world = world(1);
    let mut worker = world.start();
    world.upsert("eu", 1, 0, 0.1);
    world.upsert("eu", 2, 9_000, 0.1);
    run_with_peer(&world, &mut worker, 2);
    put(&world, Mark::Begin { peer: "us".to_owned() }.append(&repair(&world, 0)));
    for id in [1, 2, 3] {
        put(&world, repair_topic::forgotten(&repair(&world, 0), Some(format!("documents\0{id}").into()), &version("us", 5_000)));
    }
    run_with_peer(&world, &mut worker, 2);
    assert_eq!(world.database.scan(DOCUMENTS).keys().cloned().collect::<Vec<_>>(), [row_id(2)], "2 is newer than that");
    let (_, entry) = last_of(&world, &world.versions_changelog(0), 1);
    let entry = Entry::decode(&entry.unwrap().value.unwrap()).unwrap();
    assert_eq!((entry.tombstone, entry.version), (true, version("us", 5_000)));
    // Its origin sends a change late that what was forgotten had beaten.
    let late = world.upsert("us", 3, 4_000, 0.4);
    run_with_peer(&world, &mut worker, 120);
    assert!(late.appended_at.since_ms(late.version.hlc.wall()) <= 10_000, "admissible");
    assert_eq!(world.database.rows(DOCUMENTS), 1);
    assert_eq!(worker.task("0_0").entries, 3, "below the floor by now, and kept while the resync is open");
    world.stop(worker);
    let mut worker = world.start();
    run_with_peer(&world, &mut worker, 10);
    assert_eq!(worker.task("0_0").entries, 3, "a restart knows of the resync");
    put(&world, Mark::End { filled: Vec::new(), since: BTreeMap::new() }.append(&repair(&world, 0)));
    run_with_peer(&world, &mut worker, 10);
    assert_eq!((worker.task("0_0").entries, worker.task("0_0").resync_from), (1, None));
    let told = worker.task("0_0");
    assert!(told.sources.iter().all(|source| source.region != REPAIR), "it is no region, and behind nobody");
    assert!(told.repair.is_some_and(|repair| repair.next_offset > 0 && repair.open_records == 0));
}

#[test]
fn what_is_no_repair_is_a_dead_letter_with_its_place() {
    let world = world(2);
    let mut worker = world.start();
    let to = |partition| repair(&world, partition);
    let good = in_peers_changelog(WireOp::Upsert, "us", 1, 1_000);
    let change = |partition| repair_topic::change(&to(partition), &good, &version("us", 1_000));
    let own = driftless::region::partitioner::partition_for_key(b"1", 2);
    let expected = [
        (1 - own, change(1 - own), "malformed"),
        (own, Append { headers: Headers::new(), ..change(own) }, "foreign-origin"),
        (own, Append { key: Some("documents\x002".into()), ..change(own) }, "malformed"),
        (own, Append { key: Some("other\x001".into()), ..change(own) }, "unknown-collection"),
        (own, Append { value: None, ..change(own) }, "null-value"),
        (
            own,
            Append { value: Some(Bytes::from_static(b"\x02{}")), ..Mark::Begin { peer: "us".to_owned() }.append(&to(own)) },
            "malformed",
        ),
    ];
    let mut places = Vec::new();
    for (partition, append, reason) in expected {
        let offset = put(&world, append);
        places.push(("driftless-repair".to_owned(), partition, offset, reason.to_owned()));
    }
    world.run_in_steps(&mut [&mut worker], 3_000, 100);
    places.sort();
    assert_eq!(dead_letters(&world).into_iter().collect::<Vec<_>>(), places);
    assert_eq!(world.database.rows(DOCUMENTS), 0);
}

#[test]
fn f34_a_partition_that_lost_records_says_so_until_a_resync_has_filled_that_very_gap() {
    let mut world = world(1);
    let mut worker = world.start();
    world.upsert("us", 1, 0, 0.1);
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let mirror = TopicPartition::new(world.topic("us"), 0);
    let lost_from = world.broker.bounds(&mirror).unwrap().end;
    for id in 2..6 {
        world.upsert("us", id, 1_000, 0.1);
    }
    world.broker.delete_below(&mirror, lost_from + 3).unwrap();
    let mut worker = world.start();
    run_with_peer(&world, &mut worker, 2);
    let gap = Gap { topic: "us.vector-cdc".to_owned(), from: lost_from, until: lost_from + 3 };
    let incomplete = |world: &World| progress_records(world, 0).pop().unwrap().incomplete;
    assert_eq!(incomplete(&world), vec![gap.clone()]);
    assert_eq!(worker.task("0_0").incomplete, [format!("us.vector-cdc {lost_from} to {}", lost_from + 2)]);
    // Another one while it runs: the same topic's becomes wider.
    for id in 6..9 {
        world.upsert("us", id, 2_000, 0.1);
    }
    let end = world.broker.bounds(&mirror).unwrap().end;
    world.broker.delete_below(&mirror, end).unwrap();
    world.run_in_steps(&mut [&mut worker], 60_000, 500);
    let wider = Gap { until: end, ..gap.clone() };
    assert_eq!(incomplete(&world), vec![wider.clone()]);
    put(&world, Mark::End { filled: vec![gap], since: BTreeMap::new() }.append(&repair(&world, 0)));
    run_with_peer(&world, &mut worker, 2);
    assert_eq!(incomplete(&world), vec![wider.clone()], "it was begun before the gap became wider");
    put(&world, Mark::End { filled: vec![wider], since: BTreeMap::new() }.append(&repair(&world, 0)));
    run_with_peer(&world, &mut worker, 2);
    assert!(incomplete(&world).is_empty());
}

#[test]
fn f34_a_gap_that_only_heartbeats_tell_of_makes_the_partition_incomplete_until_a_resync_and_over_a_restart() {
    let world = world(1);
    let mut worker = world.start();
    beat(&world, 0, &[]);
    world.run(&mut [&mut worker], 60_000);
    let lost = world.now().wall.minus(Duration::from_secs(20));
    beat(&world, 0, &[(PREVIOUS.to_owned(), MetaValue::Long(lost.0))]);
    world.run(&mut [&mut worker], 1_000);
    let gap = Gap { topic: "us.vector-cdc".to_owned(), from: 1, until: 1 };
    let incomplete = |world: &World| progress_records(world, 0).pop().unwrap().incomplete;
    assert_eq!(incomplete(&world), std::slice::from_ref(&gap));
    assert_eq!(worker.task("0_0").incomplete, ["us.vector-cdc before 1"]);
    world.stop(worker);
    let mut worker = world.start();
    beat(&world, 0, &[(PREVIOUS.to_owned(), MetaValue::Long(lost.0))]);
    world.run(&mut [&mut worker], 2_000);
    assert_eq!(worker.task("0_0").incomplete, ["us.vector-cdc before 1"], "the chain holds again, and what is lost stays lost");
    put(&world, Mark::End { filled: vec![gap], since: BTreeMap::new() }.append(&repair(&world, 0)));
    world.run(&mut [&mut worker], 2_000);
    assert_eq!((incomplete(&world), &worker.task("0_0").incomplete[..]), (Vec::new(), &[][..]));
}

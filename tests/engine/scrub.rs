//! The scrubber: what somebody else does to the vector store's rows is undone, and what is not ours is left alone.

use crate::lag::beat;
use crate::oracle::{assert_oracle, progress_records};
use crate::tombstones::{run_with_peer, world_with_heartbeats};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, EPOCH_MS, World, row_id, stamp};
use driftless::adapter::embedded::broker::Message;
use driftless::adapter::embedded::vector::StoredRow;
use driftless::base::ids::{Region, TopicPartition};
use driftless::merge::version::Version;
use driftless::port::log::Append;
use driftless::port::vector::StoreError;
use driftless::record::change::MetaValue;
use driftless::task::heartbeat::PREVIOUS;
use driftless::task::repair_topic::Mark;
use std::collections::BTreeMap;
use std::time::Duration;

const PASS: Duration = Duration::from_secs(10);
/// The pass that is under way, and a whole one.
const TWO_PASSES_S: u64 = 21;
/// What is stamped later than this was appended after the first heartbeats, by whatever clock that admission allows.
const KNOWN_FROM_S: u64 = 65;

fn scrubbing(mut world: World) -> World {
    world.settings.task.scrub.enabled = true;
    world.settings.task.scrub.pass_min = PASS;
    world
}

fn version(ms: i64, sequence: u64) -> Version {
    Version { hlc: stamp(ms), origin: Region::new("us"), sequence }
}

fn meddle(world: &World, id: i64, version: Option<Version>) {
    let row = version.map(|version| StoredRow { vector: vec![9.0, 9.0], version, metadata: b"{}".to_vec() });
    world.database.meddle(DOCUMENTS, row_id(id), row);
}

fn version_of(world: &World, id: i64) -> Option<Version> {
    world.database.scan(DOCUMENTS).get(&row_id(id)).map(|row| row.version.clone())
}

fn found(worker: &Worker, word: &str) -> u64 {
    worker.report().tasks.iter().filter_map(|task| task.scrub.found.get(word)).sum()
}

fn rows_written(world: &mut World) -> Worker {
    let mut worker = world.start();
    for id in 1..=6 {
        world.upsert("us", id, 1_000, 0.5);
    }
    world.settle(&mut [&mut worker]);
    world.delete("us", 6, 2_000);
    world.settle(&mut [&mut worker]);
    worker
}

#[test]
fn f01_rows_that_are_missing_older_or_there_again_are_put_right_within_a_pass_and_nothing_else_is_written() {
    let mut world = scrubbing(World::new(2));
    let mut worker = rows_written(&mut world);
    let sent = worker.store().rows_sent();
    meddle(&world, 1, None);
    meddle(&world, 2, Some(version(999, 7)));
    meddle(&world, 3, Some(version(1_000, 6)));
    meddle(&world, 4, Some(Version { origin: Region::new(""), ..version(0, 0) }));
    meddle(&world, 6, Some(version(1_000, 7)));
    world.run_in_steps(&mut [&mut worker], TWO_PASSES_S * 1_000, 50);
    assert_oracle(&world, &[], "after a pass");
    assert_eq!(worker.store().rows_sent() - sent, 5, "five rows differed");
    let words = ["missing", "older", "undeleted"].map(|word| found(&worker, word));
    assert_eq!(words, [1, 3, 1]);
    assert!(worker.report().tasks.iter().all(|task| task.scrub.passes >= 2 && task.scrub.share > 0.0));
    world.run_in_steps(&mut [&mut worker], TWO_PASSES_S * 1_000, 50);
    assert_eq!(worker.store().rows_sent() - sent, 5, "once");

    // Whoever takes over scrubs for itself: nothing of this is handed on as suspected.
    meddle(&world, 1, None);
    world.stop(worker);
    assert!(progress_records(&world, 0).last().is_some_and(|progress| progress.closed && progress.suspect_from.is_none()));
}

#[test]
fn a_row_that_is_newer_than_its_entry_is_left_alone_until_no_change_can_explain_it() {
    let mut world = scrubbing(world_with_heartbeats());
    let mut worker = world.start();
    run_with_peer(&world, &mut worker, KNOWN_FROM_S);
    let now_ms = world.now().wall.0 - EPOCH_MS;
    let ours = world.upsert("us", 1, now_ms, 0.5).version;
    run_with_peer(&world, &mut worker, 1);
    assert_eq!(version_of(&world, 1), Some(ours.clone()));
    let newer = version(now_ms + 10, 1);
    meddle(&world, 1, Some(newer.clone()));
    run_with_peer(&world, &mut worker, TWO_PASSES_S);
    assert_eq!(version_of(&world, 1), Some(newer), "its change may still come");
    assert!(found(&worker, "newer") > 0);
    run_with_peer(&world, &mut worker, 75 + TWO_PASSES_S);
    assert_eq!(version_of(&world, 1), Some(ours.clone()), "below the floor no change can come any more");

    meddle(&world, 1, Some(version(now_ms + 100 * 3_600_000, 1)));
    run_with_peer(&world, &mut worker, TWO_PASSES_S);
    assert_eq!(version_of(&world, 1), Some(ours), "no change is admitted with such a stamp");
}

#[test]
fn a_row_without_an_entry_is_deleted_below_the_floor_only_and_one_without_a_version_never() {
    let mut world = scrubbing(world_with_heartbeats());
    let mut worker = world.start();
    world.upsert("us", 1, 0, 0.5);
    run_with_peer(&world, &mut worker, 100 + KNOWN_FROM_S);
    let now_ms = world.now().wall.0 - EPOCH_MS;
    let floor_ms = worker.task("0_0").floor_ms.expect("both have spoken") - EPOCH_MS;
    meddle(&world, 10, Some(version(floor_ms - 1_000, 1)));
    meddle(&world, 11, Some(version(now_ms, 1)));
    let sent = worker.store().rows_sent();
    run_with_peer(&world, &mut worker, 2 * TWO_PASSES_S);
    assert_eq!(version_of(&world, 10), None, "it can be nobody's");
    assert_eq!(version_of(&world, 11), Some(version(now_ms, 1)), "a change may still come that it is of");
    assert_eq!((worker.store().rows_sent() - sent, found(&worker, "stranger")), (1, 1));

    // A row without a version stands for a collection that is still to be imported.
    meddle(&world, 12, Some(Version { origin: Region::new(""), ..version(0, 0) }));
    run_with_peer(&world, &mut worker, 100);
    assert!(version_of(&world, 11).is_some() && version_of(&world, 12).is_some(), "nothing is deleted beside it");
    meddle(&world, 12, None);
    run_with_peer(&world, &mut worker, 2 * TWO_PASSES_S);
    assert_eq!((version_of(&world, 11), version_of(&world, 1).is_some()), (None, true));
    assert_eq!(worker.report().walks[0].misnamed, 0);
}

#[test]
fn a_partition_that_lacks_records_deletes_no_stranger_and_forgets_no_tombstone_until_a_resync_has_ended() {
    let mut world = scrubbing(world_with_heartbeats());
    let mut worker = world.start();
    run_with_peer(&world, &mut worker, KNOWN_FROM_S);
    let now_ms = world.now().wall.0 - EPOCH_MS;
    world.delete("eu", 1, now_ms);
    run_with_peer(&world, &mut worker, 1);
    // A heartbeat's predecessor never came.
    world.run_in_steps(&mut [&mut worker], 20_000, 100);
    let lost = world.now().wall.minus(Duration::from_secs(5));
    beat(&world, 0, &[(PREVIOUS.to_owned(), MetaValue::Long(lost.0))]);
    meddle(&world, 10, Some(version(now_ms, 1)));
    meddle(&world, 11, Some(version(0, 1)));
    run_with_peer(&world, &mut worker, 120 + 2 * TWO_PASSES_S);
    let there = |world: &World| [10, 11].map(|id| version_of(world, id).is_some());
    assert!(worker.task("0_0").floor_ms.is_some_and(|floor_ms| floor_ms > EPOCH_MS + now_ms));
    assert_eq!((there(&world), worker.task("0_0").entries), ([true, true], 1), "what it lacks may be their entry");

    let filled = progress_records(&world, 0).pop().unwrap().incomplete;
    assert_eq!(filled.len(), 1);
    let end = |filled, since| Mark::End { filled, since }.append(&TopicPartition::new(world.settings.topics.repair(0), 0));
    let put = |append: Append| {
        let Append { to, key, value, headers } = append;
        world.broker.append(&to, Message { key, value, headers: headers.into_vec(), timestamp: None }).unwrap()
    };
    put(end(filled, BTreeMap::new()));
    run_with_peer(&world, &mut worker, 2 * TWO_PASSES_S);
    assert_eq!((there(&world), worker.task("0_0").entries), ([false, true], 0), "the other is older than all that was read");

    put(end(Vec::new(), BTreeMap::from([("us".to_owned(), None)])));
    run_with_peer(&world, &mut worker, 2 * TWO_PASSES_S);
    assert_eq!(there(&world), [false, false], "now it is known from the beginning what us has written");
}

/// Found by the simulator (seed 18): such a stamp comes below the floor when its time has come, and that may be never.
#[test]
fn a_row_without_an_entry_whose_stamp_no_change_can_have_is_deleted_without_waiting_for_the_floor() {
    let mut world = scrubbing(World::new(1));
    let mut worker = rows_written(&mut world);
    let now_ms = world.now().wall.0 - EPOCH_MS;
    meddle(&world, 10, Some(version(now_ms + 100 * 3_600_000, 1)));
    meddle(&world, 11, Some(version(now_ms + 60_000, 1)));
    world.run_in_steps(&mut [&mut worker], 2 * TWO_PASSES_S * 1_000, 50);
    assert!(worker.task("0_0").floor_ms < Some(EPOCH_MS + now_ms), "no floor is near it");
    assert_eq!(version_of(&world, 10), None, "no change is admitted with such a stamp");
    assert!(version_of(&world, 11).is_some(), "by a clock that is ahead this one may be");
}

#[test]
fn many_rows_without_entries_are_left_alone_since_it_is_the_entries_that_are_missing() {
    let world = scrubbing(world_with_heartbeats());
    let mut worker = world.start();
    for id in 1..=50 {
        meddle(&world, id, Some(version(KNOWN_FROM_S as i64 * 1_000, 1)));
    }
    run_with_peer(&world, &mut worker, 200);
    assert!(worker.task("0_0").floor_ms.expect("both have spoken") > EPOCH_MS + KNOWN_FROM_S as i64 * 1_000);
    assert_eq!(world.database.rows(DOCUMENTS), 50);
}

#[test]
fn a_store_that_throttles_is_read_less_and_less_and_what_differs_is_found_when_it_answers_again() {
    let mut world = scrubbing(World::new(1));
    let mut worker = rows_written(&mut world);
    meddle(&world, 1, None);
    worker.store().reads_fail = Some(StoreError::Throttled("rate limit exceeded".to_owned()));
    let reads = |worker: &Worker| {
        let store = worker.store();
        (store.read_backs, store.scans)
    };
    let before = reads(&worker);
    world.run_in_steps(&mut [&mut worker], 120_000, 100);
    let after = reads(&worker);
    let asked = (after.0 - before.0, after.1 - before.1);
    assert!((3..=9).contains(&asked.0) && (3..=9).contains(&asked.1), "asked {asked:?} times in two minutes");
    worker.store().reads_fail = None;
    world.run_in_steps(&mut [&mut worker], 61_000 + TWO_PASSES_S * 1_000, 100);
    assert_oracle(&world, &[], "after the throttling");
}

#[test]
fn nothing_is_read_while_a_collection_s_lane_is_held_up() {
    let mut world = scrubbing(World::new(1));
    let mut worker = rows_written(&mut world);
    world.database.check_writes_with(Some(Box::new(|_, _| Err(StoreError::Unavailable("connection refused".to_owned())))));
    world.upsert("us", 1, 3_000, 0.7);
    world.run_in_steps(&mut [&mut worker], 2_000, 50);
    let before = worker.store().read_backs;
    world.run_in_steps(&mut [&mut worker], 60_000, 50);
    assert_eq!(worker.store().read_backs, before);
    world.database.check_writes_with(None);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], TWO_PASSES_S * 1_000, 50);
    assert!(worker.store().read_backs > before);
    assert_oracle(&world, &[], "after the outage");
}

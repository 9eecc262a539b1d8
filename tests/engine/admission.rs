//! What is admitted, what is moved to where it belongs, and where losers are kept.

use crate::oracle::{assert_oracle, dead_letters};
use crate::world::{DOCUMENTS, World, change, row_id, stamp};
use bytes::Bytes;
use driftless::adapter::embedded::broker::Message;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::base::ids::TopicPartition;
use driftless::record::avro::WireOp;
use driftless::record::framing;
use driftless::region::partitioner::partition_for_key;
use driftless::store::entry::version_text;

const L_MS: i64 = 3_600_000;

#[test]
fn f41_f56_both_bounds_are_admitted_one_beyond_is_dead_lettered_and_the_key_stays_writable() {
    let mut world = World::new(1);
    world.clock.advance(L_MS as u64 * 2);
    let mut worker = world.start();
    let a = world.now().wall.0 - crate::world::EPOCH_MS;
    for (id, ms) in [(1, a + 60_000), (2, a + 60_001), (3, a - L_MS), (4, a - L_MS - 1)] {
        world.upsert(if id % 2 == 0 { "us" } else { "eu" }, id, ms, 0.1);
    }
    world.settle(&mut [&mut worker]);
    let reasons: Vec<String> = dead_letters(&world).into_iter().map(|(.., reason)| reason).collect();
    assert_eq!(reasons, ["early", "late"]);
    assert_oracle(&world, &[], "with one too early and one too late");
    let now = world.now().wall.0 - crate::world::EPOCH_MS;
    for id in [2, 4] {
        world.upsert("eu", id, now, 0.2);
    }
    world.settle(&mut [&mut worker]);
    assert_eq!(world.database.rows(DOCUMENTS), 4);
    assert_oracle(&world, &[], "after good changes of the same keys");
}

#[test]
fn f40_keyless_and_mis_keyed_changes_are_moved_by_their_own_region_and_skipped_in_the_mirror() {
    let world = World::new(3);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let value =
        |origin: &str, id| Bytes::from(framing::frame(OUR_SCHEMA_ID, &change(WireOp::Upsert, origin, id, 1_000, &[0.1, 0.2])));
    let right = |id: i64| partition_for_key(id.to_string().as_bytes(), 3);
    let local = |partition| TopicPartition::new("vector-cdc", partition);
    let mirror = |partition| TopicPartition::new("us.vector-cdc", partition);
    // No key; another key; the right key in the wrong partition: of both regions.
    for (to, origin, first) in [(&local as &dyn Fn(i32) -> TopicPartition, "eu", 10), (&mirror, "us", 20)] {
        world.append(&to(right(first)), None, Some(value(origin, first)));
        world.append(&to(right(first + 1)), Some("customer-7"), Some(value(origin, first + 1)));
        world.append(&to((right(first + 2) + 1) % 3), Some(&(first + 2).to_string()), Some(value(origin, first + 2)));
    }
    world.settle(&mut [&mut worker]);
    let totals = worker.report().totals;
    assert_eq!((totals.verdict("rekeyed"), totals.verdict("mis-keyed")), (3, 3));
    let rows: Vec<_> = world.database.scan(DOCUMENTS).into_keys().collect();
    assert_eq!(rows, [row_id(10), row_id(11), row_id(12)]);
    for id in 10..13 {
        let key = id.to_string();
        let moved = world.read(&local(right(id))).into_iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        assert_eq!(moved.map(|record| record.value).collect::<Vec<_>>(), [Some(value("eu", id))], "bytes unchanged, once");
    }
}

#[test]
fn f55_a_loser_of_another_origin_is_kept_on_the_conflicts_topic_with_the_version_that_won() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.upsert("us", 1, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    // Equal stamps: the origin decides, by its bytes.
    let loser = world.upsert("eu", 1, 1_000, 0.2);
    world.upsert("us", 1, 500, 0.3);
    world.settle(&mut [&mut worker]);
    let conflicts = world.read(&TopicPartition::new(world.settings.topics.conflicts(), 0));
    assert_eq!(conflicts.len(), 1, "the stale one of the same origin is none");
    let header = |name| conflicts[0].header_text(name).unwrap_or_default().to_owned();
    assert_eq!(conflicts[0].value, Some(loser.value));
    assert_eq!(header("driftless.winner"), version_text(&world.produced[0].version));
    assert_eq!((header("driftless.topic"), header("driftless.offset")), ("vector-cdc".to_owned(), loser.offset.to_string()));
    assert_oracle(&world, &[], "after the conflict");
}

#[test]
fn f43_of_two_changes_with_one_version_the_same_wins_in_either_order() {
    let winner = |first: f32, second: f32| {
        let mut world = World::new(1);
        let mut worker = world.start();
        world.upsert("eu", 1, 1_000, first);
        world.settle(&mut [&mut worker]);
        world.upsert("eu", 1, 1_000, second);
        world.settle(&mut [&mut worker]);
        assert_oracle(&world, &[], "after the twin");
        world.database.scan(DOCUMENTS)[&row_id(1)].vector.clone()
    };
    assert_eq!(winner(0.1, 0.2), winner(0.2, 0.1));
}

#[test]
fn f45_a_thousand_changes_of_one_key_in_a_poll_are_one_row_sent() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    for ms in 0..1_000 {
        world.upsert("eu", 1, ms, ms as f32);
    }
    world.settle(&mut [&mut worker]);
    assert!(worker.store().times_sent(1) <= 3, "sent {} times", worker.store().times_sent(1));
    assert_eq!(world.database.scan(DOCUMENTS)[&row_id(1)].version.hlc, stamp(999));
    assert_oracle(&world, &[], "after coalescing");
}

#[test]
fn a_record_without_a_value_is_kept_with_its_key_and_its_own_headers() {
    let world = World::new(1);
    let mut worker = world.start();
    let own = (std::sync::Arc::from("trace-id"), Some(Bytes::from_static(b"42")));
    let message = Message { key: Some("1".into()), value: None, headers: vec![own.clone()], timestamp: None };
    world.broker.append(&TopicPartition::new("vector-cdc", 0), message).unwrap();
    world.settle(&mut [&mut worker]);
    let kept = world.read(&TopicPartition::new(world.settings.topics.dead_letter(), 0)).remove(0);
    assert_eq!((kept.key.as_deref(), kept.value.clone(), &kept.headers[0]), (Some(&b"1"[..]), None, &own));
    assert_eq!(kept.header_text("driftless.reason"), Some("null-value"));
}

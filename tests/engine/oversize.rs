//! Records of which no copy fits anywhere.

use crate::oracle::{assert_oracle, dead_letters};
use crate::world::World;
use bytes::Bytes;
use driftless::adapter::embedded::broker::Message;
use driftless::base::ids::TopicPartition;
use driftless::record::size::{COPY_BYTES_MAX, RECORD_BYTES_MAX};
use std::sync::Arc;

/// A change in JSON of that many bytes, which nothing but its size speaks against.
fn padded(bytes: usize) -> Bytes {
    let change = r#"{"type":"upsert","collection":"documents","vector_id":1,"payload":[1,2],"timestamp":1700000000000}"#;
    Bytes::from(format!("{change}{}", " ".repeat(bytes - change.len())))
}

#[test]
fn inv_9_a_record_too_large_for_any_copy_is_kept_without_its_value_and_holds_nothing_up() {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let dead_letter = TopicPartition::new(world.settings.topics.dead_letter(), 0);
    for origin in ["eu", "us"] {
        let at = TopicPartition::new(world.topic(origin), 0);
        let headers = vec![(Arc::from("trace"), Some(Bytes::from_static(b"t1")))];
        let message = Message { key: Some("1".into()), value: Some(padded(RECORD_BYTES_MAX)), headers, timestamp: None };
        let offset = world.broker.append(&at, message).unwrap();
        world.upsert(origin, 2, 1_000, 0.2);
        world.settle(&mut [&mut worker]);
        let letter = world.read(&dead_letter).pop().unwrap();
        assert_eq!((letter.value.as_ref(), letter.key.as_deref()), (None, Some(&b"1"[..])));
        assert_eq!(letter.header_text("trace"), Some("t1"));
        assert_eq!(letter.header_text("driftless.reason"), Some("too-large"));
        let detail = letter.header_text("driftless.detail").unwrap();
        assert!(detail.contains(&format!("{at} offset {offset}")) && detail.contains("16711"), "{detail}");
    }
    assert_eq!(dead_letters(&world).len(), 2, "alike from either source");
    assert_oracle(&world, &[], "past the large ones");
}

/// Its copies are those of a bad record in the dead-letter topic and of a winner in the vectors changelog; and a
/// detail that quotes the record must not make it larger than it may be.
#[test]
fn every_copy_of_the_largest_record_fits() {
    let mut world = World::new(1);
    let mut worker = world.start();
    let at = TopicPartition::new(world.topic("eu"), 0);
    world.append(&at, Some("1"), Some(padded(RECORD_BYTES_MAX - 1)));
    let quoted = format!(r#"{{"type":"{}"}}"#, "x".repeat(RECORD_BYTES_MAX - 100));
    world.append(&at, Some("1"), Some(Bytes::from(quoted)));
    world.upsert("eu", 2, 1_000, 0.2);
    world.settle(&mut [&mut worker]);
    let copied = |topic: Arc<str>| {
        let records = world.read(&TopicPartition::new(topic, 0));
        let largest = records.iter().map(|record| record.bytes() + 10 * record.headers.len()).max();
        largest.expect("something was copied")
    };
    for topic in [world.settings.topics.dead_letter(), world.settings.topics.vectors_changelog(0)] {
        let bytes = copied(topic.clone());
        assert!((RECORD_BYTES_MAX - 100..COPY_BYTES_MAX - 1_000).contains(&bytes), "{topic}: {bytes}");
    }
    assert_eq!(dead_letters(&world).len(), 1);

    // And the winner among them can be written again after an unclean end.
    worker.kill();
    world.outlive_session();
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    world.run_in_steps(&mut [&mut next], 35_000, 500);
    assert_eq!(next.report().totals.reasserted, 2);
}

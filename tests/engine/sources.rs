//! Sources that are not there, not alike, not the same any more, or not readable yet.

use crate::oracle::{assert_oracle, dead_letters, winners};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, World};
use driftless::adapter::embedded::EmbeddedReader;
use driftless::adapter::embedded::broker::{Message, TimestampType};
use driftless::base::error::Result;
use driftless::base::ids::{Region, TopicPartition};
use driftless::base::time::UnixMs;
use driftless::port::log::{Bounds, LogReader, TopicDescription};
use driftless::record::raw::RawRecord;
use driftless::stream::source_check::check;
use driftless::task::settlement::{Mark, fingerprint};
use driftless::task::stream_task::SourceStart;
use std::sync::Arc;

#[test]
fn f57_a_source_with_another_partition_count_is_refused_with_names_and_counts_and_the_others_go_on() {
    let mut world = World::of("eu", &["eu", "us", "ap"], 1, 2, Default::default());
    world.create_mirror("us", 3);
    world.create_mirror("ap", 2);
    let (mut worker, mut other) = (world.start(), world.start());
    world.run(&mut [&mut worker, &mut other], 100);
    world.upsert("eu", 1, 1_000, 0.1);
    world.upsert("ap", 2, 1_000, 0.2);
    let wrong = world.upsert("us", 3, 1_000, 0.3);
    world.settle(&mut [&mut worker, &mut other]);
    assert_eq!(world.database.rows(DOCUMENTS), 2, "us is not read, eu and ap are");
    let present: Vec<(String, bool)> =
        worker.report().tasks[0].sources.iter().map(|source| (source.topic.clone(), source.present)).collect();
    assert!(present.contains(&("us.vector-cdc".to_owned(), false)), "{present:?}");
    let start = SourceStart {
        region: Region::new("us"),
        topic: wrong.at.topic.clone(),
        topic_id: None,
        next_offset: 0,
        mark: None,
        frontier: None,
        since: None,
        present: false,
    };
    let warning = check(&mut EmbeddedReader::new(world.broker.clone()), start, 0, 2).unwrap().warning.unwrap();
    assert!(warning.contains("us.vector-cdc has 3 partitions") && warning.contains(" has 2"), "{warning}");
}

#[test]
fn a_mirror_that_appears_later_is_taken_up_from_its_beginning() {
    let mut world = World::of("eu", &["eu", "us"], 1, 1, Default::default());
    let mut worker = world.start();
    world.upsert("eu", 1, 1_000, 0.1);
    world.settle(&mut [&mut worker]);
    assert!(!worker.source("us.vector-cdc").present);
    world.create_mirror("us", 1);
    world.upsert("us", 2, 1_000, 0.2);
    world.run_in_steps(&mut [&mut worker], 6_000, 500);
    assert!(worker.source("us.vector-cdc").present);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the mirror has appeared");
    world.stop(worker);
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_eq!((next.store().rows_sent(), next.source("us.vector-cdc").next_offset), (0, 1));
}

/// The mirror is deleted and created again, and other records grow past our position.
fn recreate_mirror(world: &mut World, records: i64) {
    world.broker.delete_topic("us.vector-cdc");
    world.create_mirror("us", 1);
    for id in 0..records {
        world.upsert("us", 100 + id, 2_000, 0.5);
    }
}

fn with_settled_mirror() -> (World, Worker) {
    let mut world = World::new(1);
    let mut worker = world.start();
    for id in 0..5 {
        world.upsert("us", id, 1_000, 0.1);
        world.upsert("eu", 10 + id, 1_000, 0.1);
    }
    world.settle(&mut [&mut worker]);
    (world, worker)
}

#[test]
fn f35_f66_a_topic_created_anew_during_an_assignment_is_found_and_read_from_its_beginning() {
    for records in [2, 5, 20] {
        let (mut world, mut worker) = with_settled_mirror();
        recreate_mirror(&mut world, records);
        world.run_in_steps(&mut [&mut worker], 40_000, 500);
        world.settle(&mut [&mut worker]);
        assert_eq!(world.database.rows(DOCUMENTS) as i64, 10 + records);
        assert_oracle(&world, &[], "after the topic was created anew");
        world.upsert("eu", 1_000, 3_000, 0.1);
        world.upsert("us", 1_001, 3_000, 0.1);
        world.settle(&mut [&mut worker]);
        assert_oracle(&world, &[], "and with what follows");
    }
}

#[test]
fn f35_f66_a_topic_created_anew_while_nobody_looked_is_found_at_the_next_start() {
    let (mut world, worker) = with_settled_mirror();
    world.stop(worker);
    recreate_mirror(&mut world, 20);
    let mut next = world.start();
    world.settle(&mut [&mut next]);
    assert_oracle(&world, &[], "after the start");
    assert_eq!(next.store().rows_sent(), 20, "what was settled is not sent again");
}

#[test]
fn f34_records_deleted_before_they_were_read_are_told_and_passed() {
    let mut world = World::new(1);
    for id in 0..10 {
        world.upsert("us", id, 1_000, 0.1);
    }
    let at = world.produced[0].at.clone();
    world.broker.delete_below(&at, 4).unwrap();
    let start = SourceStart {
        region: Region::new("us"),
        topic: at.topic.clone(),
        topic_id: None,
        next_offset: 2,
        mark: Some(Mark { appended_at: UnixMs(1), fingerprint: 2 }),
        frontier: None,
        since: None,
        present: true,
    };
    let checked = check(&mut EmbeddedReader::new(world.broker.clone()), start, 0, 1).unwrap();
    assert_eq!((checked.start.next_offset, checked.replay), (4, false));
    assert!(checked.warning.unwrap().contains("records 2 to 3"));
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    assert_eq!(world.database.rows(DOCUMENTS), 6);
}

#[test]
fn f65_a_registry_that_does_not_answer_holds_its_own_source_and_no_other() {
    let mut world = World::of("eu", &["eu", "us", "ap"], 1, 1, Default::default());
    world.create_mirror("us", 1);
    world.create_mirror("ap", 1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.silent_registries.lock().unwrap().insert(Region::new("us"));
    for id in 0..20 {
        world.upsert("us", id, 1_000, 0.1);
        world.upsert("eu", 100 + id, 1_000, 0.1);
        world.upsert("ap", 200 + id, 1_000, 0.1);
    }
    world.run(&mut [&mut worker], 2_000);
    assert_eq!(world.database.rows(DOCUMENTS), 40);
    assert_eq!((worker.source("us.vector-cdc").next_offset, worker.source("ap.vector-cdc").next_offset), (0, 20));
    assert!(dead_letters(&world).is_empty());
    worker.silent_registries.lock().unwrap().clear();
    world.settle(&mut [&mut worker]);
    assert_eq!(winners(&world).len(), world.database.rows(DOCUMENTS));
    assert_oracle(&world, &[], "after the registry answers");
}

#[test]
fn a_topic_that_agrees_only_later_is_taken_up_when_it_does() {
    let mut world = World::of("eu", &["eu", "us"], 1, 2, Default::default());
    let topic: Arc<str> = world.topic("us");
    world.broker.create_topic(&topic, 5, TimestampType::CreateTime).unwrap();
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.broker.delete_topic(&topic);
    world.create_mirror("us", 2);
    for id in 0..6 {
        world.upsert("us", id, 1_000, 0.1);
    }
    world.run_in_steps(&mut [&mut worker], 6_000, 500);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the mirror was created anew");
}

/// Read past before anybody looked, its own records bear it out; what was there at the last check does not.
#[test]
fn f66_a_topic_created_anew_and_read_past_just_before_the_end_is_found_at_the_next_start() {
    for closed in [true, false] {
        let (mut world, mut worker) = with_settled_mirror();
        world.run_in_steps(&mut [&mut worker], 40_000, 500);
        recreate_mirror(&mut world, 20);
        world.run(&mut [&mut worker], 1_000);
        assert_eq!(worker.source("us.vector-cdc").next_offset, 20, "not read past");
        assert_eq!(world.database.rows(DOCUMENTS), 10 + 15, "its first five were never seen");
        if closed {
            world.stop(worker);
        } else {
            worker.kill();
            world.outlive_session();
        }
        let mut next = world.start();
        world.settle(&mut [&mut next]);
        assert_oracle(&world, &[], "after the start");
        // Once found, it is the topic that is known.
        world.upsert("us", 500, 3_000, 0.7);
        world.settle(&mut [&mut next]);
        let polled = next.report().totals.polled();
        world.run_in_steps(&mut [&mut next], 70_000, 500);
        assert_eq!(next.report().totals.polled(), polled, "read from its beginning again");
    }
}

/// A mirror that is copied again from the start keeps its times, and may have fewer duplicates further on: every place
/// that was remembered is there again, and other records lie between.
fn with_a_mirror_that_begins_alike_and_was_read_past() -> (World, Worker) {
    let (mut world, mut worker) = with_settled_mirror();
    world.run_in_steps(&mut [&mut worker], 40_000, 500);
    let at = TopicPartition::new(world.topic("us"), 0);
    let copied = world.read(&at);
    // Two duplicates at the end; the copy that follows has other changes there instead.
    for _ in 0..2 {
        world.upsert("us", 4, 1_000, 0.1);
    }
    world.settle(&mut [&mut worker]);
    assert_eq!(worker.source("us.vector-cdc").next_offset, 7);
    world.broker.delete_topic(&at.topic);
    world.create_mirror("us", 1);
    for record in copied {
        let RawRecord { key, value, headers, appended_at, .. } = record;
        world.broker.append(&at, Message { key, value, headers, timestamp: Some(appended_at) }).unwrap();
    }
    for id in 0..20 {
        world.upsert("us", 100 + id, 2_000, 0.5);
    }
    world.run(&mut [&mut worker], 1_000);
    assert_eq!(worker.source("us.vector-cdc").next_offset, 25, "not read past");
    assert_eq!(world.database.rows(DOCUMENTS), 10 + 18, "two were never seen");
    (world, worker)
}

#[test]
fn f35_f66_a_topic_with_the_same_beginning_as_the_one_before_is_known_for_another_by_its_id() {
    let (world, mut worker) = with_a_mirror_that_begins_alike_and_was_read_past();
    world.run_in_steps(&mut [&mut worker], 40_000, 500);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "during the assignment");
    let polled = worker.report().totals.polled();
    world.run_in_steps(&mut [&mut worker], 70_000, 500);
    assert_eq!(worker.report().totals.polled(), polled, "read from its beginning again");
    for closed in [true, false] {
        let (world, worker) = with_a_mirror_that_begins_alike_and_was_read_past();
        if closed {
            world.stop(worker);
        } else {
            worker.kill();
            world.outlive_session();
        }
        let mut next = world.start();
        world.settle(&mut [&mut next]);
        assert_oracle(&world, &[], "after the start");
    }
}

/// Gives no ids until it is told to, as brokers before KIP-516, and afterwards.
struct WithoutIds {
    inner: EmbeddedReader,
    ids: bool,
}

impl LogReader for WithoutIds {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        let found = self.inner.describe(topic)?;
        Ok(found.map(|found| TopicDescription { id: found.id.filter(|_| self.ids), ..found }))
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        self.inner.bounds(partition)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        self.inner.offset_at(partition, at)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.inner.open(partition, offset)
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        self.inner.read(records)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

#[test]
fn f35_f66_an_id_that_was_not_known_is_taken_with_a_record_that_agrees_and_not_without() {
    let mut world = World::new(1);
    for id in 0..5 {
        world.upsert("us", id, 1_000, 0.1);
    }
    let at = TopicPartition::new(world.topic("us"), 0);
    let records = world.read(&at);
    let mark = |index: usize| Mark { appended_at: records[index].appended_at, fingerprint: fingerprint(&records[index]) };
    let start = |next_offset, mark| SourceStart {
        region: Region::new("us"),
        topic: at.topic.clone(),
        topic_id: None,
        next_offset,
        mark,
        frontier: None,
        since: None,
        present: true,
    };
    let mut reader = WithoutIds { inner: EmbeddedReader::new(world.broker.clone()), ids: false };
    let unknown = check(&mut reader, start(3, Some(mark(2))), 0, 1).unwrap();
    assert_eq!((unknown.replay, unknown.start.topic_id), (false, None));
    reader.ids = true;
    let id = reader.describe(&at.topic).unwrap().unwrap().id;
    let known = check(&mut reader, start(3, Some(mark(2))), 0, 1).unwrap();
    assert_eq!((known.replay, &known.start.topic_id), (false, &id));
    assert_eq!(check(&mut reader, start(0, None), 0, 1).unwrap().start.topic_id, id, "nothing was read of another one");
    let other = check(&mut reader, start(3, Some(mark(1))), 0, 1).unwrap();
    assert_eq!((other.replay, other.start.topic_id), (true, id.clone()));
    reader.ids = false;
    let kept = check(&mut reader, known.start.clone(), 0, 1).unwrap();
    assert_eq!((kept.replay, kept.start.topic_id), (false, id), "a broker that tells none takes none away");
    reader.ids = true;
    world.broker.delete_below(&at, 3).unwrap();
    let gone = check(&mut reader, start(3, Some(mark(2))), 0, 1).unwrap();
    assert_eq!((gone.replay, gone.start.topic_id), (false, None), "there was nothing to compare");
    world.broker.delete_topic(&at.topic);
    world.create_mirror("us", 1);
    let checked = check(&mut reader, known.start, 0, 1).unwrap();
    assert!(checked.replay);
    let warning = checked.warning.unwrap();
    assert!(warning.contains("us.vector-cdc") && warning.contains("created again"), "{warning}");
}

/// Bytes of a buffer that one source may fill.
const BUFFER_BYTES_MAX: usize = 8 << 10;

/// A worker whose source us waits for a schema, and is about to be full.
fn blocked_mirror() -> (World, Worker) {
    let mut world = World::new(1);
    world.settings.task.buffer_bytes_max = 2 * BUFFER_BYTES_MAX;
    world.settings.poll_max = 50;
    let mut worker = world.start();
    for id in 0..5 {
        world.upsert("us", id, 1_000, 0.1);
    }
    world.settle(&mut [&mut worker]);
    worker.silent_registries.lock().unwrap().insert(Region::new("us"));
    for id in 0..500 {
        world.upsert("us", 100 + id, 1_000, 0.1);
    }
    (world, worker)
}

#[test]
fn f65_a_full_source_that_waits_for_a_schema_is_paused_at_once_and_keeps_nobody_waiting() {
    let (mut world, mut worker) = blocked_mirror();
    world.run(&mut [&mut worker], 100);
    assert_eq!(worker.pauses(), (1, 0), "borne like one that is only slow");
    assert!(worker.task("0_0").buffered_bytes <= 2 * BUFFER_BYTES_MAX);
    world.upsert("eu", 50, 2_000, 0.2);
    world.run(&mut [&mut worker], 100);
    assert_eq!(world.database.rows(DOCUMENTS), 6, "eu waits for us");
    worker.silent_registries.lock().unwrap().clear();
    world.settle(&mut [&mut worker]);
    assert!(worker.consumer().resumes > 0);
    assert_oracle(&world, &[], "after the registry answers");
}

#[test]
fn a_paused_source_that_is_read_from_its_beginning_again_is_not_taken_for_a_paused_one() {
    let (mut world, mut worker) = blocked_mirror();
    world.run_in_steps(&mut [&mut worker], 31_000, 500);
    assert_eq!(worker.pauses(), (1, 0));
    recreate_mirror(&mut world, 500);
    world.run_in_steps(&mut [&mut worker], 40_000, 500);
    assert_eq!(worker.pauses(), (2, 0), "to fetch anew is to resume, and to be paused anew");
    assert!(worker.task("0_0").buffered_bytes <= 4 * BUFFER_BYTES_MAX, "INV-8");
    worker.silent_registries.lock().unwrap().clear();
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the registry answers");
}

//! One of two collections is unloaded or throttled: it blocks only itself. The stuck one here is "documents", the
//! other "images".

use crate::oracle::{assert_oracle, dead_letters, progress_records, winners};
use crate::worker::Worker;
use crate::world::{DOCUMENTS, FIRST_IMAGE, IMAGES, Produced, World, row_id};
use bytes::Bytes;
use driftless::base::ids::{Region, TopicPartition};
use driftless::port::vector::StoreError;
use driftless::record::raw::RawRecord;
use std::io::Write;
use std::sync::{Arc, Mutex};

const BUFFER_BYTES_MAX: usize = 16 << 10;

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Limits that a few hundred changes reach.
fn small_world(partitions: i32) -> World {
    let mut world = World::with_images(partitions);
    world.settings.task.buffer_bytes_max = BUFFER_BYTES_MAX;
    world.settings.task.batch_bytes_max = 8 << 10;
    world.settings.task.items_max = 500;
    world.settings.poll_max = 100;
    world
}

fn unload(world: &World) {
    fail_documents_with(world, || StoreError::Unavailable("collection not loaded".to_owned()));
}

fn fail_documents_with(world: &World, mut error: impl FnMut() -> StoreError + Send + 'static) {
    world.database.check_writes_with(Some(Box::new(move |collection, _| match collection == DOCUMENTS {
        true => Err(error()),
        false => Ok(()),
    })));
}

fn heal(world: &World) {
    world.database.check_writes_with(None);
}

/// As many changes of both collections, from both origins: new rows, newer versions, stale ones, deletes.
fn produce(world: &mut World, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let origin = if round % 3 == 0 { "us" } else { "eu" };
        for first in [0, FIRST_IMAGE] {
            world.upsert(origin, first + round % 1_500, 1_000 + round, 0.5);
            match round % 7 {
                0 => drop(world.delete(origin, first + round % 900, 1_000 + round)),
                1 => drop(world.upsert("eu", first + round % 1_500, 900 + round / 2, 0.7)),
                _ => {}
            }
        }
    }
}

/// Images whose last change is older than `ms` and that do not show it.
fn images_behind(world: &World, ms: i64) -> Vec<i64> {
    let rows = world.database.scan(IMAGES);
    let now = world.now().wall;
    let winners = winners(world);
    let images = winners.values().filter(|change| change.id >= FIRST_IMAGE && now.since_ms(change.appended_at) > ms);
    let shows = |change: &&Produced| {
        let row = rows.get(&row_id(change.id));
        if change.delete { row.is_none() } else { row.is_some_and(|row| row.version >= change.version) }
    };
    images.filter(|change| !shows(change)).map(|change| change.id).collect()
}

fn parked(worker: &Worker) -> u64 {
    worker.report().tasks.iter().flat_map(|task| task.parked.get("documents")).sum()
}

/// Until changes of the stuck collection lie in the log alone.
fn run_until_parked(world: &mut World, worker: &mut Worker) {
    produce(world, 0..2_000);
    world.run_in_steps(&mut [worker], 10_000, 50);
    assert!(parked(worker) > 1_500, "only {} changes are parked", parked(worker));
    assert_eq!(images_behind(world, 0), Vec::<i64>::new());
}

#[test]
fn f67_a_collection_that_is_unloaded_under_load_blocks_only_itself_within_all_limits() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let record_bytes = world.upsert("eu", 0, 1, 0.0).value.len() + 64 + size_of::<RawRecord>();
    world.settle(&mut [&mut worker]);
    unload(&world);
    let first = world.upsert("eu", 1, 2, 0.0);
    for round in 0..1_200 {
        produce(&mut world, round * 5..round * 5 + 5);
        world.run_in_steps(&mut [&mut worker], 50, 50);
        assert_eq!(images_behind(&world, 500), Vec::<i64>::new(), "at round {round}");
        let task = worker.task("0_0");
        // Twice the limit is borne until a source is paused; a poll may be under way.
        let bytes_max = 2 * BUFFER_BYTES_MAX + BUFFER_BYTES_MAX / 4 + 100 * record_bytes;
        assert!(task.buffered_bytes <= bytes_max, "{} bytes buffered", task.buffered_bytes);
        assert!(task.in_flight <= 500, "{} rows under way", task.in_flight);
        let open: usize = task.sources.iter().map(|source| source.open_records).sum();
        assert!(open < 1_000, "{open} records are remembered as under way");
    }
    assert_eq!((world.database.rows(DOCUMENTS), worker.consumer().pauses), (1, 0));
    assert!(parked(&worker) > 6_000, "{} parked", parked(&worker));
    let source = worker.source("vector-cdc");
    assert_eq!(source.next_offset, first.offset, "INV-4: settled beyond what is parked");
    assert!(source.frontier_ms.unwrap() <= first.appended_at.0, "the floor would pass what is parked");
    assert!(worker.store().sent.len() < 3_000, "{} writes: a hot retry", worker.store().sent.len());
    heal(&world);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the collection was loaded again");
    assert_eq!(parked(&worker), 0);
    let totals = worker.report().totals;
    let judged: u64 = totals.sources.values().flat_map(|source| source.verdicts.values()).sum();
    assert_eq!(judged, totals.polled(), "each is judged once");
}

#[test]
fn f67_rows_of_few_bytes_leave_room_for_other_collections_too() {
    let mut world = World::with_images(1);
    world.settings.task.items_max = 500;
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    run_until_parked(&mut world, &mut worker);
    heal(&world);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the collection was loaded again");
}

#[test]
fn f67_f48_a_collection_that_is_throttled_is_written_slowly_and_the_other_at_full_rate() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    let mut asked = 0;
    world.database.check_writes_with(Some(Box::new(move |collection, _| {
        asked += u32::from(collection == DOCUMENTS);
        let throttled = collection == DOCUMENTS && asked % 5 != 0;
        if throttled { Err(StoreError::Throttled("rate limit".to_owned())) } else { Ok(()) }
    })));
    let mut parked_max = 0;
    for round in 0..600 {
        produce(&mut world, round * 5..round * 5 + 5);
        world.run_in_steps(&mut [&mut worker], 50, 50);
        assert_eq!(images_behind(&world, 500), Vec::<i64>::new(), "at round {round}");
        parked_max = parked_max.max(parked(&worker));
    }
    assert!(parked_max > 1_000, "{parked_max} parked");
    assert!(world.database.rows(DOCUMENTS) > 100, "it does not get on at all");
    // Throttled still: it catches up all the same once it is quiet.
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "while it is throttled");
}

#[test]
fn f67_a_collection_that_is_back_catches_up_although_changes_of_it_never_cease() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    run_until_parked(&mut world, &mut worker);
    heal(&world);
    let mut caught_up = false;
    for round in 2_000..5_000 {
        produce(&mut world, round..round + 1);
        world.clock.advance(5);
        // A read takes four rounds.
        let _ = if round % 4 == 0 { worker.round(world.now()) } else { worker.round_without_restorer(world.now()) };
        caught_up |= parked(&worker) == 0;
    }
    assert!(caught_up, "{} are parked still", parked(&worker));
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after it has caught up under load");
}

#[test]
fn f67_with_all_collections_away_the_sources_wait_and_nothing_is_read_for_nothing() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    world.database.check_writes_with(Some(Box::new(|_, _| Err(StoreError::Unavailable("connection refused".to_owned())))));
    produce(&mut world, 0..3_000);
    world.run_in_steps(&mut [&mut worker], 20_000, 50);
    assert!(worker.consumer().pauses > 0, "its sources were not paused");
    assert!(parked(&worker) < 1_000, "{} are parked for nobody's sake", parked(&worker));
    heal(&world);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the outage");
}

#[test]
fn f67_a_collection_that_is_merely_busy_is_waited_for_and_one_that_gives_no_answer_is_not() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    worker.store().hangs = true;
    for id in 0..400 {
        world.upsert("eu", id, 1_000, 0.5);
    }
    world.upsert("eu", FIRST_IMAGE, 1_000, 0.5);
    world.run(&mut [&mut worker], 900);
    assert_eq!((parked(&worker), worker.store().sent.len()), (0, 1), "it may answer any moment");
    world.run(&mut [&mut worker], 300);
    assert_eq!((parked(&worker) > 100, worker.store().sent.len()), (true, 2), "the image is sent");
    worker.store().hangs = false;
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the answer");
}

#[test]
fn f67_killed_with_changes_parked_nothing_is_lost_at_whatever_moment() {
    // While it is stuck; and with so much left, in percent, of what it has to catch up with.
    for left in [None, Some(99), Some(80), Some(50), Some(20), Some(0)] {
        let mut world = small_world(1);
        let mut worker = world.start();
        world.settle(&mut [&mut worker]);
        unload(&world);
        run_until_parked(&mut world, &mut worker);
        if let Some(left) = left {
            heal(&world);
            let all = parked(&worker);
            while parked(&worker) > all * left / 100 {
                world.run(&mut [&mut worker], 5);
            }
            unload(&world);
        }
        let wreck = worker.kill();
        world.outlive_session();
        let mut next = world.start();
        world.run_in_steps(&mut [&mut next], 5_000, 50);
        produce(&mut world, 2_000..2_300);
        world.run_in_steps(&mut [&mut next], 5_000, 50);
        assert_eq!(images_behind(&world, 500), Vec::<i64>::new());
        heal(&world);
        wreck.land_all();
        world.settle(&mut [&mut next]);
        world.run_in_steps(&mut [&mut next], 35_000, 500);
        world.settle(&mut [&mut next]);
        assert_oracle(&world, &[], &format!("killed with {left:?} % left"));
    }
}

#[test]
fn f67_a_stop_with_changes_parked_leaves_them_unsettled_to_the_next() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    let first = world.upsert("eu", 1, 2, 0.0);
    run_until_parked(&mut world, &mut worker);
    let begun = world.now();
    world.stop(worker);
    assert!(world.now().since(begun).as_millis() < 1_000, "the drain waited for the collection");
    let last = progress_records(&world, 0).pop().unwrap();
    let settled = last.sources.iter().find(|source| source.topic == *first.at.topic).unwrap();
    assert_eq!((settled.next_offset, last.closed), (first.offset, true), "nothing is under way, nothing suspected");
    let mut next = world.start();
    world.run_in_steps(&mut [&mut next], 5_000, 50);
    let (totals, under_way) = (next.report().totals, next.report().tasks[0].in_flight as u64);
    assert_eq!(totals.verdict("winner") - totals.coalesced(), under_way, "images that are read again are known");
    heal(&world);
    world.settle(&mut [&mut next]);
    assert_oracle(&world, &[], "after the next has taken over");
    world.run_in_steps(&mut [&mut next], 35_000, 500);
    world.stop(next);
    let mut idle = world.start();
    world.settle(&mut [&mut idle]);
    assert_eq!(idle.store().rows_sent(), 0, "a clean restart");
}

/// Deletes the first half of what is parked of a source; answers from which offset on it is there.
fn delete_half(world: &World) -> (TopicPartition, i64) {
    let at = TopicPartition::new(world.topic("us"), 0);
    let middle = world.broker.bounds(&at).unwrap().end / 2;
    world.broker.delete_below(&at, middle).unwrap();
    (at, middle)
}

fn assert_what_is_left(world: &World, (at, first): (TopicPartition, i64)) {
    let rows = world.database.scan(DOCUMENTS);
    let documents = winners(world).into_values().filter(|change| change.id < FIRST_IMAGE && !change.delete);
    for change in documents.filter(|change| change.at != at || change.offset >= first) {
        assert_eq!(rows.get(&row_id(change.id)).map(|row| &row.version), Some(&change.version), "row {}", change.id);
    }
}

#[test]
fn f67_f34_parked_changes_that_retention_deletes_are_told_when_they_are_to_be_read_and_the_task_restored() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    run_until_parked(&mut world, &mut worker);
    let deleted = delete_half(&world);
    heal(&world);
    let mut restored = false;
    for _ in 0..1_200 {
        world.clock.advance(5);
        worker.round_without_restorer(world.now());
        restored |= worker.task("0_0").state == "restoring";
        worker.round(world.now());
    }
    assert!(restored, "passed over in silence");
    world.settle(&mut [&mut worker]);
    assert_what_is_left(&world, deleted);
}

#[test]
fn f67_f34_parked_changes_that_retention_deletes_are_told_by_the_check_of_sources_while_the_collection_is_away() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    run_until_parked(&mut world, &mut worker);
    let deleted = delete_half(&world);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || world.run_in_steps(&mut [&mut worker], 40_000, 500));
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let alarm = format!("records 0 to {} were deleted before they were settled", deleted.1 - 1);
    assert!(said.contains(&alarm), "{said}");
    assert_eq!(images_behind(&world, 0), Vec::<i64>::new());
    heal(&world);
    world.settle(&mut [&mut worker]);
    assert_what_is_left(&world, deleted);
}

#[test]
fn f67_f35_a_topic_that_is_created_anew_with_changes_of_it_parked_is_read_from_its_beginning() {
    let mut world = small_world(1);
    let mut worker = world.start();
    for id in 0..5 {
        world.upsert("us", id, 500, 0.1);
    }
    world.settle(&mut [&mut worker]);
    unload(&world);
    run_until_parked(&mut world, &mut worker);
    let lost: Vec<Produced> = world.produced.iter().filter(|change| *change.at.topic == *"us.vector-cdc").cloned().collect();
    world.broker.delete_topic("us.vector-cdc");
    world.create_mirror("us", 1);
    for change in lost.iter().rev() {
        world.append(&change.at, Some(&change.id.to_string()), Some(change.value.clone()));
    }
    world.run_in_steps(&mut [&mut worker], 70_000, 500);
    heal(&world);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the topic was created anew");
}

#[test]
fn f67_what_is_no_change_is_kept_once_and_a_silent_registry_is_waited_for_when_it_is_read_again() {
    let mut world = small_world(1);
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    unload(&world);
    produce(&mut world, 0..1_000);
    let at = world.produced[0].at.clone();
    world.append(&at, Some("1"), Some(Bytes::from_static(b"\x01 no change")));
    world.upsert("us", 7, 5_000_000, 0.3);
    run_until_parked(&mut world, &mut worker);
    assert_eq!(dead_letters(&world).len(), 1, "what is parked is judged when the collection is back");
    worker.silent_registries.lock().unwrap().insert(Region::new("us"));
    heal(&world);
    world.run(&mut [&mut worker], 1_000);
    assert!(parked(&worker) > 0);
    worker.silent_registries.lock().unwrap().clear();
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the registry answers");
    let totals = worker.report().totals.whole();
    assert_eq!(totals.dead_letters.values().sum::<u64>(), 2, "each once: {:?}", totals.dead_letters);
}

/// Draws what happens next from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn f67_collections_that_come_and_go_while_workers_are_killed_and_stopped_end_as_the_oracle_says() {
    for seed in 1..=8u64 {
        let mut dice = Dice(seed << 32 | 0x9e37_79b9);
        let mut world = small_world(2);
        world.settings.task.heartbeat_interval = std::time::Duration::from_secs(1);
        let mut worker = world.start();
        let mut next = 0;
        for _ in 0..40 {
            match dice.below(12) {
                0 | 1 => unload(&world),
                2 => fail_documents_with(&world, || StoreError::Ambiguous("deadline exceeded".to_owned())),
                3 => fail_documents_with(&world, || StoreError::Throttled("rate limit".to_owned())),
                4 | 5 => heal(&world),
                6 => {
                    let wreck = worker.kill();
                    world.outlive_session();
                    worker = world.start();
                    world.run_in_steps(&mut [&mut worker], dice.below(3_000), 20);
                    wreck.land_all();
                }
                7 => {
                    world.stop(worker);
                    worker = world.start();
                }
                _ => {
                    let count = dice.below(400) as i64;
                    produce(&mut world, next..next + count);
                    next += count;
                }
            }
            world.run_in_steps(&mut [&mut worker], dice.below(1_500), 1 + dice.below(50));
        }
        heal(&world);
        world.settle(&mut [&mut worker]);
        // An append of its own in each partition, whose ack shows what others have appended.
        for id in 10_000..10_008 {
            world.upsert("eu", id, 700_000, 1.0);
        }
        world.run_in_steps(&mut [&mut worker], 40_000, 250);
        world.settle(&mut [&mut worker]);
        assert_oracle(&world, &[], &format!("seed {seed}"));
        assert_eq!(parked(&worker), 0, "seed {seed}");
    }
}

//! Standbys: what they have read is gone on from, and it is what a restore from the beginning would find.

use crate::oracle::assert_oracle;
use crate::restore::{entry, held, request, restore, version, write_entry};
use crate::worker::{StandbyLine, Worker};
use crate::world::{APPLICATION, World};
use driftless::adapter::embedded::broker::{Compaction, Message};
use driftless::adapter::embedded::{EmbeddedConsumer, EmbeddedReader};
use driftless::base::error::Result;
use driftless::base::ids::{Region, RowKey, TopicPartition};
use driftless::base::time::UnixMs;
use driftless::port::log::{Bounds, LogReader, TopicDescription};
use driftless::record::raw::RawRecord;
use driftless::store::entry::Entry;
use driftless::store::progress::{PROGRESS_KEY, Progress};
use driftless::stream::restore::{Restore, RestoreResult};
use driftless::stream::restorer::{Reply, Request, Restorer, RestorerHandle, Stepped};
use driftless::task::stream_task::SourceStart;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A process that keeps a standby of partition 0, whose active task another member holds, and runs nothing itself.
struct Keeper {
    line: StandbyLine,
    restorer: Restorer,
    handle: RestorerHandle,
    reader: EmbeddedReader,
    _members: [EmbeddedConsumer; 2],
}

impl Keeper {
    fn new(world: &mut World) -> Self {
        world.standby_replicas = 1;
        let join = |process: &str| {
            let topics = vec![world.settings.topics.local(0)];
            EmbeddedConsumer::join_in(Some(process.to_owned()), world.broker.clone(), APPLICATION, topics, Arc::new(|| {}))
        };
        let members = [join("active"), join("standby")];
        let line = StandbyLine::new(world, "standby".to_owned());
        let (restorer, handle) = Restorer::with_standbys(Arc::new(|| {}), Some(line.standbys.clone()));
        let reader = EmbeddedReader::new(world.broker.clone());
        Self { line, restorer, handle, reader, _members: members }
    }

    fn read_on(&mut self, world: &World) {
        // Past the time at which it looks at its log again.
        world.clock.advance(1_000);
        self.line.read_on(world.now());
    }

    fn promote(&mut self, world: &World) -> RestoreResult {
        self.handle.ask(Request::Restore(request(world))).unwrap();
        while self.restorer.run_once(&mut self.reader, world.now()) == Stepped::Worked {}
        match self.handle.poll() {
            Some(Reply::Restored { result, .. }) => *result,
            _ => panic!("the restore does not end"),
        }
    }
}

type Happening = Box<dyn FnOnce(&World) + Send>;

/// A reader to which something happens just before one of its calls.
struct Interposed {
    inner: EmbeddedReader,
    world: World,
    calls_left: u32,
    happens: Option<Happening>,
}

impl Interposed {
    fn at(world: &World, call: u32, happens: impl FnOnce(&World) + Send + 'static) -> Box<Self> {
        let inner = EmbeddedReader::new(world.broker.clone());
        Box::new(Self { inner, world: world.clone(), calls_left: call, happens: Some(Box::new(happens)) })
    }

    fn inner(&mut self) -> &mut EmbeddedReader {
        self.calls_left = self.calls_left.saturating_sub(1);
        if let Some(happens) = self.happens.take_if(|_| self.calls_left == 0) {
            happens(&self.world);
        }
        &mut self.inner
    }
}

impl LogReader for Interposed {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        self.inner().describe(topic)
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        self.inner().bounds(partition)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        self.inner().offset_at(partition, at)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.inner().open(partition, offset)
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        self.inner().read(records)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

fn write_progress(world: &World, epoch: u64) {
    let progress = Progress { written_at: epoch, epoch, ..Progress::default() };
    let message = Message { key: Some(PROGRESS_KEY.into()), value: Some(progress.encode().into()), ..Message::default() };
    world.broker.append(&world.versions_changelog(0), message).unwrap();
}

fn contents(result: &RestoreResult) -> BTreeMap<RowKey, Entry> {
    let mut contents = BTreeMap::new();
    result.restored.store.for_each(&mut |key, entry| _ = contents.insert(key, entry));
    contents
}

fn assert_same(promoted: &RestoreResult, cold: &RestoreResult, when: &str) {
    assert_eq!(contents(promoted), contents(cold), "{when}");
    let sorted = |result: &RestoreResult| {
        let (mut misplaced, mut forgotten) = (result.restored.misplaced.clone(), result.restored.forgotten.clone());
        misplaced.sort();
        forgotten.sort_by(|a, b| a.0.cmp(&b.0));
        (misplaced, forgotten)
    };
    assert_eq!(sorted(promoted), sorted(cold), "what is to be answered, {when}");
    let rest = |result: &RestoreResult| (result.restored.epoch, result.restored.written_at, result.restored.versions_end);
    assert_eq!(rest(promoted), rest(cold), "{when}");
}

#[test]
fn a_standby_spares_the_restore_all_that_it_has_read_and_nothing_more() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    for id in 0..2_500 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    let report = &keeper.line.standbys.reports()[0];
    assert_eq!((report.task.as_str(), report.state, report.position, report.lag_records), ("0_0", "following", 2_500, 0));
    assert_eq!(report.entries, 2_500);
    write_entry(&world, 7, Ok(entry(2)));
    let promoted = keeper.promote(&world);
    assert_eq!((promoted.entries_read, promoted.from_standby, promoted.warm_from), (1, true, Some(2_500)));
    assert_eq!(held(&promoted.restored, 7), Some(version(2)), "what came since is read");
    assert_same(&promoted, &restore(&world), "after the hand-over");
    assert!(keeper.line.standbys.reports().is_empty(), "it is a standby no more");
}

/// Two owners at once, nulls, entries out of order, progress of both; the standby reads at any moment between.
#[test]
fn f62_whatever_the_log_went_through_a_promoted_standby_is_what_a_cold_restore_finds() {
    for seed in 0..150 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(1);
        let mut keeper = Keeper::new(&mut world);
        for _ in 0..random.random_range(1..120) {
            let (id, ms) = (random.random_range(0..6), random.random_range(1..12));
            match random.random_range(0..10) {
                0..5 => _ = write_entry(&world, id, Ok(Entry { tombstone: random.random_bool(0.3), ..entry(ms) })),
                5..7 => _ = write_entry(&world, id, Err(version(ms))),
                7 => write_progress(&world, random.random_range(1..4)),
                8 => world.broker.leave_hole(&world.versions_changelog(0)).unwrap(),
                _ => keeper.read_on(&world),
            }
        }
        let promoted = keeper.promote(&world);
        assert_same(&promoted, &restore(&world), &format!("seed {seed}"));
    }
}

/// A null that was deleted before the standby has read it would never be known to it.
#[test]
fn f28_a_standby_that_stood_still_for_longer_than_nulls_are_kept_is_not_believed() {
    let mut world = World::new(1);
    world.settings.horizon = Duration::from_secs(60);
    let mut keeper = Keeper::new(&mut world);
    write_entry(&world, 1, Ok(entry(1)));
    write_entry(&world, 2, Ok(entry(1)));
    keeper.read_on(&world);
    write_entry(&world, 1, Err(version(1)));
    write_entry(&world, 3, Ok(entry(1)));
    let compaction = Compaction { min_lag: Duration::ZERO, delete_retention: Duration::from_secs(60) };
    world.broker.compact(&world.versions_changelog(0), compaction).unwrap();
    world.clock.advance(61_000);
    write_entry(&world, 4, Ok(entry(1)));
    world.broker.compact(&world.versions_changelog(0), compaction).unwrap();
    let promoted = keeper.promote(&world);
    assert_eq!(held(&promoted.restored, 1), None, "it does not come back");
    assert_eq!((promoted.from_standby, promoted.entries_read), (false, 3));
    assert!(promoted.warnings.iter().any(|warning| warning.contains("deletes that it has not seen")), "{:?}", promoted.warnings);
}

#[test]
fn what_was_read_of_a_changelog_that_was_created_again_is_not_believed() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    for id in 0..3 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    world.create_anew(&world.settings.topics.versions_changelog(0));
    for id in 10..15 {
        write_entry(&world, id, Ok(entry(1)));
    }
    let promoted = keeper.promote(&world);
    assert_eq!((held(&promoted.restored, 1), held(&promoted.restored, 12)), (None, Some(version(1))));
    assert!(promoted.warnings.iter().any(|warning| warning.contains("created again")), "{:?}", promoted.warnings);
}

/// An unclean election: what was lost is replaced, and more, before the standby looks again.
#[test]
fn a_standby_does_not_read_on_behind_an_end_that_its_log_has_lost() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    for id in 0..10 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    world.broker.lose_end(&world.versions_changelog(0), 5).unwrap();
    for id in 20..40 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    let promoted = keeper.promote(&world);
    assert_same(&promoted, &restore(&world), "after the log has lost its end");
    assert!(promoted.from_standby, "it had been read anew by then");
}

/// Whenever that happens in its first look. What the old log had before its beginning is in the new one.
#[test]
fn a_standby_does_not_take_a_place_of_one_log_for_one_of_another() {
    for call in 1..8 {
        let mut world = World::new(1);
        let changelog = world.versions_changelog(0);
        let mut keeper = Keeper::new(&mut world);
        for id in 0..10 {
            write_entry(&world, id, Ok(entry(1)));
        }
        world.broker.delete_below(&changelog, 5).unwrap();
        keeper.line.reader = Interposed::at(&world, call, |world| {
            world.create_anew(&world.settings.topics.versions_changelog(0));
            for id in 10..30 {
                write_entry(world, id, Ok(entry(2)));
            }
        });
        keeper.read_on(&world);
        let promoted = keeper.promote(&world);
        assert_same(&promoted, &restore(&world), &format!("created again before call {call}"));
    }
}

#[test]
fn nothing_is_built_on_what_a_keeper_was_reading_when_it_panicked() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    write_entry(&world, 1, Ok(entry(1)));
    keeper.read_on(&world);
    write_entry(&world, 2, Ok(entry(1)));
    keeper.line.reader = Interposed::at(&world, 2, |_| panic!("a fault of ours"));
    catch_unwind(AssertUnwindSafe(|| keeper.read_on(&world))).expect_err("it panics");
    let promoted = keeper.promote(&world);
    assert!(!promoted.from_standby);
    assert_same(&promoted, &restore(&world), "after a panic");
}

/// What was read stands still meanwhile, as a standby does that is not read on.
#[test]
fn f28_a_restore_that_was_held_up_for_longer_than_nulls_are_kept_begins_anew() {
    let mut world = World::new(1);
    world.settings.horizon = Duration::from_secs(60);
    for id in 1..=2 {
        write_entry(&world, id, Ok(entry(1)));
    }
    let mut reader = EmbeddedReader::new(world.broker.clone());
    let mut held_up = Restore::new(request(&world));
    for _ in 0..2 {
        assert!(held_up.step(&mut reader, world.now()).unwrap().is_none());
    }
    write_entry(&world, 1, Err(version(1)));
    let compaction = Compaction { min_lag: Duration::ZERO, delete_retention: Duration::from_secs(60) };
    for _ in 0..2 {
        world.broker.compact(&world.versions_changelog(0), compaction).unwrap();
        world.clock.advance(61_000);
        write_entry(&world, 3, Ok(entry(1)));
    }
    let mut again = held_up.begin_again();
    let ended = (0..10).find_map(|_| again.step(&mut reader, world.now()).unwrap()).expect("there is little to read");
    assert_eq!(held(&ended.restored, 1), None, "it does not come back");
    assert_same(&ended, &restore(&world), "after it was held up");
}

#[test]
fn a_restore_that_is_called_off_leaves_what_was_read_to_the_next_one() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    for id in 0..10 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    let called_off = request(&world);
    keeper.handle.ask(Request::Restore(called_off.clone())).unwrap();
    keeper.restorer.run_once(&mut keeper.reader, world.now());
    called_off.cancelled.store(true, Ordering::Release);
    let promoted = keeper.promote(&world);
    assert_eq!((promoted.from_standby, promoted.entries_read), (true, 0));
    assert_same(&promoted, &restore(&world), "after one that was called off");
}

#[test]
fn a_restore_that_a_standby_has_made_short_goes_before_what_running_tasks_read() {
    let mut world = World::new(1);
    let mut keeper = Keeper::new(&mut world);
    for id in 0..10 {
        write_entry(&world, id, Ok(entry(1)));
    }
    keeper.read_on(&world);
    let check =
        |index| Request::CheckSource { task: request(&world).task, life: 0, index, start: source_start(&world), partitions: 1 };
    keeper.handle.ask(check(0)).unwrap();
    keeper.handle.ask(Request::Restore(request(&world))).unwrap();
    keeper.handle.ask(Request::Restore(request(&world))).unwrap();
    keeper.handle.ask(check(1)).unwrap();
    while keeper.restorer.run_once(&mut keeper.reader, world.now()) == Stepped::Worked {}
    let mut answers = Vec::new();
    while let Some(reply) = keeper.handle.poll() {
        answers.push(match reply {
            Reply::Restored { result, .. } if result.from_standby => "by a standby",
            Reply::Restored { .. } => "from nothing",
            Reply::SourceChecked { .. } => "check",
            _ => "something else",
        });
    }
    assert_eq!(answers, ["by a standby", "check", "check", "from nothing"]);
}

fn source_start(world: &World) -> SourceStart {
    SourceStart {
        region: Region::new("us"),
        topic: world.topic("us"),
        topic_id: None,
        next_offset: 0,
        mark: None,
        frontier: None,
        since: None,
        present: true,
    }
}

/// Two workers with two partitions, each with a standby of the other's.
fn pair(world: &mut World) -> (Worker, Worker) {
    world.standby_replicas = 1;
    let (mut one, mut other) = (world.start(), world.start());
    for id in 0..200 {
        world.upsert("eu", id, 1_000 + id, 0.1);
    }
    world.settle(&mut [&mut one, &mut other]);
    world.run_in_steps(&mut [&mut one, &mut other], 12_000, 50);
    (one, other)
}

fn standbys(worker: &Worker) -> Vec<(String, &'static str, i64)> {
    let reports = worker.standby.as_ref().expect("it keeps some").standbys.reports();
    reports.into_iter().map(|report| (report.task, report.state, report.lag_records)).collect()
}

#[test]
fn f30_a_task_fails_over_to_its_standby_and_goes_on_at_once() {
    let mut world = World::new(2);
    let (mut one, mut other) = pair(&mut world);
    let active = |worker: &Worker| worker.report().tasks.into_iter().map(|task| task.task).collect::<Vec<_>>();
    assert_eq!(standbys(&one), [(active(&other)[0].clone(), "following", 0)]);
    assert_eq!(standbys(&other), [(active(&one)[0].clone(), "following", 0)]);
    // What the standby has not read: it stands still, and the active one goes on.
    other.standby.as_mut().unwrap().stands_still = true;
    for id in 0..50 {
        world.upsert("us", id, 5_000 + id, 0.5);
    }
    world.run(&mut [&mut one, &mut other], 1_000);
    one.kill().land_all();
    // Older ones, of which nobody but the changelog's last part knows that they lose.
    for id in 0..50 {
        world.upsert("us", id, 4_000 + id, 0.4);
    }
    world.run_in_steps(&mut [&mut other], 11_000, 500);
    world.settle(&mut [&mut other]);
    assert_oracle(&world, &[], "after the fail-over");
    let origins: Vec<bool> = (0..2).map(|partition| other.store_origin(partition).expect("it runs").from_standby).collect();
    assert_eq!(origins.iter().filter(|warm| **warm).count(), 1, "the one that it has had all along began cold");
    assert!(standbys(&other).is_empty(), "nobody is left to stand by for");
}

#[test]
fn a_standby_writes_nothing_and_nothing_hangs_on_it() {
    let mut world = World::new(2);
    let (mut one, mut other) = pair(&mut world);
    let before = world.read(&world.versions_changelog(0)).len() + world.read(&world.versions_changelog(1)).len();
    let sent = (one.store().sent.len(), other.store().sent.len());
    world.run_in_steps(&mut [&mut one, &mut other], 20_000, 50);
    let after = world.read(&world.versions_changelog(0)).len() + world.read(&world.versions_changelog(1)).len();
    assert_eq!((before, sent), (after, (one.store().sent.len(), other.store().sent.len())));
}

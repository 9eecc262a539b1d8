//! Regions that find out what they lack, and bring it from a peer.

use crate::worker::Worker;
use crate::world::{DOCUMENTS, HandClock, World};
use driftless::adapter::embedded::mirror::MirrorLink;
use driftless::adapter::embedded::{EmbeddedAppender, EmbeddedReader};
use driftless::base::error::Result;
use driftless::base::ids::{Region, TopicPartition};
use driftless::ops::append;
use driftless::ops::diff::{Diff, DiffReport};
use driftless::ops::replica::{Place, all_partitions};
use driftless::ops::resync::{Resync, ResyncReport};
use driftless::ops::work::{Told, Work};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LATENESS: Duration = Duration::from_secs(10);
const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

struct Regions {
    clock: HandClock,
    names: Vec<&'static str>,
    worlds: Vec<World>,
    links: Vec<MirrorLink>,
    workers: Vec<Worker>,
    /// Changes made so far: each has a stamp of its own.
    made: i64,
    /// Called at each step: who writes meanwhile.
    meanwhile: Option<fn(&mut Regions)>,
}

impl Regions {
    fn new(names: &[&'static str]) -> Self {
        let clock = HandClock::default();
        let worlds: Vec<World> = names.iter().map(|name| world(name, names, &clock)).collect();
        let workers = worlds.iter().map(World::start).collect();
        let mut regions = Self { clock, names: names.to_vec(), worlds, links: Vec::new(), workers, made: 0, meanwhile: None };
        for to in 0..names.len() {
            regions.link_to(to);
        }
        regions
    }

    /// Links from every other region, from the beginning of what its log still has.
    fn link_to(&mut self, to: usize) {
        for from in (0..self.worlds.len()).filter(|from| *from != to) {
            let (source, target) = (&self.worlds[from], &self.worlds[to]);
            let (delay, never) = (Duration::from_millis(30), Duration::from_secs(1_000_000));
            let alias = source.settings.region.clone();
            self.links.push(MirrorLink::new(source.broker.clone(), target.broker.clone(), alias, delay, never));
        }
    }

    fn step(&mut self) {
        self.clock.advance(100);
        for link in &mut self.links {
            link.step(self.worlds[0].now()).unwrap();
        }
        for (world, worker) in self.worlds.iter().zip(&mut self.workers) {
            worker.round(world.now());
            worker.round(world.now());
        }
        if let Some(meanwhile) = self.meanwhile {
            meanwhile(self);
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.step();
        }
    }

    fn now_ms(&self) -> i64 {
        self.worlds[0].now().wall.0 - crate::world::EPOCH_MS
    }

    fn write(&mut self, region: usize, ids: std::ops::Range<i64>) {
        let (origin, now) = (self.names[region], self.now_ms());
        for id in ids {
            self.made += 1;
            self.worlds[region].upsert(origin, id, now, self.made as f32);
        }
    }

    fn delete(&mut self, region: usize, ids: std::ops::Range<i64>) {
        let (origin, now) = (self.names[region], self.now_ms());
        for id in ids {
            self.worlds[region].delete(origin, id, now);
        }
    }

    /// Its Kafka and its Milvus are gone; it begins anew, with mirrors of what the others' logs still have, and the
    /// others' mirrors begin anew too.
    fn lose(&mut self, region: usize) {
        let fresh = world(self.names[region], &self.names, &self.clock);
        let worker = fresh.start();
        self.worlds[region] = fresh;
        drop(std::mem::replace(&mut self.workers[region], worker));
        self.links.clear();
        for to in 0..self.worlds.len() {
            self.link_to(to);
        }
    }

    /// What retention does to a topic, but for the last few records.
    fn purge(&self, region: usize, topic: &str, kept: i64) {
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new(topic, partition);
            let end = self.worlds[region].broker.bounds(&at).unwrap().end;
            self.worlds[region].broker.delete_below(&at, end - kept).unwrap();
        }
    }

    fn places(&self, here: usize, there: usize) -> [(Region, EmbeddedReader); 2] {
        [here, there].map(|index| (Region::new(self.names[index]), EmbeddedReader::new(self.worlds[index].broker.clone())))
    }

    fn diff(&mut self, here: usize, there: usize) -> DiffReport {
        let [(own, mut ours), (peer, mut theirs)] = self.places(here, there);
        let (names, clock) = (self.worlds[here].settings.topics.clone(), self.clock.clone());
        let diff = Diff {
            here: Place::new(own, names.clone(), &mut ours),
            there: Place::new(peer, names.clone(), &mut theirs),
            regions: self.names.iter().map(Region::new).collect(),
            partitions: PARTITIONS,
            compared: all_partitions(&names, PARTITIONS),
            collections: self.worlds[here].settings.collections.clone(),
            patience: PATIENCE,
        };
        self.work(u64::MAX, &clock, |work| diff.run(work)).unwrap()
    }

    fn resync(&mut self, here: usize, there: usize, dry_run: bool, waits: u64) -> Result<ResyncReport> {
        let [(own, mut ours), (peer, mut theirs)] = self.places(here, there);
        let mut appender = EmbeddedAppender::new(self.worlds[here].broker.clone(), 50, append::wake());
        let (names, clock) = (self.worlds[here].settings.topics.clone(), self.clock.clone());
        let resync = Resync {
            here: Place::new(own, names.clone(), &mut ours),
            there: Place::new(peer, names, &mut theirs),
            appender: &mut appender,
            regions: self.names.iter().map(Region::new).collect(),
            partitions: PARTITIONS,
            collections: self.worlds[here].settings.collections.clone(),
            patience: PATIENCE,
            dry_run,
        };
        self.work(waits, &clock, |work| resync.run(work))
    }

    /// Time goes on while the command waits; after so many waits it is interrupted.
    fn work<T>(&mut self, waits: u64, clock: &HandClock, act: impl FnOnce(&mut Work<'_>) -> Result<T>) -> Result<T> {
        let (interrupted, mut left) = (AtomicBool::new(false), waits);
        let mut tell = |_: Told| {};
        let mut pause = |_| {
            self.step();
            left -= 1;
            interrupted.store(left == 0, Ordering::Relaxed);
        };
        act(&mut Work::new(clock, &interrupted, &mut tell, &mut pause))
    }

    /// Rows of two regions, vectors included; and what their changelogs say.
    fn assert_equal(&mut self, one: usize, other: usize) {
        let rows = |world: &World| {
            let rows = world.database.scan(DOCUMENTS).into_iter();
            rows.map(|(id, row)| (id, row.version.clone(), row.vector.to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(rows(&self.worlds[one]), rows(&self.worlds[other]));
        let report = self.diff(one, other);
        assert!(report.differences.is_empty() && report.unsettled.is_empty(), "{report:#?}");
    }

    fn incomplete(&self, region: usize) -> Vec<String> {
        self.workers[region].report().tasks.into_iter().flat_map(|task| task.incomplete).collect()
    }
}

fn world(region: &str, regions: &[&str], clock: &HandClock) -> World {
    let mut world = World::of(region, regions, 1, PARTITIONS, clock.clone());
    world.settings.max_lateness = LATENESS;
    world.settings.task.heartbeat_interval = Duration::from_secs(1);
    for peer in regions.iter().filter(|peer| **peer != region) {
        world.create_mirror(peer, PARTITIONS);
    }
    world
}

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;

/// Both write, delete, and have forgotten some of the deletes.
fn eu_and_us() -> Regions {
    let mut regions = Regions::new(&["eu", "us"]);
    // Of what was stamped in its first minute a region can't be sure that it has seen it.
    regions.run(70);
    regions.write(EU, 0..60);
    regions.write(US, 50..100);
    regions.run(2);
    regions.delete(US, 10..20);
    regions.run(120);
    regions.delete(EU, 20..25);
    regions.run(5);
    regions
}

#[test]
fn f34_f64_what_a_gap_has_swallowed_is_brought_from_the_peer_and_no_more() {
    let mut regions = eu_and_us();
    regions.assert_equal(EU, US);
    // eu's mirror is purged past its worker: updates, new rows and deletes that us has forgotten since.
    let stopped = regions.workers.remove(EU);
    regions.worlds[EU].stop(stopped);
    regions.write(US, 60..75);
    regions.write(US, 200..210);
    regions.delete(US, 30..35);
    for link in &mut regions.links {
        link.step(regions.worlds[0].now()).unwrap();
    }
    regions.clock.advance(100);
    for link in &mut regions.links {
        link.step(regions.worlds[0].now()).unwrap();
    }
    regions.purge(EU, "us.vector-cdc", 0);
    let worker = regions.worlds[EU].start();
    regions.workers.insert(EU, worker);
    regions.run(150);
    assert_eq!(regions.incomplete(EU).len(), 2, "{:?}", regions.incomplete(EU));
    let report = regions.diff(EU, US);
    assert_eq!(report.differences.len(), 30, "{report:#?}");
    let error = regions.resync(US, EU, false, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("eu is incomplete itself"), "{error}");
    let planned = regions.resync(EU, US, true, u64::MAX).unwrap();
    assert_eq!((planned.brought, planned.deleted), (25, 5));
    assert_eq!(regions.incomplete(EU).len(), 2, "a dry run changes nothing");
    let done = regions.resync(EU, US, false, u64::MAX).unwrap();
    assert_eq!((done.brought, done.deleted, &done.left[..]), (25, 5, &[][..]));
    let (bytes, planned) = (done.bytes_brought as f64, planned.bytes_brought as f64);
    assert!((0.9..1.1).contains(&(planned / bytes)), "planned {planned} bytes, brought {bytes}");
    assert_eq!(regions.incomplete(EU), [""; 0]);
    regions.assert_equal(EU, US);
    let again = regions.resync(EU, US, false, u64::MAX).unwrap();
    assert_eq!((again.alike, again.brought, again.deleted), (2, 0, 0));
}

#[test]
fn a_region_that_has_lost_everything_comes_back_equal_while_both_write() {
    let mut regions = eu_and_us();
    regions.purge(US, "vector-cdc", 3);
    regions.lose(EU);
    regions.meanwhile = Some(|regions| {
        if regions.made % 3 == 0 {
            regions.delete(US, 70..72);
        }
        regions.write(EU, 300..302);
        regions.write(US, 68..71);
    });
    regions.run(5);
    let cut_short = regions.resync(EU, US, false, 8).unwrap_err().to_string();
    assert_eq!(cut_short, "interrupted");
    let report = regions.resync(EU, US, false, u64::MAX).unwrap();
    assert!(report.left.is_empty(), "{report:#?}");
    regions.meanwhile = None;
    regions.run(5);
    regions.assert_equal(EU, US);
    assert!(regions.worlds[EU].database.rows(DOCUMENTS) > 80);
}

#[test]
fn a_new_region_deletes_nothing_in_an_old_one_and_is_filled_from_it() {
    let mut regions = eu_and_us();
    regions.purge(US, "vector-cdc", 3);
    regions.purge(EU, "vector-cdc", 3);
    // Every region hears of the third one.
    regions.names.push("ap");
    let names = regions.names.clone();
    for index in [EU, US] {
        let stopped = regions.workers.remove(index);
        regions.worlds[index].stop(stopped);
        regions.worlds[index].settings.regions.push(Region::new("ap"));
        regions.worlds[index].create_mirror("ap", PARTITIONS);
        let worker = regions.worlds[index].start();
        regions.workers.insert(index, worker);
    }
    let ap = world("ap", &names, &regions.clock);
    regions.workers.push(ap.start());
    regions.worlds.push(ap);
    regions.links.clear();
    for to in 0..3 {
        regions.link_to(to);
    }
    regions.run(130);
    let rows = regions.worlds[US].database.rows(DOCUMENTS);
    let wrong_way = regions.resync(US, AP, false, u64::MAX).unwrap();
    assert_eq!((wrong_way.brought, wrong_way.deleted), (0, 0), "a region that was not there yet says nothing of what was");
    assert_eq!(regions.worlds[US].database.rows(DOCUMENTS), rows);
    regions.meanwhile = Some(|regions| {
        regions.write(EU, 0..2);
        regions.write(US, 90..92);
        regions.write(AP, 400..401);
    });
    let report = regions.resync(AP, US, false, u64::MAX).unwrap();
    assert!(report.left.is_empty() && report.brought >= rows as u64 - 10, "{report:#?}");
    regions.meanwhile = None;
    regions.run(5);
    regions.assert_equal(AP, US);
    regions.assert_equal(AP, EU);
}

#[test]
fn a_diff_beside_writers_finds_what_differs_and_not_what_is_on_its_way() {
    let mut regions = eu_and_us();
    regions.meanwhile = Some(|regions| {
        regions.write(EU, 0..5);
        regions.write(US, 3..8);
    });
    regions.run(3);
    let report = regions.diff(EU, US);
    assert!(report.ranges_different > 0, "something was on its way");
    assert!(report.differences.is_empty() && report.unsettled.is_empty(), "{report:#?}");
}

#[test]
fn a_peer_that_is_behind_and_one_with_other_partitions_are_refused_with_what_to_do() {
    let mut regions = eu_and_us();
    regions.links.iter_mut().for_each(MirrorLink::cut);
    regions.write(EU, 0..3);
    regions.run(2);
    let error = regions.resync(EU, US, false, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("region us has not settled what this region has of eu"), "{error}");
    let other = World::of("us", &["eu", "us"], 1, 3, regions.clock.clone());
    regions.worlds[US] = other;
    let error = regions.resync(EU, US, false, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("in region us has 3 partitions, and [topics] partitions = 2"), "{error}");
}

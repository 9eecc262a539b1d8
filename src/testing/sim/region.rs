//! One region: its Kafka, its vector store, its workers, and what is wrong with each of them now.

use super::aliases::SimAliases;
use super::check::RegionChecks;
use super::clock::{NodeClock, Timeline};
use super::log_line::LogWeather;
use super::store_line::StoreWeather;
use super::trace::Violations;
use super::worker::{Lines, SimWorker};
use super::workload::{Workload, collections};
use crate::adapter::embedded::broker::{Broker, TimestampType};
use crate::adapter::embedded::stores::KeptStores;
use crate::adapter::embedded::vector::{Database, WriteCheck};
use crate::base::ids::{Region, TopicPartition};
use crate::port::vector::StoreError;
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::region::topics::TopicNames;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct SimRegion {
    pub index: usize,
    pub name: Region,
    pub partitions: i32,
    pub broker: Arc<Broker>,
    pub broker_clock: NodeClock,
    pub writer_clock: NodeClock,
    pub database: Arc<Database>,
    pub collections: Arc<Collections>,
    pub aliases: SimAliases,
    pub log_weather: Arc<Mutex<LogWeather>>,
    pub store_weather: Arc<Mutex<StoreWeather>>,
    pub checks: Arc<Mutex<RegionChecks>>,
    pub workers: Vec<SimWorker>,
    /// Of machines that no worker runs on now.
    pub disks: Vec<KeptStores>,
    /// Of workers that are dead.
    pub wrecks: Vec<Lines>,
    /// Until when each of the faults that last is on; a later one of its kind prolongs it.
    pub spells: Spells,
    /// What retention has deleted from the region's own change topic.
    pub archive: Vec<RawRecord>,
    /// Mirror topics that were created again.
    pub recreated: BTreeSet<Arc<str>>,
    /// Starts of workers that are due.
    pub starts: Vec<Duration>,
}

/// Ends of what is on.
#[derive(Debug, Default)]
pub(super) struct Spells {
    pub store_down: Option<Duration>,
    pub store_hangs: Option<Duration>,
    pub store_throttles: Option<Duration>,
    pub store_loses: Option<Duration>,
    pub store_late: Option<Duration>,
    pub store_slow: Option<Duration>,
    pub unloaded: Option<Duration>,
    pub log_down: Option<Duration>,
    pub log_slow: Option<Duration>,
    pub registry: Option<Duration>,
}

pub(super) struct RegionParts<'a> {
    pub index: usize,
    pub name: Region,
    pub peers: &'a [Region],
    pub names: &'a TopicNames,
    pub partitions: i32,
    pub timeline: &'a Timeline,
    pub session_timeout: Duration,
    pub broker_skew_ms: i64,
    pub writer_skew_ms: i64,
    pub max_lateness_ms: i64,
    pub workload: &'a Workload,
    pub violations: &'a Violations,
}

impl SimRegion {
    pub fn new(parts: RegionParts<'_>) -> Self {
        let collections = Arc::new(collections());
        let broker_clock = NodeClock::new(parts.timeline, parts.broker_skew_ms);
        let broker = Broker::new(Box::new(broker_clock.clone()), parts.session_timeout);
        create_topics(&broker, &parts);
        let database = Database::new(collections.clone(), Box::new(broker_clock.clone()));
        if parts.index == 0 {
            database.check_writes_with(Some(refusal(parts.workload, &collections)));
        }
        let checks = RegionChecks::new(parts.names.clone(), collections.clone(), parts.max_lateness_ms, parts.violations.clone());
        Self {
            index: parts.index,
            name: parts.name,
            partitions: parts.partitions,
            broker,
            broker_clock,
            writer_clock: NodeClock::new(parts.timeline, parts.writer_skew_ms),
            aliases: SimAliases::new(database.clone()),
            database,
            collections,
            log_weather: Arc::default(),
            store_weather: Arc::default(),
            checks: Arc::new(Mutex::new(checks)),
            workers: Vec::new(),
            disks: Vec::new(),
            wrecks: Vec::new(),
            spells: Spells::default(),
            archive: Vec::new(),
            recreated: BTreeSet::new(),
            starts: Vec::new(),
        }
    }

    /// Every partition of every change topic here, own and mirrored.
    pub fn sources(&self, regions: &[Region], names: &TopicNames, partitions: i32) -> Vec<TopicPartition> {
        let mut sources = Vec::new();
        for region in regions {
            let topic = if *region == self.name { names.local(0) } else { names.mirror(region, 0) };
            sources.extend((0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition)));
        }
        sources
    }
}

fn create_topics(broker: &Broker, parts: &RegionParts<'_>) {
    let names = parts.names;
    let own = [
        names.local(0),
        names.repair(0),
        names.versions_changelog(0),
        names.vectors_changelog(0),
        names.dead_letter(),
        names.conflicts(),
    ];
    let mirrors = parts.peers.iter().map(|peer| names.mirror(peer, 0));
    let topics = own.into_iter().map(|topic| (topic, TimestampType::LogAppendTime));
    for (topic, timestamps) in topics.chain(mirrors.map(|topic| (topic, TimestampType::CreateTime))) {
        broker.create_topic(&topic, parts.partitions, timestamps).expect("no topic is there yet");
    }
}

/// The first region's store does not like some ids.
fn refusal(workload: &Workload, collections: &Collections) -> WriteCheck {
    let mut refused: Vec<HashSet<_>> = collections.iter().map(|_| HashSet::new()).collect();
    for key in workload.refused() {
        refused[key.collection.index()].insert(key.id.clone());
    }
    Box::new(move |collection, batch| match batch.ids.iter().find(|id| refused[collection.index()].contains(*id)) {
        Some(id) => Err(StoreError::Refused(format!("this store does not like {id}"))),
        None => Ok(()),
    })
}

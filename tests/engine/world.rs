//! One region: its log, its vector store, its clock, and producers whose every change is remembered.

use crate::fuse::Fuse;
use crate::worker::Worker;
use bytes::Bytes;
use driftless::adapter::embedded::broker::{Broker, Message, TimestampType};
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::adapter::embedded::vector::Database;
use driftless::base::ids::{CollectionId, Region, TopicPartition, VectorId};
use driftless::base::time::{Clock, Now, UnixMs};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::processor;
use driftless::record::avro::{self, Fields, WireOp};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::record::framing;
use driftless::record::raw::RawRecord;
use driftless::region::partitioner::partition_for_key;
use driftless::region::topics::TopicNames;
use driftless::store::Stores;
use driftless::store::memory::MemoryStores;
use driftless::stream::settings::StreamSettings;
use driftless::topology::build::{NodeTypes, Topology};
use driftless::topology::spec::REPLICATE;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const APPLICATION: &str = "driftless";
pub const DOCUMENTS: CollectionId = CollectionId(0);
/// A second collection, in worlds that have it: its ids begin here.
pub const IMAGES: CollectionId = CollectionId(1);
pub const FIRST_IMAGE: i64 = 1_000_000;
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Wall time when the clock stands at 0.
pub const EPOCH_MS: i64 = 1_700_000_000_000;
pub const STEP_MS: u64 = 5;

#[derive(Clone, Default)]
pub struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::Relaxed);
        Now { wall: UnixMs(EPOCH_MS + ms as i64), monotonic: Duration::from_millis(ms) }
    }
}

/// A change as a producer made it, and where it lies.
#[derive(Debug, Clone)]
pub struct Produced {
    pub at: TopicPartition,
    pub offset: i64,
    pub appended_at: UnixMs,
    pub id: i64,
    pub version: Version,
    pub hash: ContentHash,
    pub delete: bool,
    pub vector: [f32; 2],
    pub value: Bytes,
}

#[derive(Clone)]
pub struct World {
    pub clock: HandClock,
    pub settings: StreamSettings,
    pub topology: Arc<Topology>,
    pub broker: Arc<Broker>,
    pub database: Arc<Database>,
    /// What the machine keeps of its workers; nothing unless a test says so.
    pub stores: Arc<dyn Stores>,
    pub partitions: i32,
    pub standby_replicas: usize,
    pub produced: Vec<Produced>,
}

impl World {
    /// Region eu with the peer us, one shard. Heartbeats are off, and so is the scrubber: a test that wants them says so.
    pub fn new(partitions: i32) -> Self {
        let world = Self::of("eu", &["eu", "us"], 1, partitions, HandClock::default());
        world.create_mirror("us", partitions);
        world
    }

    /// The same with two collections.
    pub fn with_images(partitions: i32) -> Self {
        let specs = vec![spec("documents"), spec("images")];
        let world = Self::with(specs, "eu", &["eu", "us"], 1, partitions, HandClock::default());
        world.create_mirror("us", partitions);
        world
    }

    /// Without any mirror topic.
    pub fn of(region: &str, regions: &[&str], shards: u16, partitions: i32, clock: HandClock) -> Self {
        Self::with(vec![spec("documents")], region, regions, shards, partitions, clock)
    }

    fn with(specs: Vec<CollectionSpec>, region: &str, regions: &[&str], shards: u16, partitions: i32, clock: HandClock) -> Self {
        let collections = Arc::new(Collections::new(specs));
        let broker = Broker::new(Box::new(clock.clone()), SESSION_TIMEOUT);
        let database = Database::new(collections.clone(), Box::new(clock.clone()));
        let names = TopicNames::new(APPLICATION, shards);
        for shard in 0..shards {
            broker.create_topic(&names.local(shard), partitions, TimestampType::LogAppendTime).unwrap();
            for topic in [names.versions_changelog(shard), names.vectors_changelog(shard), names.repair(shard)] {
                broker.create_topic(&topic, partitions, TimestampType::LogAppendTime).unwrap();
            }
        }
        for topic in [names.dead_letter(), names.conflicts()] {
            broker.create_topic(&topic, partitions, TimestampType::LogAppendTime).unwrap();
        }
        let regions = regions.iter().map(Region::new).collect();
        let mut settings = StreamSettings::new(Region::new(region), regions, names, collections);
        settings.schema_id = OUR_SCHEMA_ID;
        settings.task.heartbeat_interval = Duration::from_secs(1_000_000);
        settings.task.scrub.enabled = false;
        let mut types = NodeTypes::default();
        processor::register_standard(&mut types);
        let topology = Arc::new(Topology::parse("replicate.toml", REPLICATE, &types).expect("the shipped topology is good"));
        let stores = Arc::new(MemoryStores);
        Self { clock, settings, topology, broker, database, stores, partitions, standby_replicas: 0, produced: Vec::new() }
    }

    /// With nothing in it.
    pub fn create_anew(&self, topic: &str) {
        self.broker.delete_topic(topic);
        self.broker.create_topic(topic, self.partitions, TimestampType::LogAppendTime).unwrap();
    }

    pub fn create_mirror(&self, peer: &str, partitions: i32) {
        for shard in 0..self.settings.topics.shards() {
            let mirror = self.settings.topics.mirror(&Region::new(peer), shard);
            self.broker.create_topic(&mirror, partitions, TimestampType::CreateTime).unwrap();
        }
    }

    pub fn start(&self) -> Worker {
        Worker::start(self, Fuse::endless())
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The topic that brings a region's changes here.
    pub fn topic(&self, origin: &str) -> Arc<str> {
        let origin = Region::new(origin);
        if origin == self.settings.region { self.settings.topics.local(0) } else { self.settings.topics.mirror(&origin, 0) }
    }

    /// An upsert stamped `ms` after the epoch. Equal arguments make an equal change.
    pub fn upsert(&mut self, origin: &str, id: i64, ms: i64, content: f32) -> Produced {
        let record = change(WireOp::Upsert, origin, id, ms, &[content, id as f32]);
        self.produce(origin, id, ms, false, [content, id as f32], record)
    }

    pub fn delete(&mut self, origin: &str, id: i64, ms: i64) -> Produced {
        let record = change(WireOp::Delete, origin, id, ms, &[]);
        self.produce(origin, id, ms, true, [0.0; 2], record)
    }

    fn produce(&mut self, origin: &str, id: i64, ms: i64, delete: bool, vector: [f32; 2], body: Vec<u8>) -> Produced {
        let key = id.to_string();
        let at = TopicPartition::new(self.topic(origin), partition_for_key(key.as_bytes(), self.partitions));
        let value = Bytes::from(framing::frame(OUR_SCHEMA_ID, &body));
        let offset = self.append(&at, Some(&key), Some(value.clone()));
        let version = Version { hlc: stamp(ms), origin: Region::new(origin), sequence: 7 };
        let hash = ContentHash::of(&body);
        let appended_at = self.now().wall;
        let produced = Produced { at, offset, appended_at, id, version, hash, delete, vector, value };
        self.produced.push(produced.clone());
        produced
    }

    /// A record that the oracle does not hear of.
    pub fn append(&self, to: &TopicPartition, key: Option<&str>, value: Option<Bytes>) -> i64 {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        self.broker.append(to, Message { key, value, headers: Vec::new(), timestamp: None }).unwrap()
    }

    /// Everything in a partition.
    pub fn read(&self, partition: &TopicPartition) -> Vec<RawRecord> {
        let first = self.broker.bounds(partition).unwrap().first;
        let mut records = Vec::new();
        self.broker.read(partition, first, usize::MAX, |record| records.push(record)).unwrap();
        records
    }

    pub fn versions_changelog(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.settings.topics.versions_changelog(0), partition)
    }

    pub fn vectors_changelog(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.settings.topics.vectors_changelog(0), partition)
    }

    /// Rounds of all workers, `STEP_MS` apart, for so long.
    pub fn run(&self, workers: &mut [&mut Worker], ms: u64) {
        self.run_in_steps(workers, ms, STEP_MS);
    }

    pub fn run_in_steps(&self, workers: &mut [&mut Worker], ms: u64, step_ms: u64) {
        for _ in 0..ms.div_ceil(step_ms) {
            self.clock.advance(step_ms);
            self.round(workers);
        }
    }

    pub fn round(&self, workers: &mut [&mut Worker]) {
        for worker in workers.iter_mut().filter(|worker| !worker.stopped) {
            worker.round(self.now());
        }
    }

    /// Runs until everything in every source is settled and said to be, by tasks that are all running.
    pub fn settle(&self, workers: &mut [&mut Worker]) {
        for round in 0..4_000 {
            if self.is_settled(workers) {
                // The last progress record and its ack.
                return self.run(workers, 250);
            }
            // Quickly at first, then in steps that let time-outs pass.
            self.clock.advance(if round < 200 { STEP_MS } else { 50 });
            self.round(workers);
        }
        let reports: Vec<_> = workers.iter().map(|worker| worker.report().tasks).collect();
        panic!("not settled: {reports:#?}");
    }

    fn is_settled(&self, workers: &[&mut Worker]) -> bool {
        let tasks: Vec<_> = workers.iter().flat_map(|worker| worker.report().tasks).collect();
        let wanted = usize::from(self.settings.topics.shards()) * self.partitions as usize;
        tasks.len() == wanted
            && tasks.iter().all(|task| {
                task.state == "running"
                    && task.in_flight == 0
                    && task.sources.iter().filter(|source| source.present).all(|source| {
                        let partition = TopicPartition::new(source.topic.as_str(), task.partition);
                        source.next_offset == self.broker.bounds(&partition).unwrap().end
                    })
            })
    }

    /// Stops a worker gracefully and waits for it.
    pub fn stop(&self, mut worker: Worker) {
        worker.stop(self.now());
        for _ in 0..2_000 {
            self.clock.advance(STEP_MS);
            if worker.round(self.now()).stopped {
                return;
            }
        }
        panic!("not stopped: {:#?}", worker.report().tasks);
    }

    /// The group finds out about a killed member by its session time-out.
    pub fn outlive_session(&self) {
        self.clock.advance(SESSION_TIMEOUT.as_millis() as u64 + 1);
    }
}

pub fn stamp(ms: i64) -> Hlc {
    Hlc::new(UnixMs(EPOCH_MS + ms), 0)
}

pub fn change(op: WireOp, origin: &str, id: i64, ms: i64, vector: &[f32]) -> Vec<u8> {
    avro::encode(&Fields {
        op,
        hlc: stamp(ms),
        origin,
        sequence: 7,
        collection: collection_of(id),
        vector_id: &id.to_string(),
        vector,
        metadata: &[],
    })
}

pub fn row_id(id: i64) -> VectorId {
    VectorId::Int(id)
}

pub fn collection_of(id: i64) -> &'static str {
    if id < FIRST_IMAGE { "documents" } else { "images" }
}

fn spec(name: &str) -> CollectionSpec {
    CollectionSpec {
        name: name.to_owned(),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    }
}

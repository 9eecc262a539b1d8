//! How fast a task is restored from a real Kafka: the bare client filling a map, the memory store, the disk store from
//! nothing, and the disk store from where it was; alternating, since a machine's speed varies by the hour.
//!
//! `cargo run --release --example restore_rate -- 127.0.0.1:9092 [KEYS] [ROUNDS] [APPLICATION]`
//!
//! Topics named after APPLICATION (default `restore-rate-KEYS`) are made and filled if they are not there; delete them
//! when they are not wanted any more.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use driftless::adapter::disk::DiskStores;
use driftless::adapter::kafka::{KafkaLogReader, KafkaSettings};
use driftless::adapter::system::SystemClock;
use driftless::base::ids::{CollectionId, Region, RowKey, TaskId, TopicPartition, VectorId};
use driftless::base::time::Clock;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::port::log::LogReader;
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::region::topics::TopicNames;
use driftless::store::entry::Entry;
use driftless::store::memory::MemoryStores;
use driftless::store::{Stores, row_key};
use driftless::stream::restore::meter::Meter;
use driftless::stream::restore::{Restore, RestoreRequest};
use driftless::task::settings::TaskTopics;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TASK: TaskId = TaskId { shard: 0, partition: 0 };
/// Of each topic, the default of `[topics] partitions`: the change topic is that of the cluster's other applications.
const PARTITIONS: i32 = 12;
/// Of all keys, written again before a warm restart.
const TAIL: u64 = 100;

struct Bench {
    servers: String,
    application: String,
    names: TopicNames,
    collections: Arc<Collections>,
    keys: u64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let servers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let keys: u64 = args.next().map_or(5_000_000, |text| text.parse().expect("KEYS is a number"));
    let rounds: usize = args.next().map_or(3, |text| text.parse().expect("ROUNDS is a number"));
    let application = args.next().unwrap_or_else(|| format!("restore-rate-{keys}"));
    let names = TopicNames::new(&application, 1);
    let bench = Bench { servers, application, names, collections: Arc::new(collections()), keys };
    bench.prepare();
    let folder = folder_on_disk();
    let disk: Arc<dyn Stores> = Arc::new(DiskStores::new(&folder, &bench.application));
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    println!("{:<28} {:>12} {:>10} {:>14}", "", "records", "seconds", "records/s");
    for round in 0..rounds {
        let mut note = |what: &'static str, (count, took): (u64, Duration)| {
            let rate = count as f64 / took.as_secs_f64();
            println!("{what:<28} {count:>12} {:>10.3} {rate:>14.0}", took.as_secs_f64());
            figures.entry(what).or_default().push(rate);
        };
        note("bare client, a map", bench.bare());
        note("memory store", bench.restore(Arc::new(MemoryStores)));
        std::fs::remove_dir_all(&folder).ok();
        note("disk store, from nothing", bench.restore(disk.clone()));
        bench.write(bench.keys / TAIL, 1 + round as u64);
        note("disk store, the tail", bench.restore(disk.clone()));
    }
    std::fs::remove_dir_all(&folder).ok();
    let median = |what: &str| {
        let mut rates = figures[what].clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (bare, memory) = (median("bare client, a map"), median("memory store"));
    println!(
        "medians: memory store {:.2} of the bare client's {bare:.0} records/s; disk store {:.2}",
        memory / bare,
        median("disk store, from nothing") / bare
    );
}

impl Bench {
    fn task_topics(&self) -> TaskTopics {
        TaskTopics::new(&self.names, TASK)
    }

    fn changelog(&self) -> TopicPartition {
        self.task_topics().versions_changelog
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.servers);
        client
    }

    /// Makes and fills the topics where they are missing.
    fn prepare(&self) {
        let topics = self.task_topics();
        let admin: AdminClient<_> = self.client().create().expect("an admin client");
        let wanted = [&topics.local, &topics.versions_changelog, &topics.vectors_changelog];
        let new: Vec<NewTopic<'_>> = wanted
            .iter()
            .map(|partition| {
                NewTopic::new(&partition.topic, PARTITIONS, TopicReplication::Fixed(1)).set("cleanup.policy", "compact")
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let made = runtime.block_on(admin.create_topics(&new, &AdminOptions::new())).expect("Kafka answers");
        // The change topic is every application's.
        let filled = Err((topics.versions_changelog.topic.to_string(), RDKafkaErrorCode::TopicAlreadyExists));
        if !made.contains(&filled) {
            println!("filling {} with {} entries", self.changelog(), self.keys);
            self.write(self.keys, 0);
        }
    }

    /// Entries of the first `count` keys, of one generation.
    fn write(&self, count: u64, generation: u64) {
        let producer: BaseProducer = self
            .client()
            .set("linger.ms", "20")
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "500000")
            .create()
            .expect("a producer");
        let changelog = self.changelog();
        for number in 0..count {
            let (key, value) = self.entry(number, generation);
            let mut record = BaseRecord::to(&changelog.topic).partition(changelog.partition).key(&key).payload(&value);
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                producer.poll(Duration::from_millis(20));
                record = back;
            }
            if number % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(120)).expect("Kafka takes all of it");
    }

    fn entry(&self, number: u64, generation: u64) -> (Vec<u8>, Vec<u8>) {
        let id = VectorId::Uuid(xxhash_rust::xxh3::xxh3_128(&number.to_be_bytes()));
        let key = row_key::encode(&RowKey { collection: CollectionId(0), id }, &self.collections);
        let hlc = Hlc((1_700_000_000_000 + generation) << 16);
        let version = Version { hlc, origin: Region::new("us"), sequence: number };
        let vector_offset = (generation * self.keys + number) as i64;
        let entry = Entry { version, content_hash: ContentHash(number), vector_offset, tombstone: false, refused: false };
        (key, entry.encode())
    }

    /// What a consumer of librdkafka's does at best: poll, and a map of bytes.
    fn bare(&self) -> (u64, Duration) {
        let start = Instant::now();
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "none")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.message.max.bytes", "8388608")
            .set("queued.max.messages.kbytes", "65536")
            .create()
            .expect("a consumer");
        let changelog = self.changelog();
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&changelog.topic, changelog.partition, Offset::Beginning).expect("a partition");
        consumer.assign(&assignment).expect("an assignment");
        let mut map: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut count = 0;
        loop {
            match consumer.poll(Duration::from_secs(30)).expect("Kafka answers") {
                Ok(message) => {
                    let (Some(key), Some(value)) = (message.key(), message.payload()) else { continue };
                    map.insert(key.to_vec(), value.to_vec());
                    count += 1;
                }
                Err(KafkaError::PartitionEOF(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let took = start.elapsed();
        assert_eq!(map.len() as u64, self.keys);
        (count, took)
    }

    fn restore(&self, stores: Arc<dyn Stores>) -> (u64, Duration) {
        let start = Instant::now();
        let settings = KafkaSettings {
            bootstrap_servers: self.servers.clone(),
            application_id: self.application.clone(),
            client_id: "restore-rate".to_owned(),
            group_instance_id: None,
            properties: BTreeMap::new(),
        };
        let mut reader = KafkaLogReader::new(&settings).expect("a reader");
        let mut restore = Restore::new(RestoreRequest {
            task: TASK,
            life: 1,
            topics: self.task_topics(),
            sources: Vec::new(),
            collections: self.collections.clone(),
            stores,
            horizon: Duration::from_secs(86_400),
            safety_window: Duration::from_secs(30),
            meter: Arc::new(Meter::default()),
            cancelled: Arc::default(),
        });
        let clock = SystemClock::start();
        loop {
            if let Some(result) = restore.step(&mut reader as &mut dyn LogReader, clock.now()).expect("Kafka answers") {
                let took = start.elapsed();
                for warning in &result.warnings {
                    println!("{warning}");
                }
                assert_eq!(result.restored.store.len() as u64, self.keys);
                return (result.entries_read, took);
            }
        }
    }
}

fn collections() -> Collections {
    Collections::new(vec![CollectionSpec {
        name: "documents".to_owned(),
        id: IdKind::Uuid,
        dimension: 768,
        metric: Metric::Cosine,
        index: IndexKind::Auto,
        auto_create: false,
    }])
}

/// Where a machine's disk is, and not its memory.
fn folder_on_disk() -> std::path::PathBuf {
    Path::new("/var/tmp").join(format!("driftless-restore-rate-{}", std::process::id()))
}

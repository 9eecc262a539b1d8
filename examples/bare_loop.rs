//! The least that a program on librdkafka must do for the worker's result: read changes by batches, decode them with our
//! decoder where they lie, merge them into a map, append the same two changelog records, commit every 100 ms what is
//! acknowledged. No group, no restore, no ports, no metrics, no order between the two appends: a limit to measure the
//! worker against, not a program to run.
//!
//! `scripts/bench.sh worker` runs it: `bare_loop SERVERS APPLICATION DIMENSION RECORDS`. It prints a line of JSON
//! once RECORDS changes are applied and committed, and ends when its standard input does.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use bytes::Bytes;
use driftless::base::ids::{CollectionId, Region, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::lww::{Verdict, judge};
use driftless::merge::version::{ContentHash, Version};
use driftless::record::change::{Change, Op};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::record::decode::{Decoded, decode, decode_row};
use driftless::record::headers;
use driftless::record::raw::RawRecord;
use driftless::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use driftless::region::topics::TopicNames;
use driftless::store::entry::Entry;
use hashbrown::HashMap;
use rdkafka::bindings as native;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::io::Read;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REGION: &str = "us";
const BATCH: usize = 2048;
const PATIENCE_MS: i32 = 5;
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, application, dimension, records] = &arguments[..] else {
        panic!("usage: bare_loop SERVERS APPLICATION DIMENSION RECORDS");
    };
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no number"));
    let mut bare = BareLoop::new(servers, application, number(dimension) as usize);
    let seconds = bare.run(number(records));
    println!(
        "{{\"records\": {}, \"winners\": {}, \"keys\": {}, \"seconds\": {seconds:.3}}}",
        bare.records,
        bare.winners,
        bare.rows.len()
    );
    // Whoever measures this process has its figures from the system, while it is there.
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
}

/// Appends handed over and not yet acknowledged, since the last commit and before: each tick begins the other of two.
#[derive(Default)]
struct Outstanding([AtomicU64; 2]);

impl ClientContext for Outstanding {}

impl ProducerContext for Outstanding {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        if let Err((error, message)) = result {
            panic!("{message:?} is not acknowledged: {error}");
        }
        self.0[epoch].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every id is our own schema's: the changes' and that of the heartbeats of workers that took their turn before.
struct OurSchema(Arc<WriterSchema>);

impl SchemaSource for OurSchema {
    fn lookup(&mut self, _origin: &Region, _id: u32) -> SchemaLookup {
        SchemaLookup::Known(Arc::clone(&self.0))
    }
}

/// librdkafka's own queue of a consumer, read by batches.
struct Queue(*mut native::rd_kafka_queue_t);

impl Queue {
    fn of(consumer: &BaseConsumer) -> Self {
        // SAFETY: the client is valid; the queue is given back in `drop`.
        Self(unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })
    }

    /// As many as are there; waits for one. A call that may wait does so until its batch is full, hence two of them.
    fn take(&self, batch: &mut [*mut native::rd_kafka_message_t]) -> usize {
        // SAFETY: the queue is valid and the batch has room for as many pointers as it is told.
        let mut take =
            |patience, most| unsafe { native::rd_kafka_consume_batch_queue(self.0, patience, batch.as_mut_ptr(), most) };
        let taken = match take(0, BATCH) {
            0 => take(PATIENCE_MS, 1),
            taken => taken,
        };
        usize::try_from(taken).expect("librdkafka gives messages")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it came from `rd_kafka_queue_get_consumer`, and is used no more.
        unsafe { native::rd_kafka_queue_destroy(self.0) }
    }
}

struct BareLoop {
    // Before the consumer, which it must not outlive.
    queue: Queue,
    consumer: BaseConsumer,
    producer: BaseProducer<Outstanding>,
    names: TopicNames,
    changes: Arc<str>,
    collections: Collections,
    region: Region,
    schemas: OurSchema,
    rows: HashMap<VectorId, (Version, ContentHash)>,
    vector: Vec<f32>,
    metadata: Vec<u8>,
    key: Vec<u8>,
    /// Next offset of each partition: as read, as read when the older epoch ended, as committed.
    positions: Vec<i64>,
    to_commit: Vec<i64>,
    committed: Vec<i64>,
    epoch: usize,
    next_tick: Instant,
    records: u64,
    winners: u64,
}

impl BareLoop {
    fn new(servers: &str, application: &str, dimension: usize) -> Self {
        let names = TopicNames::new(application, 1);
        let changes = names.local(0);
        let consumer = consumer(servers, application);
        let metadata = consumer.fetch_metadata(Some(&changes), Duration::from_secs(10)).expect("Kafka answers");
        let partitions = metadata.topics()[0].partitions().len();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(&changes, partition as i32, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&assignment).expect("an assignment");
        Self {
            queue: Queue::of(&consumer),
            consumer,
            producer: producer(servers),
            names,
            changes,
            collections: collections(dimension),
            region: Region::new(REGION),
            schemas: OurSchema(Arc::new(WriterSchema::Ours)),
            rows: HashMap::new(),
            vector: Vec::with_capacity(dimension),
            metadata: Vec::new(),
            key: Vec::new(),
            positions: vec![0; partitions],
            to_commit: vec![0; partitions],
            committed: vec![0; partitions],
            epoch: 0,
            next_tick: Instant::now() + COMMIT_INTERVAL,
            records: 0,
            winners: 0,
        }
    }

    /// Seconds from the first batch to the last commit.
    fn run(&mut self, records: u64) -> f64 {
        let (versions, vectors) = (self.names.versions_changelog(0), self.names.vectors_changelog(0));
        let mut batch = vec![ptr::null_mut(); BATCH];
        let mut began = None;
        loop {
            let taken = self.queue.take(&mut batch);
            if taken > 0 {
                began.get_or_insert_with(Instant::now);
            }
            for message in &batch[..taken] {
                // SAFETY: the call filled so many valid messages; each is given back once, after its last use.
                unsafe {
                    self.message(&**message, &versions, &vectors);
                    native::rd_kafka_message_destroy(*message);
                }
            }
            self.producer.poll(Duration::ZERO);
            self.tick();
            if self.records >= records && self.committed == self.positions {
                return began.map_or(0.0, |began: Instant| began.elapsed().as_secs_f64());
            }
        }
    }

    /// # Safety
    /// The message is valid, and nothing of it is kept.
    unsafe fn message(&mut self, message: &native::rd_kafka_message_t, versions: &str, vectors: &str) {
        assert_eq!(message.err, native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "Kafka answers");
        self.positions[message.partition as usize] = message.offset + 1;
        // SAFETY: as the caller promises: the record made of it ends with this call.
        let (key, value, timestamp) = unsafe {
            (
                Bytes::from_static(std::slice::from_raw_parts(message.key.cast(), message.key_len)),
                Bytes::from_static(std::slice::from_raw_parts(message.payload.cast(), message.len)),
                native::rd_kafka_message_timestamp(message, ptr::null_mut()),
            )
        };
        let record = RawRecord {
            topic: Arc::clone(&self.changes),
            partition: message.partition,
            offset: message.offset,
            appended_at: UnixMs(timestamp),
            key: Some(key),
            value: Some(value),
            headers: Vec::new(),
        };
        match decode(record, &self.region, &self.collections, &mut self.schemas) {
            Decoded::Change(change) => self.merge(&change, versions, vectors),
            Decoded::Heartbeat(_) => {}
            other => panic!("the input has good changes only: {other:?}"),
        }
    }

    fn merge(&mut self, change: &Change, versions: &str, vectors: &str) {
        self.records += 1;
        if let Some((version, hash)) = self.rows.get(&change.key.id)
            && judge(&change.version, || change.content_hash(), version, *hash) != Verdict::Wins
        {
            return;
        }
        let spec = self.collections.get(CollectionId(0));
        decode_row(change, spec, &mut self.vector, &mut self.metadata).expect("a good body");
        let content_hash = change.content_hash();
        self.rows.insert(change.key.id.clone(), (change.version.clone(), content_hash));
        self.winners += 1;
        self.append(change, content_hash, versions, vectors);
    }

    fn append(&mut self, change: &Change, content_hash: ContentHash, versions: &str, vectors: &str) {
        let record = &change.record;
        self.key.clear();
        self.key.extend_from_slice(self.collections.get(CollectionId(0)).name.as_bytes());
        self.key.push(0);
        self.key.extend_from_slice(record.key.as_deref().expect("its id"));
        let appended_at = record.appended_at.to_string();
        let ours = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: headers::APPENDED_AT, value: Some(&appended_at) })
            .insert(Header { key: headers::ORIGIN, value: Some(REGION) });
        let whole = record.value.as_deref().expect("a change");
        let of_topic = |topic| BaseRecord::with_opaque_to(topic, self.epoch).partition(record.partition).key(&self.key[..]);
        self.send(of_topic(vectors).payload(whole).headers(ours));
        let entry = Entry {
            version: change.version.clone(),
            content_hash,
            vector_offset: record.offset,
            tombstone: change.op == Op::Delete,
            refused: false,
        };
        let entry = entry.encode();
        self.send(of_topic(versions).payload(&entry));
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) {
        self.producer.context().0[self.epoch].fetch_add(1, Ordering::Relaxed);
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    /// Commits what was read in the older epoch once all of its appends are acknowledged, and begins the next.
    fn tick(&mut self) {
        let older = 1 - self.epoch;
        if Instant::now() < self.next_tick || self.producer.context().0[older].load(Ordering::Relaxed) > 0 {
            return;
        }
        self.next_tick = Instant::now() + COMMIT_INTERVAL;
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in self.to_commit.iter().enumerate().filter(|(_, offset)| **offset > 0) {
            offsets.add_partition_offset(&self.changes, partition as i32, Offset::Offset(*offset)).expect("a partition");
        }
        if self.to_commit != self.committed {
            self.consumer.commit(&offsets, CommitMode::Async).expect("a commit is sent");
            self.committed.clone_from(&self.to_commit);
        }
        self.to_commit.clone_from(&self.positions);
        self.epoch = older;
    }
}

fn consumer(servers: &str, application: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", application)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "65536")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer")
}

/// As the worker's appender has it.
fn producer(servers: &str) -> BaseProducer<Outstanding> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.max.bytes", "16777216")
        .create_with_context(Outstanding::default())
        .expect("a producer")
}

fn collections(dimension: usize) -> Collections {
    Collections::new(vec![CollectionSpec {
        name: format!("bench_{dimension}"),
        id: IdKind::Uuid,
        dimension,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    }])
}

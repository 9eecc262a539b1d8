//! The broker under test, as the conformance suite wants it, and what only tests do to a broker.

use driftless::adapter::kafka::{KafkaAppender, KafkaGroupConsumer, KafkaGroupView, KafkaLogReader, KafkaSettings, Subscription};
use driftless::base::ids::TopicPartition;
use driftless::port::group::GroupView;
use driftless::port::log::{Appender, GroupConsumer, LogReader, Wake};
use driftless::testing::conformance::log::LogUnderTest;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings::{self as native, rd_kafka_vtype_t as Tag};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct RealLog {
    servers: String,
    properties: BTreeMap<String, String>,
    instance: Option<String>,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

pub fn settings(servers: &str, group: &str, properties: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: servers.to_owned(),
        application_id: group.to_owned(),
        client_id: "stack-test".to_owned(),
        group_instance_id: None,
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

pub fn servers() -> Option<String> {
    let servers = std::env::var("DRIFTLESS_US_KAFKA").ok();
    if servers.is_none() {
        eprintln!("skipped: DRIFTLESS_US_KAFKA is not set; start the servers (scripts/stack.sh up) and name one there");
    }
    servers
}

/// Distinct in this run and in those before it on the same broker.
pub fn unique(base: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("{base}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl RealLog {
    pub fn connect() -> Option<Self> {
        let servers = servers()?;
        let admin = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        Some(Self { servers, properties: BTreeMap::new(), instance: None, admin, runtime, woken })
    }

    /// A property for the clients made from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.properties.insert(name.to_owned(), value.to_owned());
    }

    /// The static id of the members made from now on.
    pub fn instance(&mut self, id: &str) {
        self.instance = Some(id.to_owned());
    }

    fn settings(&self, group: &str) -> KafkaSettings {
        KafkaSettings {
            properties: self.properties.clone(),
            group_instance_id: self.instance.clone(),
            ..settings(&self.servers, group, &[])
        }
    }

    pub fn sleep_until_woken(&self, patience: Duration) {
        let (woken, changed) = &*self.woken;
        let woken = woken.lock().unwrap();
        let (mut woken, _) = changed.wait_timeout_while(woken, patience, |woken| !*woken).unwrap();
        *woken = false;
    }

    /// A topic of one partition that takes batches of so many bytes as they are sent.
    pub fn create_topic_for(&self, topic: &str, message_bytes_max: usize) {
        let bytes = message_bytes_max.to_string();
        self.create(&NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", &bytes));
    }

    /// A topic of one partition that keeps its producers' times, as mirrors do.
    pub fn create_timed_by_producers(&self, topic: &str) {
        self.create(&NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("message.timestamp.type", "CreateTime"));
    }

    fn create(&self, topic: &NewTopic<'_>) {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let created = self.runtime.block_on(self.admin.create_topics([topic], &options)).unwrap();
        created.into_iter().for_each(|result| {
            result.unwrap();
        });
    }

    pub fn append_at(&self, to: &TopicPartition, value: &str, at_ms: i64) {
        let producer = self.producer(&[]);
        let record = BaseRecord::<str, str>::to(&to.topic).partition(to.partition).payload(value).timestamp(at_ms);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    pub fn append_compressed(&self, to: &TopicPartition, value: &[u8]) {
        let producer = self.producer(&[("compression.type", "zstd"), ("message.max.bytes", "50000000")]);
        let record = BaseRecord::<str, [u8]>::to(&to.topic).partition(to.partition).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn wake(&self) -> Wake {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || {
            *woken.0.lock().unwrap() = true;
            woken.1.notify_one();
        })
    }

    fn producer(&self, more: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        for (name, value) in more {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    pub fn append_transaction(&self, to: &TopicPartition, values: &[&str], commits: bool) {
        let id = unique("transaction");
        let producer = self.producer(&[("transactional.id", &id)]);
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        producer.begin_transaction().unwrap();
        for value in values {
            let record = BaseRecord::<str, str>::to(&to.topic).partition(to.partition).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        if commits {
            producer.commit_transaction(Duration::from_secs(20)).unwrap();
        } else {
            producer.abort_transaction(Duration::from_secs(20)).unwrap();
        }
    }

    /// The header's name need not be UTF-8, which rdkafka's own interface does not allow.
    pub fn append_with_header_name(&self, to: &TopicPartition, name: &CStr) {
        let producer = self.producer(&[]);
        let topic = CString::new(&*to.topic).unwrap();
        // SAFETY: pairs of a tag and what it says must follow, up to the end tag; everything is copied.
        let code = unsafe {
            native::rd_kafka_producev(
                producer.client().native_ptr(),
                Tag::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                Tag::RD_KAFKA_VTYPE_PARTITION,
                to.partition,
                Tag::RD_KAFKA_VTYPE_HEADER,
                name.as_ptr(),
                c"value".as_ptr(),
                5_isize,
                Tag::RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(code, native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    pub fn delete_records(&self, partition: &TopicPartition, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(before)).unwrap();
        self.runtime.block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }
}

impl LogUnderTest for RealLog {
    fn unique(&mut self, base: &str) -> Arc<str> {
        Arc::from(unique(base))
    }

    fn create_topic(&mut self, topic: &str, partitions: i32) {
        self.create(&NewTopic::new(topic, partitions, TopicReplication::Fixed(1)));
    }

    fn delete_topic(&mut self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[topic], &options)).unwrap();
        deleted.into_iter().for_each(|result| {
            result.unwrap();
        });
    }

    fn join(&mut self, group: &str, local: &Arc<str>, mirror: &Arc<str>) -> Box<dyn GroupConsumer> {
        let subscription = Subscription { local: Arc::clone(local), co_topics: vec![Arc::clone(mirror)] };
        Box::new(KafkaGroupConsumer::new(&self.settings(group), &[subscription], self.wake()).unwrap())
    }

    fn view(&mut self, group: &str) -> Box<dyn GroupView> {
        Box::new(KafkaGroupView::new(&self.settings(group)).unwrap())
    }

    fn appender(&mut self) -> Box<dyn Appender> {
        Box::new(KafkaAppender::new(&self.settings("none"), self.wake()).unwrap())
    }

    fn reader(&mut self) -> Box<dyn LogReader> {
        Box::new(KafkaLogReader::new(&self.settings("none")).unwrap())
    }

    fn wait(&mut self) {
        self.sleep_until_woken(Duration::from_millis(20));
    }
}

//! The mock cluster, as the conformance suite wants a log, and what only tests do to one.

use driftless::adapter::kafka::{KafkaAppender, KafkaGroupConsumer, KafkaGroupView, KafkaLogReader, KafkaSettings, Subscription};
use driftless::port::group::GroupView;
use driftless::port::log::{Appender, GroupConsumer, LogReader, Wake};
use driftless::testing::conformance::log::LogUnderTest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub const BROKERS: i32 = 3;
/// The mock waits for a second less than this before each new generation.
pub const SESSION: Duration = Duration::from_secs(3);

const PATIENCE: Duration = Duration::from_secs(60);

/// Errors that a healthy cluster gives while its leaders move; none of them is the application's business.
const PASSING: [Code; 4] = [
    Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
];

pub struct MockLog {
    /// Owns the mock cluster; is never used to produce.
    host: BaseProducer,
    pub servers: String,
    properties: BTreeMap<String, String>,
    instance: Option<String>,
    topics: Vec<(Arc<str>, i32)>,
    groups: Vec<String>,
    weather: Option<StdRng>,
    weather_events: usize,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

impl MockLog {
    pub fn start() -> Self {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", BROKERS.to_string()).set_log_level(RDKafkaLogLevel::Emerg);
        let host: BaseProducer = config.create().unwrap();
        let servers = host.client().mock_cluster().unwrap().bootstrap_servers();
        let mut mock = Self {
            host,
            servers,
            properties: BTreeMap::new(),
            instance: None,
            topics: Vec::new(),
            groups: Vec::new(),
            weather: None,
            weather_events: 0,
            woken: Arc::default(),
        };
        mock.set("session.timeout.ms", &SESSION.as_millis().to_string());
        mock.set("heartbeat.interval.ms", "100");
        mock.set("reconnect.backoff.max.ms", "500");
        // SAFETY: the handle is that of the cluster that `host` owns.
        unsafe {
            native::rd_kafka_mock_group_initial_rebalance_delay_ms(mock.handle(), 100);
            native::rd_kafka_mock_start_request_tracking(mock.handle());
        }
        mock
    }

    fn handle(&self) -> *mut native::rd_kafka_mock_cluster_t {
        // SAFETY: the client is alive; it was configured with mock brokers, so the handle is not null.
        unsafe { native::rd_kafka_handle_mock_cluster(self.host.client().native_ptr()) }
    }

    pub fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.host.client().mock_cluster().unwrap()
    }

    /// A property for the clients made from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.properties.insert(name.to_owned(), value.to_owned());
    }

    /// The static id of the members made from now on.
    pub fn instance(&mut self, id: &str) {
        self.instance = Some(id.to_owned());
    }

    /// The next requests of this kind, to any broker, are answered with these errors, one each.
    pub fn fail(&self, api: Api, errors: &[Code]) {
        self.cluster().request_errors(api, errors);
    }

    /// As `fail`, with nothing piled up from before: a client's retries back off to a second, and must get ahead.
    fn fail_once(&self, api: Api, error: Code) {
        self.cluster().clear_request_errors(api);
        self.fail(api, &[error]);
    }

    /// How many requests of this kind the brokers have had so far.
    pub fn requests(&self, api: Api) -> usize {
        let mut count = 0;
        // SAFETY: the array and all in it are ours until destroyed together, which happens once.
        unsafe {
            let requests = native::rd_kafka_mock_get_requests(self.handle(), &mut count);
            let of_api = |index: &usize| native::rd_kafka_mock_request_api_key(*requests.add(*index)) == i16::from(api);
            let found = (0..count).filter(of_api).count();
            native::rd_kafka_mock_request_destroy_array(requests, count);
            found
        }
    }

    pub fn until_requests(&mut self, api: Api, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.requests(api) < count {
            assert!(Instant::now() < deadline, "{} requests of {api:?}, expected {count}", self.requests(api));
            self.wait();
        }
    }

    pub fn lead(&self, topic: &str, partition: i32, broker: i32) {
        self.cluster().partition_leader(topic, partition, Some(broker)).unwrap();
    }

    pub fn coordinate(&self, group: &str, broker: i32) {
        self.cluster().coordinator(MockCoordinator::Group(group.to_owned()), broker).unwrap();
    }

    pub fn all_brokers_down(&self) {
        (1..=BROKERS).for_each(|broker| self.cluster().broker_down(broker).unwrap());
    }

    pub fn all_brokers_up(&self) {
        (1..=BROKERS).for_each(|broker| self.cluster().broker_up(broker).unwrap());
    }

    pub fn round_trip(&self, took: Duration) {
        (1..=BROKERS).for_each(|broker| self.cluster().broker_round_trip_time(broker, took).unwrap());
    }

    /// From now on each wait of a test may bring a fault.
    pub fn begin_weather(&mut self, seed: u64) {
        self.weather = Some(StdRng::seed_from_u64(seed));
    }

    pub fn weather_events(&self) -> usize {
        self.weather_events
    }

    fn weather(&mut self) {
        let Some(mut random) = self.weather.take() else { return };
        if random.random_bool(0.05) {
            let code = PASSING[random.random_range(0..PASSING.len())];
            match random.random_range(0..4) {
                0 => self.fail_once(Api::Fetch, code),
                1 => self.fail_once(Api::Produce, Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
                2 => {
                    if let Some(group) = self.groups.last() {
                        self.coordinate(group, random.random_range(1..=BROKERS));
                    }
                }
                _ => {
                    for (topic, partitions) in &self.topics {
                        self.lead(topic, random.random_range(0..*partitions), random.random_range(1..=BROKERS));
                    }
                }
            }
            self.weather_events += 1;
        }
        self.weather = Some(random);
    }

    pub fn settings(&self, group: &str) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.servers.clone(),
            application_id: group.to_owned(),
            client_id: "mock-test".to_owned(),
            group_instance_id: self.instance.clone(),
            properties: self.properties.clone(),
        }
    }

    fn wake(&self) -> Wake {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || {
            *woken.0.lock().unwrap() = true;
            woken.1.notify_one();
        })
    }
}

/// Polls `step` until it yields something, for a time that no correct client needs.
pub fn until<T>(mock: &mut MockLog, what: &str, mut step: impl FnMut(&mut MockLog) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(outcome) = step(mock) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        mock.wait();
    }
}

impl LogUnderTest for MockLog {
    fn unique(&mut self, base: &str) -> Arc<str> {
        // Each test has a cluster of its own.
        Arc::from(format!("{base}-{}", self.topics.len() + self.groups.len()))
    }

    fn create_topic(&mut self, topic: &str, partitions: i32) {
        self.cluster().create_topic(topic, partitions, BROKERS).unwrap();
        self.topics.push((Arc::from(topic), partitions));
    }

    fn delete_topic(&mut self, topic: &str) {
        panic!("{topic}: the mock cluster can't delete topics; the checks that do are run on real brokers");
    }

    fn join(&mut self, group: &str, local: &Arc<str>, mirror: &Arc<str>) -> Box<dyn GroupConsumer> {
        self.groups.push(group.to_owned());
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
        self.weather();
        let (woken, changed) = &*self.woken;
        let guard = woken.lock().unwrap();
        let (mut guard, _) = changed.wait_timeout_while(guard, Duration::from_millis(20), |woken| !*woken).unwrap();
        *guard = false;
    }
}

//! [`KafkaAdmin`]: topics and their settings through librdkafka's admin client, one blocking call at a time.

use crate::base::error::{Error, Remedy, Result};
use crate::port::admin::{Creation, LogAdmin, TopicState, TopicToCreate};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Of each call: long enough for a broker that is just starting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a new topic is asked for until the brokers know it: nothing tells us.
const VISIBLE_POLL: Duration = Duration::from_millis(20);

pub struct KafkaAdmin {
    bootstrap_servers: String,
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    /// Topics made by this client: they are there, whatever a broker says that has not heard of them yet.
    created: BTreeSet<Arc<str>>,
}

impl KafkaAdmin {
    /// `properties` as they are passed through, credentials included. Connects with the first call.
    pub fn new(bootstrap_servers: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", bootstrap_servers).set("client.id", "driftless-admin");
        let client = config.create().map_err(unusable)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| Error::fatal(format!("no thread for the Kafka admin client: {error}")))?;
        Ok(Self { bootstrap_servers: bootstrap_servers.to_owned(), client, runtime, created: BTreeSet::new() })
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let servers = &self.bootstrap_servers;
        match error.rdkafka_error_code() {
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::Resolve,
            ) => Error::retry(format!(
                "Kafka at {servers} is not reached ({error}); is it running, and is [kafka] bootstrap_servers its address and port?"
            )),
            Some(Code::SaslAuthenticationFailed | Code::Authentication | Code::SSL) => Error::refuse(format!(
                "Kafka at {servers} refuses this user ({error}); check [kafka] username, its password, mechanism and security.protocol"
            )),
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                Error::refuse(format!("{doing}: {error}; grant this user the right in the brokers' ACLs"))
            }
            _ => Error::retry(format!("{doing}: {error}")),
        }
    }

    /// The controller has it; the brokers hear of it a moment later, and a command that follows must find it.
    fn await_topic(&self, topic: &TopicToCreate) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < REQUEST_TIMEOUT {
            let metadata = self.client.inner().fetch_metadata(None, REQUEST_TIMEOUT);
            let metadata = metadata.map_err(|error| self.failed("asking for the topics", &error))?;
            let found = metadata.topics().iter().find(|found| *found.name() == *topic.name);
            if found.is_some_and(|found| found.partitions().len() == topic.partitions.unsigned_abs() as usize) {
                return Ok(());
            }
            thread::sleep(VISIBLE_POLL);
        }
        Err(Error::retry(format!(
            "topic {} was created, but no broker knows it after {REQUEST_TIMEOUT:?}; run it again",
            topic.name
        )))
    }

    fn settings(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, BTreeMap<String, String>>> {
        let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if resources.is_empty() {
            return Ok(BTreeMap::new());
        }
        let doing = "asking for the topics' settings";
        let described = self.runtime.block_on(self.client.describe_configs(&resources, &self.options()));
        let mut settings = BTreeMap::new();
        for result in described.map_err(|error| self.failed(doing, &error))? {
            let resource = result.map_err(|code| self.failed(doing, &KafkaError::AdminOp(code)))?;
            if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                settings.insert(Arc::from(name.as_str()), entries(&resource));
            }
        }
        Ok(settings)
    }

    fn describe_once(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicState>> {
        let metadata = self.client.inner().fetch_metadata(None, REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| self.failed("asking for the topics", &error))?;
        let mut states = BTreeMap::new();
        for topic in metadata.topics() {
            if let Some(name) = topics.iter().find(|name| &***name == topic.name()) {
                states.insert(name.clone(), state(topic));
            }
        }
        let found: Vec<Arc<str>> = states.keys().cloned().collect();
        for (name, settings) in self.settings(&found)? {
            if let Some(state) = states.get_mut(&name) {
                state.settings = settings;
            }
        }
        Ok(states)
    }
}

impl LogAdmin for KafkaAdmin {
    fn broker_count(&mut self) -> Result<i32> {
        let metadata = self.client.inner().fetch_metadata(None, REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| self.failed("asking for the brokers", &error))?;
        Ok(i32::try_from(metadata.brokers().len()).unwrap_or(i32::MAX))
    }

    /// Each question may go to another broker, and some hear of a new topic later than others: one that has not
    /// leaves it out, or knows no settings of it, which a topic always has.
    fn describe(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicState>> {
        let created: Vec<Arc<str>> = topics.iter().filter(|topic| self.created.contains(*topic)).cloned().collect();
        let begun = Instant::now();
        loop {
            let described = self.describe_once(topics);
            let is_whole = match &described {
                Ok(states) => created.iter().all(|topic| states.get(topic).is_some_and(|state| !state.settings.is_empty())),
                Err(error) => created.is_empty() || error.remedy != Remedy::Retry,
            };
            if is_whole || begun.elapsed() > REQUEST_TIMEOUT {
                return described;
            }
            thread::sleep(VISIBLE_POLL);
        }
    }

    fn create(&mut self, topic: &TopicToCreate) -> Result<Creation> {
        let doing = format!("creating topic {}", topic.name);
        let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication_factor));
        for (key, value) in &topic.settings {
            new = new.set(key, value);
        }
        let created = self.runtime.block_on(self.client.create_topics([&new], &self.options()));
        let results = created.map_err(|error| self.failed(&doing, &error))?;
        match results.into_iter().next() {
            Some(Ok(_)) => {
                self.created.insert(Arc::clone(&topic.name));
                self.await_topic(topic).map(|()| Creation::Created)
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(Creation::AlreadyThere),
            Some(Err((_, code))) => Err(self.failed(&doing, &KafkaError::AdminOp(code))),
            None => Err(Error::retry(format!("{doing}: the cluster gave no answer"))),
        }
    }
}

fn state(topic: &MetadataTopic) -> TopicState {
    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    TopicState {
        partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
        replication_factor: i32::try_from(replicas).unwrap_or(i32::MAX),
        settings: BTreeMap::new(),
    }
}

fn entries(resource: &ConfigResource) -> BTreeMap<String, String> {
    resource.entries.iter().filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?))).collect()
}

/// The value is left out: it may be a secret.
fn unusable(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            Error::refuse(format!("Kafka property {name} cannot be used: {description}; mend it in [kafka.properties]"))
        }
        other => Error::refuse(format!("the Kafka client cannot be made: {other}; mend [kafka.properties]")),
    }
}

//! One region's Kafka as the configuration names it, and the librdkafka properties that follow.
//!
//! A user's properties win over our defaults, but for the few that correctness rests on: those are refused.

use super::revival::Revival;
use crate::base::error::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub bootstrap_servers: String,
    /// The group id; also the prefix of the internal topics.
    pub application_id: String,
    /// What this process is called in the brokers' logs and quotas, with the client's role behind it. Where standbys are
    /// kept, no other process has it.
    pub client_id: String,
    /// Makes the member a static one: it keeps its partitions over a restart within the session time-out.
    pub group_instance_id: Option<String>,
    /// Any librdkafka property, given to all clients.
    pub properties: BTreeMap<String, String>,
}

/// Of the group's members, behind their client id.
const MEMBER_ROLE: &str = "worker";

type Properties = &'static [(&'static str, &'static str)];

/// Memory for records fetched and not yet polled, for each member: what is still in the processor's caches when it is
/// polled costs a tenth less, and a backlog takes less than half of the memory.
const FETCH_BUFFER_KIB: &str = "4096";
const FETCH_BYTES: &str = "1048576";
/// The same for a reader, which is to be as fast as can be.
const READER_BUFFER_KIB: &str = "65536";
const READER_BYTES: &str = "4194304";

/// Ours, for every client.
const COMMON: Properties = &[("socket.keepalive.enable", "true"), ("log.connection.close", "false")];

const GROUP: Properties = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("statistics.interval.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.message.max.bytes", FETCH_BYTES),
    ("queued.max.messages.kbytes", FETCH_BUFFER_KIB),
    ("check.crcs", "true"),
];
/// `auto.offset.reset`: anything else would skip or repeat in silence. Commits are made explicitly.
const GROUP_FIXED: Properties = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
    ("isolation.level", "read_uncommitted"),
];

/// `fetch.wait.max.ms`: at the end of a partition a fetch waits so long at the broker, and every question that is sent
/// after it on the same connection waits with it; a restore asks a dozen.
const READER: Properties = &[
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "2"),
    ("fetch.message.max.bytes", READER_BYTES),
    ("queued.max.messages.kbytes", READER_BUFFER_KIB),
    ("check.crcs", "true"),
];
/// The end of a partition is recognised by its event.
const READER_FIXED: Properties = &[
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_uncommitted"),
];

const APPENDER: Properties = &[
    ("linger.ms", "2"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("message.timeout.ms", "120000"),
];
/// `partitioner`: partitions are always explicit; set in case a record ever comes without. A topic that is missing
/// must not come about by itself: with a broker's defaults a changelog would be deleted, not compacted.
/// `message.max.bytes`: what is refused for its size is told by this number (`record/size.rs`).
const APPENDER_FIXED: Properties = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
    ("message.max.bytes", "16777216"),
];

impl KafkaSettings {
    /// What the group's consumers get for a property that the configuration doesn't set; `None`: librdkafka's own.
    pub fn group_default(name: &str) -> Option<&'static str> {
        GROUP.iter().find(|(property, _)| *property == name).map(|(_, value)| *value)
    }

    /// Checks the pass-through properties without connecting.
    pub fn check(&self) -> Result<()> {
        for config in [self.group_consumer()?, self.appender()?, self.log_reader()?] {
            config.create_native_config().map_err(|error| unusable(&error))?;
        }
        Ok(())
    }

    /// What the group's members of this process are called in the view of the group.
    pub fn member_client_id(&self) -> String {
        self.client_id_as(MEMBER_ROLE)
    }

    fn client_id_as(&self, role: &str) -> String {
        format!("{}-{role}", self.client_id)
    }

    pub(super) fn group_consumer(&self) -> Result<ClientConfig> {
        let mut config = self.client(MEMBER_ROLE, GROUP, GROUP_FIXED)?;
        if self.properties.get("group.protocol").is_some_and(|protocol| protocol == "consumer") {
            self.use_consumer_protocol(&mut config)?;
        }
        config.set("group.id", &self.application_id);
        if let Some(instance) = &self.group_instance_id {
            config.set("group.instance.id", instance);
        }
        Ok(config)
    }

    /// KIP-848: the broker assigns, and has the time-outs in its own configuration.
    fn use_consumer_protocol(&self, config: &mut ClientConfig) -> Result<()> {
        if self.group_instance_id.is_some() {
            return Err(Error::refuse(
                "Kafka property group.protocol = consumer does not work together with group_instance_id \
                 (librdkafka ends with UNRELEASED_INSTANCE_ID): remove one of them",
            ));
        }
        for name in ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"] {
            if !self.properties.contains_key(name) {
                config.remove(name);
            }
        }
        Ok(())
    }

    pub(super) fn log_reader(&self) -> Result<ClientConfig> {
        self.client("reader", READER, READER_FIXED)
    }

    pub(super) fn appender(&self) -> Result<ClientConfig> {
        self.client("appender", APPENDER, APPENDER_FIXED)
    }

    pub(super) fn revival(&self) -> Result<Revival> {
        Revival::new(&self.bootstrap_servers).map_err(|error| Error::refuse(format!("bootstrap_servers: {error}")))
    }

    fn client(&self, role: &str, defaults: Properties, fixed: Properties) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("client.id", self.client_id_as(role));
        for (name, value) in COMMON.iter().chain(defaults) {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            self.refuse_contradiction(name, value, fixed)?;
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        Ok(config)
    }

    fn refuse_contradiction(&self, name: &str, value: &str, fixed: Properties) -> Result<()> {
        let field = match name {
            "bootstrap.servers" => Some(("bootstrap_servers", Some(&self.bootstrap_servers))),
            "group.id" => Some(("application_id", Some(&self.application_id))),
            "group.instance.id" => Some(("group_instance_id", self.group_instance_id.as_ref())),
            _ => None,
        };
        if let Some((field, given)) = field.filter(|(_, given)| given.is_none_or(|given| given != value)) {
            let given = given.map_or("nothing", String::as_str);
            return Err(Error::refuse(format!(
                "Kafka property {name} can't be passed through beside {field} = {given}: set {field} instead"
            )));
        }
        match fixed.iter().find(|(property, _)| *property == name) {
            Some((_, needed)) if *needed != value => Err(Error::refuse(format!(
                "Kafka property {name} = {value} can't be used: Driftless relies on {needed}; remove the property"
            ))),
            _ => Ok(()),
        }
    }
}

/// Values of properties are not shown: some are secrets.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("application_id", &self.application_id)
            .field("client_id", &self.client_id)
            .field("group_instance_id", &self.group_instance_id)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// A client that could not be made: always a matter of configuration. The value is left out, as it may be a secret.
pub(super) fn unusable(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            Error::refuse(format!("Kafka property {name} can't be used: {description}; correct or remove it"))
        }
        other => Error::refuse(format!("the Kafka client can't be made: {other}; correct the Kafka properties")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".into(),
            application_id: "app".into(),
            client_id: "worker-1".into(),
            group_instance_id: None,
            properties: properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        }
    }

    #[test]
    fn a_users_property_wins_over_a_default_but_not_over_what_correctness_rests_on() {
        let wide = settings(&[("session.timeout.ms", "30000")]);
        assert_eq!(wide.group_consumer().unwrap().get("session.timeout.ms"), Some("30000"));
        for (name, value) in
            [("auto.offset.reset", "latest"), ("acks", "1"), ("message.max.bytes", "1000000"), ("group.id", "other")]
        {
            let error = settings(&[(name, value)]).check().unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        settings(&[("auto.offset.reset", "error")]).check().unwrap();
    }

    #[test]
    fn an_unknown_property_is_named_and_its_value_is_not() {
        let error = settings(&[("sasl.pasword", "hunter2")]).check().unwrap_err();
        assert!(error.to_string().contains("sasl.pasword") && !error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{:?}", settings(&[("sasl.password", "hunter2")])).contains("hunter2"));
    }
}

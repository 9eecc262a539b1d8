//! What must be right before a worker starts: each fault is told with its place and its remedy, at once rather
//! than by a task that can't be restored.

use crate::adapter::kafka::{KafkaLogReader, KafkaSettings};
use crate::adapter::milvus::{MilvusAdmin, MilvusCredentials, MilvusSettings};
use crate::adapter::registry::{RegistryAddress, RegistryClient};
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::config::{Config, MilvusAuth};
use crate::port::admin::RegistryAdmin;
use crate::port::log::LogReader;
use crate::record::avro::SCHEMA_TEXT;
use crate::region::topics::TopicNames;
use std::sync::Arc;

pub fn kafka_settings(config: &Config, thread: usize) -> KafkaSettings {
    let instance = config.kafka.group_instance_id.as_ref();
    KafkaSettings {
        bootstrap_servers: config.kafka.bootstrap_servers.clone(),
        application_id: config.application_id.clone(),
        client_id: format!("{}-{}", config.application_id, config.region),
        // Each thread is a member of its own.
        group_instance_id: instance.map(|id| if config.worker.threads == 1 { id.clone() } else { format!("{id}-{thread}") }),
        properties: config.kafka.client_properties(),
    }
}

/// Large answers would be thrown away wherever single vectors are read, and a link is paid by the byte.
const PEER_FETCH: [(&str, &str); 2] = [("fetch.message.max.bytes", "524288"), ("queued.max.messages.kbytes", "2048")];

/// A peer's Kafka, for reading.
pub fn peer_kafka_settings(config: &Config, peer: &Region) -> Result<KafkaSettings> {
    if *peer == config.region {
        return Err(Error::refuse(format_args!("{peer} is this configuration's own region: name a peer")));
    }
    let kafka = config.peer_kafka.get(peer).ok_or_else(|| {
        Error::refuse(format_args!(
            "the configuration does not say where the Kafka of region {peer} is: add [regions.{peer}.kafka] with bootstrap_servers = \"HOST:PORT\""
        ))
    })?;
    let mut properties = kafka.client_properties();
    for (name, value) in PEER_FETCH {
        properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    Ok(KafkaSettings {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        application_id: config.application_id.clone(),
        client_id: format!("{}-{}-resync", config.application_id, config.region),
        group_instance_id: None,
        properties,
    })
}

/// The settings of a worker's clients: where standbys are kept, its process is told from every other by their name. A
/// static member's name must outlive the process: its group goes on calling it as it was called when it first joined.
pub fn worker_kafka_settings(config: &Config, thread: usize, process: &str) -> KafkaSettings {
    let mut settings = kafka_settings(config, thread);
    if config.worker.standby_replicas > 0 {
        let process = config.kafka.group_instance_id.as_deref().unwrap_or(process);
        settings.client_id = format!("{}-{process}", settings.client_id);
    }
    settings
}

pub fn milvus_settings(config: &Config) -> MilvusSettings {
    let credentials = match &config.milvus.auth {
        MilvusAuth::None => MilvusCredentials::None,
        MilvusAuth::Login(login) => {
            MilvusCredentials::Password { user: login.username.clone(), password: login.password.clone() }
        }
        MilvusAuth::Token(token) => MilvusCredentials::Token(token.clone()),
    };
    let mut settings = MilvusSettings::new(config.milvus.uri.clone());
    settings.database = config.milvus.database.clone().unwrap_or_default();
    settings.credentials = credentials;
    settings.rpc_deadline = config.milvus.rpc_deadline;
    settings
}

pub fn registry_addresses(config: &Config) -> Vec<(Region, RegistryAddress)> {
    let addresses = config.regions.iter().map(|(region, registry)| {
        let login = registry.login.as_ref().map(|login| (login.username.clone(), login.password.clone()));
        (region.clone(), RegistryAddress { url: registry.registry.clone(), login })
    });
    addresses.collect()
}

/// The topics that this region's tasks can't do without.
pub fn check_topics(config: &Config) -> Result<()> {
    let mut reader = KafkaLogReader::new(&kafka_settings(config, 0))?;
    let names = config.topics();
    for shard in 0..names.shards() {
        for topic in needed(&names, shard) {
            let found = reader.partition_count(&topic).map_err(|error| {
                error.context(format_args!("Kafka at {} ([kafka] bootstrap_servers)", config.kafka.bootstrap_servers))
            })?;
            let wanted = config.partitions;
            match found {
                Some(count) if count == wanted => {}
                Some(count) => {
                    return Err(Error::refuse(format_args!(
                        "topic {topic} has {count} partitions, and [topics] partitions = {wanted}: set it to {count}, or make the topic anew"
                    )));
                }
                None => {
                    return Err(Error::refuse(format_args!(
                        "topic {topic} is not there; `driftless topics create --config FILE` makes it"
                    )));
                }
            }
        }
    }
    Ok(())
}

fn needed(names: &TopicNames, shard: u16) -> [Arc<str>; 5] {
    [names.local(shard), names.versions_changelog(shard), names.vectors_changelog(shard), names.dead_letter(), names.conflicts()]
}

/// The id of our own schema in this region's registry; registers it where it is not there yet.
pub fn own_schema_id(config: &Config) -> Result<u32> {
    let own = config.own_registry();
    let login = own.login.as_ref().map(|login| (login.username.as_str(), &login.password));
    let mut client = RegistryClient::new(&own.registry, login)?;
    client.register("vector-cdc-value", SCHEMA_TEXT)
}

/// Collections made where they may be, compared with the configuration, loaded.
pub async fn prepare_milvus(config: &Config) -> Result<()> {
    let admin = MilvusAdmin::connect(&milvus_settings(config)).await?;
    for finding in admin.prepare(&config.collections).await? {
        tracing::warn!(collection = %finding.collection, remedy = %finding.remedy, "{}", finding.problem);
    }
    Ok(())
}

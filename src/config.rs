//! The configuration: one TOML file per region.
//!
//! As written, it is read key by key ([`read`], through [`Section`](crate::base::section::Section)); as usable,
//! it is [`Config`]: non-zero, with units resolved, secrets taken from where the file says they are, and the
//! relations between the values checked ([`relations`]). All faults are told at once.
//!
//! Paths in the file are relative to the file's own folder. Secrets are never in the file and never printed.

mod collections;
mod connect;
mod read;
mod relations;
mod secrets;

use crate::base::error::{Error, Result};
use crate::base::fault::Faults;
use crate::base::ids::Region;
use crate::base::section::Document;
use crate::record::collection::Collections;
use crate::region::topics::TopicNames;
use crate::task::scrub::ScrubSettings;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The library's properties are the user's business, but for those that the engine's correctness rests on.
#[derive(Debug, Clone)]
pub struct Config {
    /// The region that this process works in.
    pub region: Region,
    /// Group id, and prefix of the internal topics.
    pub application_id: String,
    /// Where a worker keeps what must outlive it.
    pub state_dir: PathBuf,
    pub store: StoreKind,
    pub kafka: KafkaConfig,
    /// Every region, this one too.
    pub regions: BTreeMap<Region, RegistryConfig>,
    /// The Kafka of those peers that `diff` and `resync` may read; of each only how it is reached matters.
    pub peer_kafka: BTreeMap<Region, KafkaConfig>,
    pub milvus: MilvusConfig,
    pub topology: TopologyFile,
    /// Shards of the collections, each with a change topic of its own.
    pub shards: u16,
    /// Partitions of each change topic and changelog.
    pub partitions: i32,
    /// The `L` of admission: how much older than its append a change may be. The same in every region.
    pub max_lateness: Duration,
    pub worker: WorkerConfig,
    pub sink: SinkConfig,
    pub scrub: ScrubSettings,
    pub canary: CanaryConfig,
    pub http_listen: SocketAddr,
    pub collections: Arc<Collections>,
}

/// Where a task's versions are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Disk,
}

#[derive(Debug, Clone)]
pub struct KafkaConfig {
    pub bootstrap_servers: String,
    /// Of the topics that we create.
    pub replication_factor: i32,
    /// Static membership, where it is set: a restart within the session time-out moves no partition.
    pub group_instance_id: Option<String>,
    pub sasl: Option<Sasl>,
    /// Passed through to librdkafka as they are.
    pub properties: Properties,
}

impl KafkaConfig {
    /// What librdkafka needs to reach the cluster, but for its address: SASL, and the properties passed through.
    pub fn client_properties(&self) -> BTreeMap<String, String> {
        use secrecy::ExposeSecret;
        let mut properties = self.properties.0.clone();
        if let Some(sasl) = &self.sasl {
            properties.insert("sasl.mechanism".to_owned(), sasl.mechanism.clone());
            properties.insert("sasl.username".to_owned(), sasl.login.username.clone());
            properties.insert("sasl.password".to_owned(), sasl.login.password.expose_secret().to_owned());
            properties.entry("security.protocol".to_owned()).or_insert_with(|| "sasl_ssl".to_owned());
        }
        properties
    }
}

/// librdkafka properties. What may be secret in them is not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = |name: &str| ["password", "secret", "token", "pem"].iter().any(|word| name.contains(word));
        let shown = self.0.iter().map(|(name, value)| (name, if secret(name) { "[REDACTED]" } else { value.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

/// A user name with its password; Debug shows only the name.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

#[derive(Debug, Clone)]
pub struct Sasl {
    pub mechanism: String,
    pub login: Login,
}

/// A region's schema registry: ids in its changes are resolved there.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    pub registry: String,
    pub login: Option<Login>,
}

#[derive(Debug, Clone)]
pub struct MilvusConfig {
    pub uri: String,
    pub database: Option<String>,
    pub auth: MilvusAuth,
    pub rpc_deadline: Duration,
}

#[derive(Debug, Clone)]
pub enum MilvusAuth {
    None,
    Login(Login),
    Token(SecretString),
}

/// The topology to run, already read, with the name that its faults bear.
#[derive(Debug, Clone)]
pub struct TopologyFile {
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Stream threads; tasks are spread over them.
    pub threads: usize,
    /// How many other workers keep a standby of each task.
    pub standby_replicas: usize,
    pub commit_interval: Duration,
    /// Bytes of records that one partition may have waiting; its fetching pauses there.
    pub buffer_bytes: usize,
    /// How long a graceful stop waits for what is under way.
    pub drain_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct SinkConfig {
    pub batch_bytes: usize,
    pub linger: Duration,
    pub hold: Duration,
}

/// Whether and how often a worker measures how long acknowledged rows stay unseen.
#[derive(Debug, Clone)]
pub struct CanaryConfig {
    pub enabled: bool,
    pub period: Duration,
}

impl Config {
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::refuse(format!("{file}: {error}; name a readable configuration file by --config")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self::parse(&file, &text, folder, &|name| std::env::var(name).ok())?)
    }

    /// `folder` is what relative paths start from, `environment` where secrets are looked up.
    pub fn parse(
        file: &str,
        text: &str,
        folder: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> std::result::Result<Self, Faults> {
        let document = Document::parse(file, text);
        let surroundings = read::Surroundings { folder, environment };
        let config = read::config(&document.root(), &surroundings);
        document.finish()?;
        Ok(config.expect("a document without faults has every value that has no default"))
    }

    pub fn topics(&self) -> TopicNames {
        TopicNames::new(&self.application_id, self.shards)
    }

    /// The other regions, whose changes come in by mirrors.
    pub fn peers(&self) -> Vec<Region> {
        self.regions.keys().filter(|region| **region != self.region).cloned().collect()
    }

    /// This region's own registry.
    pub fn own_registry(&self) -> &RegistryConfig {
        self.regions.get(&self.region).expect("reading refuses a configuration without its own region")
    }
}

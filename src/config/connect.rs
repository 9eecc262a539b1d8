//! From the configuration to what operators' commands talk to the servers with.

use super::Config;
use crate::adapter::kafka::KafkaAdmin;
use crate::adapter::registry::RegistryClient;
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::ops::topics::plan::TopicPlan;

impl Config {
    pub fn kafka_admin(&self) -> Result<KafkaAdmin> {
        KafkaAdmin::new(&self.kafka.bootstrap_servers, &self.kafka.client_properties())
    }

    pub fn registry_client(&self, region: &Region) -> Result<RegistryClient> {
        let unknown = || Error::refuse(format!("[regions] does not name {region}; add [regions.{region}]"));
        let settings = self.regions.get(region).ok_or_else(unknown)?;
        let login = settings.login.as_ref().map(|login| (login.username.as_str(), &login.password));
        RegistryClient::new(&settings.registry, login)
    }

    pub fn topic_plan(&self) -> TopicPlan {
        TopicPlan {
            names: self.topics(),
            peers: self.peers(),
            partitions: self.partitions,
            replication_factor: self.kafka.replication_factor,
            bootstrap_servers: self.kafka.bootstrap_servers.clone(),
        }
    }
}

//! From the configuration to the settings of what talks to the servers.

use super::{Config, MilvusAuth};
use crate::adapter::kafka::{KafkaAdmin, KafkaSettings};
use crate::adapter::milvus::{MilvusCredentials, MilvusSettings};
use crate::adapter::registry::RegistryClient;
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::ops::topics::plan::TopicPlan;

impl Config {
    pub fn kafka_settings(&self) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.kafka.bootstrap_servers.clone(),
            application_id: self.application_id.clone(),
            client_id: format!("{}-{}", self.application_id, self.region),
            group_instance_id: self.kafka.group_instance_id.clone(),
            properties: self.kafka.client_properties(),
        }
    }

    pub fn kafka_admin(&self) -> Result<KafkaAdmin> {
        KafkaAdmin::new(&self.kafka.bootstrap_servers, &self.kafka.client_properties())
    }

    pub fn registry_client(&self, region: &Region) -> Result<RegistryClient> {
        let unknown = || Error::refuse(format!("[regions] does not name {region}; add [regions.{region}]"));
        let settings = self.regions.get(region).ok_or_else(unknown)?;
        let login = settings.login.as_ref().map(|login| (login.username.as_str(), &login.password));
        RegistryClient::new(&settings.registry, login)
    }

    pub fn milvus_settings(&self) -> MilvusSettings {
        let credentials = match &self.milvus.auth {
            MilvusAuth::None => MilvusCredentials::None,
            MilvusAuth::Login(login) => {
                MilvusCredentials::Password { user: login.username.clone(), password: login.password.clone() }
            }
            MilvusAuth::Token(token) => MilvusCredentials::Token(token.clone()),
        };
        MilvusSettings {
            uri: self.milvus.uri.clone(),
            database: self.milvus.database.clone().unwrap_or_default(),
            credentials,
            rpc_deadline: self.milvus.rpc_deadline,
        }
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

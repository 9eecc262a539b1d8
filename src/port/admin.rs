//! Looking after what the log and the registries hold: topics with their settings, schemas by subject.
//!
//! For commands, not for the record path: calls may take as long as a round trip, and fail with
//! [`Remedy::Retry`](crate::base::error::Remedy::Retry) where the server cannot be reached.

use crate::base::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    pub partitions: i32,
    /// Of the partition that has the fewest replicas.
    pub replication_factor: i32,
    /// Every setting, defaults included.
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicToCreate {
    pub name: Arc<str>,
    pub partitions: i32,
    pub replication_factor: i32,
    pub settings: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    Created,
    /// It was there before; nothing about it has been changed.
    AlreadyThere,
}

pub trait LogAdmin {
    fn broker_count(&mut self) -> Result<i32>;

    /// Those of the topics that exist.
    fn describe(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicState>>;

    fn create(&mut self, topic: &TopicToCreate) -> Result<Creation>;
}

/// The newest schema of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    pub id: u32,
    pub text: String,
}

pub trait RegistryAdmin: Send {
    /// The newest schema of a subject; `None` if there is no such subject.
    fn latest(&mut self, subject: &str) -> Result<Option<RegisteredSchema>>;

    /// The text of the schema with that id; `None` if the registry has none.
    fn by_id(&mut self, id: u32) -> Result<Option<String>>;

    /// Registers a schema under a subject and returns its id; the same one again returns the same id.
    fn register(&mut self, subject: &str, schema: &str) -> Result<u32>;
}

//! Milvus behind the vector store port.
//!
//! [`MilvusStore`] writes and reads back rows, [`MilvusAdmin`] looks after the collections they go to and
//! reads whole collections for verification. This folder alone names Milvus' SDK, and it alone knows how a
//! row looks in Milvus (columns, dynamic fields, the alias in front of `<name>__g1`).
//!
//! Collections are managed through the SDK's `ClientV2`. Rows go through the SDK's generated service instead:
//! `ClientV2` takes one allocation per vector and parses each row's metadata anew (through `f64` texts that
//! do not survive bit for bit), describes collections behind the caller's back, and hides whether a failed
//! request was sent at all. The generated messages take our slab and our bytes as they are.

mod admin;
mod columns;
mod connection;
mod fault;
mod foreign;
mod generations;
mod probe;
mod read;
mod schema;
mod store;
mod write;

pub use admin::{Finding, MilvusAdmin, Severity};
pub use foreign::MilvusForeign;
pub use generations::MilvusGenerations;
pub use probe::{Canary, Visibility};
pub use read::StoredRow;
pub use store::MilvusStore;

use secrecy::SecretString;
use std::time::Duration;

/// Where Milvus is and how long a request may take.
#[derive(Debug, Clone)]
pub struct MilvusSettings {
    /// `http://host:19530`; `https://` for TLS, checked against the system's roots.
    pub uri: String,
    /// Empty for Milvus' default database.
    pub database: String,
    pub credentials: MilvusCredentials,
    /// Every request is answered within this time. Shorter than the consumer group's session time-out, so
    /// that a new owner never races an old owner's request.
    pub rpc_deadline: Duration,
}

#[derive(Debug, Clone, Default)]
pub enum MilvusCredentials {
    #[default]
    None,
    Password {
        user: String,
        password: SecretString,
    },
    Token(SecretString),
}

impl MilvusSettings {
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: String::new(),
            credentials: MilvusCredentials::None,
            rpc_deadline: Duration::from_secs(5),
        }
    }
}

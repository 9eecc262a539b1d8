//! Schema registries with Confluent's API. The only folder that names their client.
//!
//! [`RegistrySchemas`] resolves writer schemas for the record path, without blocking it: ids belong to the
//! registry of the region where a record was written. [`RegistryClient`] is for commands.

mod admin;
mod schemas;

pub use admin::RegistryClient;
pub use schemas::{RegistryAddress, RegistrySchemas};

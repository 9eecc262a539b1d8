//! Schema registries with Confluent's API. The only folder that names their client.
//!
//! [`Registries`] resolves writer schemas for the record path, without blocking it: ids belong to the registry of
//! the region where a record was written. [`RegistryClient`] is for commands.

mod admin;
mod writer_schemas;

pub use admin::RegistryClient;
pub use writer_schemas::{Registries, RegistrySchemas, RegistrySettings};

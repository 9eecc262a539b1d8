//! Schema registries with Confluent's API. The only folder that names their client.

mod admin;
mod schemas;

pub use admin::RegistryClient;
pub use schemas::{RegistryAddress, RegistrySchemas};

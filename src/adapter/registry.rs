//! Schema registries with Confluent's API. The only folder that names their client.

mod admin;

pub use admin::RegistryClient;

//! [`RegistryClient`]: schemas by subject in a Confluent-compatible registry, one blocking call at a time.

use crate::base::error::{Error, Result};
use crate::port::admin::{RegisteredSchema, RegistryAdmin};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id, get_schema_by_subject, post_schema};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SubjectNameStrategy, SuppliedSchema};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

pub struct RegistryClient {
    url: String,
    settings: SrSettings,
    runtime: tokio::runtime::Runtime,
}

impl RegistryClient {
    pub fn new(url: &str, login: Option<(&str, &SecretString)>) -> Result<Self> {
        let mut builder = SrSettings::new_builder(url.trim_end_matches('/').to_owned());
        builder.set_timeout(REQUEST_TIMEOUT);
        if let Some((username, password)) = login {
            builder.set_basic_authorization(username, Some(password.expose_secret()));
        }
        let settings = builder.build().map_err(|error| Error::refuse(format!("registry {url} cannot be used: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::fatal(format!("no thread for the registry's client: {error}")))?;
        Ok(Self { url: url.to_owned(), settings, runtime })
    }

    fn failed(&self, doing: &str, error: &SRCError) -> Error {
        let text = describe(error);
        Error::retry(format!("registry {}: {doing}: {text}; is it running, and is [regions] registry its URL?", self.url))
    }
}

impl RegistryAdmin for RegistryClient {
    fn latest(&mut self, subject: &str) -> Result<Option<RegisteredSchema>> {
        let strategy = SubjectNameStrategy::RecordNameStrategy(subject.to_owned());
        match self.runtime.block_on(get_schema_by_subject(&self.settings, &strategy)) {
            Ok(found) => Ok(Some(RegisteredSchema { id: found.id, text: found.schema })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(&format!("asking for {subject}"), &error)),
        }
    }

    fn by_id(&mut self, id: u32) -> Result<Option<String>> {
        match self.runtime.block_on(get_schema_by_id(id, &self.settings)) {
            Ok(found) => Ok(Some(found.schema)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(&format!("asking for schema {id}"), &error)),
        }
    }

    fn register(&mut self, subject: &str, schema: &str) -> Result<u32> {
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let posted = self.runtime.block_on(post_schema(&self.settings, subject.to_owned(), supplied));
        Ok(posted.map_err(|error| self.failed(&format!("registering {subject}"), &error))?.id)
    }
}

/// The registry's own codes for "no such subject", "… version" and "… schema". A plain 404 is another
/// matter: the URL is wrong.
pub(super) fn is_absent(error: &SRCError) -> bool {
    let raw = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RawError>());
    raw.is_some_and(|raw| (40401..=40403).contains(&raw.error_code))
}

pub(super) fn describe(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{} ({cause})", error.error),
        None => error.error.clone(),
    }
}

//! [`RegistrySchemas`]: writer schemas by region and id, each from its own region's registry, asked for in the
//! background and kept.
//!
//! A registered schema never changes, so a found one is kept for ever; that there is none is believed for a while
//! only. A registry that gives no definite answer is asked again until it does: only its own region waits.

use super::admin::{describe, is_absent};
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::port::log::Wake;
use crate::record::avro::writer_schema;
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use crossbeam_channel::{Receiver, Sender, unbounded};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RegisteredSchema, SchemaType};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A registry that stays out of reach is told of this often.
const ALARM_INTERVAL: Duration = Duration::from_secs(30);
/// An id that is not there now may be registered later.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// Absent ids remembered for each registry; beyond, they are forgotten and asked for again.
const MOST_ABSENT: usize = 10_000;

/// Where a region's registry is.
#[derive(Debug, Clone)]
pub struct RegistryAddress {
    pub url: String,
    pub login: Option<(String, SecretString)>,
}

struct Registry {
    client: Arc<Client>,
    schemas: HashMap<u32, Known>,
}

/// What the requests of one registry share.
struct Client {
    region: Region,
    url: String,
    settings: SrSettings,
    last_alarm: Mutex<Option<Instant>>,
}

enum Known {
    Asked,
    Schema(Arc<WriterSchema>),
    Absent { since: Instant },
}

type Answer = (Region, u32, Option<Arc<WriterSchema>>);

pub struct RegistrySchemas {
    runtime: Handle,
    registries: HashMap<Region, Registry>,
    answers: Receiver<Answer>,
    answer_to: Sender<Answer>,
    wake: Wake,
    unknown_for: Duration,
}

impl RegistrySchemas {
    /// Requests run on `runtime`; `wake` is called when an answer has come in.
    pub fn new(runtime: Handle, addresses: &[(Region, RegistryAddress)], wake: Wake) -> Result<Self> {
        let (answer_to, answers) = unbounded();
        let mut registries = HashMap::new();
        for (region, address) in addresses {
            let client = Arc::new(Client::new(region, address)?);
            registries.insert(region.clone(), Registry { client, schemas: HashMap::new() });
        }
        Ok(Self { runtime, registries, answers, answer_to, wake, unknown_for: UNKNOWN_FOR })
    }

    fn take_answers(&mut self) {
        while let Ok((region, id, schema)) = self.answers.try_recv() {
            if let Some(registry) = self.registries.get_mut(&region) {
                registry.remember(id, schema);
            }
        }
    }
}

impl SchemaSource for RegistrySchemas {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        if let Some(Known::Schema(schema)) = self.registries.get(origin).and_then(|registry| registry.schemas.get(&id)) {
            return SchemaLookup::Known(schema.clone());
        }
        self.take_answers();
        let Some(registry) = self.registries.get_mut(origin) else { return SchemaLookup::Unknown };
        match registry.schemas.get(&id) {
            Some(Known::Schema(schema)) => return SchemaLookup::Known(schema.clone()),
            Some(Known::Absent { since }) if since.elapsed() < self.unknown_for => return SchemaLookup::Unknown,
            Some(Known::Asked) => return SchemaLookup::Pending,
            Some(Known::Absent { .. }) | None => {}
        }
        registry.schemas.insert(id, Known::Asked);
        let (client, answer_to, wake) = (registry.client.clone(), self.answer_to.clone(), self.wake.clone());
        self.runtime.spawn(async move {
            let schema = client.ask(id).await;
            // Nobody listens any more when the worker is ending.
            if answer_to.send((client.region.clone(), id, schema)).is_ok() {
                wake();
            }
        });
        SchemaLookup::Pending
    }
}

impl Registry {
    fn remember(&mut self, id: u32, schema: Option<Arc<WriterSchema>>) {
        if self.schemas.len() >= MOST_ABSENT {
            self.schemas.retain(|_, known| !matches!(known, Known::Absent { .. }));
        }
        let known = schema.map_or_else(|| Known::Absent { since: Instant::now() }, Known::Schema);
        self.schemas.insert(id, known);
    }
}

impl Client {
    fn new(region: &Region, address: &RegistryAddress) -> Result<Self> {
        let url = address.url.trim_end_matches('/').to_owned();
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(REQUEST_TIMEOUT);
        if let Some((username, password)) = &address.login {
            builder.set_basic_authorization(username, Some(password.expose_secret()));
        }
        let settings = builder.build().map_err(|error| Error::refuse(format!("registry {url} cannot be used: {error}")))?;
        Ok(Self { region: region.clone(), url, settings, last_alarm: Mutex::default() })
    }

    /// Asks until there is a definite answer.
    async fn ask(&self, id: u32) -> Option<Arc<WriterSchema>> {
        let mut wait = RETRY_MIN;
        loop {
            match get_schema_by_id(id, &self.settings).await {
                Ok(found) => return Some(Arc::new(prepare(&found))),
                Err(error) if is_absent(&error) => return None,
                Err(error) => self.alarm(id, &error),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Once for all ids that wait, and again every half a minute.
    fn alarm(&self, id: u32, error: &SRCError) {
        let mut last = self.last_alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < ALARM_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        tracing::error!(
            region = %self.region,
            registry = self.url,
            schema_id = id,
            error = describe(error),
            "the registry does not answer; this region's changes wait until it does. \
             Is it running, and is [regions] registry its URL?"
        );
    }
}

fn prepare(found: &RegisteredSchema) -> WriterSchema {
    match &found.schema_type {
        SchemaType::Avro if found.references.is_empty() => writer_schema(&found.schema),
        SchemaType::Avro => WriterSchema::Unusable("its writer schema refers to other subjects, which is not supported".into()),
        other => WriterSchema::Unusable(format!("its writer schema is {other:?}, not Avro")),
    }
}

#[cfg(test)]
mod tests;

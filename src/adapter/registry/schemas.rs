//! [`RegistrySchemas`]: writer schemas by region and id, each from its own region's registry, asked for in the
//! background and kept.

use super::admin::{describe, is_absent};
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::port::log::Wake;
use crate::record::avro::writer_schema;
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use crossbeam_channel::{Receiver, Sender, unbounded};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A registry that stays out of reach is told of this often.
const ALARM_INTERVAL: Duration = Duration::from_secs(30);
/// An id that is not there now may be registered later.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Where a region's registry is.
#[derive(Debug, Clone)]
pub struct RegistryAddress {
    pub url: String,
    pub login: Option<(String, SecretString)>,
}

struct Registry {
    url: Arc<str>,
    settings: SrSettings,
    schemas: HashMap<u32, Known>,
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
}

impl RegistrySchemas {
    pub fn new(runtime: Handle, addresses: &[(Region, RegistryAddress)], wake: Wake) -> Result<Self> {
        let (answer_to, answers) = unbounded();
        let mut registries = HashMap::new();
        for (region, address) in addresses {
            let mut builder = SrSettings::new_builder(address.url.trim_end_matches('/').to_owned());
            builder.set_timeout(REQUEST_TIMEOUT);
            if let Some((username, password)) = &address.login {
                builder.set_basic_authorization(username, Some(password.expose_secret()));
            }
            let settings =
                builder.build().map_err(|error| Error::refuse(format!("registry {} cannot be used: {error}", address.url)))?;
            registries.insert(region.clone(), Registry { url: address.url.as_str().into(), settings, schemas: HashMap::new() });
        }
        Ok(Self { runtime, registries, answers, answer_to, wake })
    }

    fn take_answers(&mut self) {
        while let Ok((region, id, schema)) = self.answers.try_recv() {
            if let Some(registry) = self.registries.get_mut(&region) {
                let known = schema.map_or_else(|| Known::Absent { since: Instant::now() }, Known::Schema);
                registry.schemas.insert(id, known);
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
            Some(Known::Absent { since }) if since.elapsed() < UNKNOWN_FOR => return SchemaLookup::Unknown,
            Some(Known::Asked) => return SchemaLookup::Pending,
            Some(Known::Absent { .. }) | None => {}
        }
        registry.schemas.insert(id, Known::Asked);
        let (settings, url, region) = (registry.settings.clone(), registry.url.clone(), origin.clone());
        let (answer_to, wake) = (self.answer_to.clone(), self.wake.clone());
        self.runtime.spawn(async move {
            let schema = ask(&settings, &url, id).await;
            // Nobody listens any more when the worker is ending.
            if answer_to.send((region, id, schema)).is_ok() {
                wake();
            }
        });
        SchemaLookup::Pending
    }
}

/// Asks until there is a definite answer: an unreachable registry only makes its own region's source wait.
async fn ask(settings: &SrSettings, url: &str, id: u32) -> Option<Arc<WriterSchema>> {
    let mut wait = RETRY_MIN;
    let mut told: Option<Instant> = None;
    loop {
        let error = match get_schema_by_id(id, settings).await {
            Ok(found) => return Some(Arc::new(writer_schema(&found.schema))),
            Err(error) if is_absent(&error) => return None,
            Err(error) => error,
        };
        if told.is_none_or(|at| at.elapsed() >= ALARM_INTERVAL) {
            tracing::error!(
                registry = url,
                schema_id = id,
                error = describe(&error),
                "the registry does not answer; this region's changes wait until it does"
            );
            told = Some(Instant::now());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

//! [`Registries`]: writer schemas by region and id, asked for in the background and kept.
//!
//! A schema once registered never changes, so a found one is kept for ever. That there is none is believed for a
//! minute only: it may be registered later. A registry that gives no definite answer is asked again until it does.

use super::admin::{describe, is_absent};
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::port::log::Wake;
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::SchemaType;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How one region's registry is reached.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    pub url: String,
    pub login: Option<(String, SecretString)>,
}

/// How long things last; shorter in tests.
#[derive(Debug, Clone, Copy)]
struct Spans {
    request: Duration,
    first_retry: Duration,
    last_retry: Duration,
    believe_absent: Duration,
    alarm_again: Duration,
}

const SPANS: Spans = Spans {
    request: Duration::from_secs(5),
    first_retry: Duration::from_millis(200),
    last_retry: Duration::from_secs(5),
    believe_absent: Duration::from_secs(60),
    alarm_again: Duration::from_secs(30),
};

/// Ids that are absent are remembered up to this many; beyond, they are forgotten and asked for again.
const MOST_ABSENT: usize = 10_000;

/// All regions' registries; one for the process, cheap to clone.
#[derive(Clone)]
pub struct Registries(Arc<Shared>);

struct Shared {
    regions: BTreeMap<Region, Registry>,
    runtime: Handle,
    prepare: fn(&str) -> WriterSchema,
    spans: Spans,
    wakes: Mutex<Vec<Wake>>,
}

struct Registry {
    url: String,
    client: SrSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<u32, Entry>,
    last_alarm: Option<Instant>,
}

enum Entry {
    Asked,
    Known(Arc<WriterSchema>),
    Absent { until: Instant },
}

/// What the registry said about an id, if it said anything definite.
enum Answer {
    Found(WriterSchema),
    Absent,
}

impl Registries {
    /// Requests run on `runtime`; `prepare` turns a schema's text into what values are read by.
    pub fn new(regions: BTreeMap<Region, RegistrySettings>, runtime: Handle, prepare: fn(&str) -> WriterSchema) -> Result<Self> {
        Self::with_spans(regions, runtime, prepare, SPANS)
    }

    fn with_spans(
        settings: BTreeMap<Region, RegistrySettings>,
        runtime: Handle,
        prepare: fn(&str) -> WriterSchema,
        spans: Spans,
    ) -> Result<Self> {
        let mut regions = BTreeMap::new();
        for (region, settings) in settings {
            let registry = Registry::new(settings, spans.request).map_err(|error| error.context(&region))?;
            regions.insert(region, registry);
        }
        Ok(Self(Arc::new(Shared { regions, runtime, prepare, spans, wakes: Mutex::default() })))
    }

    /// The port for one thread, which is woken whenever an answer has come in.
    pub fn schemas(&self, wake: Wake) -> RegistrySchemas {
        lock(&self.0.wakes).push(wake);
        RegistrySchemas { shared: Arc::clone(&self.0), known: Vec::new() }
    }
}

/// One thread's view of [`Registries`].
pub struct RegistrySchemas {
    shared: Arc<Shared>,
    /// What this thread has seen before, so that it takes no lock for each record. There are few.
    known: Vec<(Region, u32, Arc<WriterSchema>)>,
}

impl SchemaSource for RegistrySchemas {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        let seen = self.known.iter().find(|(region, known, _)| *known == id && region == origin);
        if let Some((_, _, schema)) = seen {
            return SchemaLookup::Known(Arc::clone(schema));
        }
        let found = self.shared.lookup(origin, id);
        if let SchemaLookup::Known(schema) = &found {
            self.known.push((origin.clone(), id, Arc::clone(schema)));
        }
        found
    }
}

impl Shared {
    fn lookup(self: &Arc<Self>, origin: &Region, id: u32) -> SchemaLookup {
        // Records of regions without a registry are refused as foreign before this.
        let Some(registry) = self.regions.get(origin) else { return SchemaLookup::Unknown };
        let mut state = lock(&registry.state);
        match state.entries.get(&id) {
            Some(Entry::Known(schema)) => return SchemaLookup::Known(Arc::clone(schema)),
            Some(Entry::Asked) => return SchemaLookup::Pending,
            Some(Entry::Absent { until }) if Instant::now() < *until => return SchemaLookup::Unknown,
            Some(Entry::Absent { .. }) | None => {}
        }
        state.entries.insert(id, Entry::Asked);
        drop(state);
        self.runtime.spawn(Arc::clone(self).ask(origin.clone(), id));
        SchemaLookup::Pending
    }

    /// Asks until there is a definite answer.
    async fn ask(self: Arc<Self>, origin: Region, id: u32) {
        let registry = &self.regions[&origin];
        let mut pause = self.spans.first_retry;
        let answer = loop {
            match registry.get(id, self.prepare).await {
                Ok(answer) => break answer,
                Err(error) => self.alarm(&origin, registry, id, &error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.spans.last_retry);
        };
        registry.remember(id, answer, Instant::now() + self.spans.believe_absent);
        for wake in lock(&self.wakes).iter() {
            wake();
        }
    }

    /// Once for all ids that wait, and again every half a minute.
    fn alarm(&self, origin: &Region, registry: &Registry, id: u32, error: &SRCError) {
        let now = Instant::now();
        let mut state = lock(&registry.state);
        if state.last_alarm.is_some_and(|last| now.duration_since(last) < self.spans.alarm_again) {
            return;
        }
        state.last_alarm = Some(now);
        drop(state);
        tracing::warn!(
            region = %origin,
            "the registry of {origin} at {} gives no answer for schema {id}: {}; records from {origin} wait until it does. \
             Is it running, and is [regions.{origin}] registry its URL?",
            registry.url,
            describe(error),
        );
    }
}

impl Registry {
    fn new(settings: RegistrySettings, request: Duration) -> Result<Self> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(request);
        if let Some((username, password)) = &settings.login {
            builder.set_basic_authorization(username, Some(password.expose_secret()));
        }
        let client = builder.build().map_err(|error| Error::refuse(format!("registry {url} cannot be used: {error}")))?;
        Ok(Self { url, client, state: Mutex::default() })
    }

    async fn get(&self, id: u32, prepare: fn(&str) -> WriterSchema) -> Result<Answer, SRCError> {
        match get_schema_by_id(id, &self.client).await {
            Ok(found) => Ok(Answer::Found(match found.schema_type {
                SchemaType::Avro if found.references.is_empty() => prepare(&found.schema),
                SchemaType::Avro => WriterSchema::Unusable("its writer schema refers to others, which is not supported".into()),
                other => WriterSchema::Unusable(format!("its writer schema is {other:?}, not Avro")),
            })),
            Err(error) if is_absent(&error) => Ok(Answer::Absent),
            Err(error) => Err(error),
        }
    }

    fn remember(&self, id: u32, answer: Answer, until: Instant) {
        let mut state = lock(&self.state);
        let entry = match answer {
            Answer::Found(schema) => Entry::Known(Arc::new(schema)),
            Answer::Absent => Entry::Absent { until },
        };
        state.entries.insert(id, entry);
        state.last_alarm = None;
        if state.entries.len() > MOST_ABSENT {
            state.entries.retain(|_, entry| !matches!(entry, Entry::Absent { .. }));
        }
    }
}

/// Nothing that holds these locks can panic half-way, so what they guard is good even then.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

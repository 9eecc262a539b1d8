//! What the commands that look at the past have in common: the region's clients.

use super::doing::Doing;
use crate::adapter::kafka::{KafkaLogReader, KafkaSettings};
use crate::adapter::milvus::MilvusStore;
use crate::adapter::system::SystemClock;
use crate::app::prepare::{kafka_settings, milvus_settings};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::ids::CollectionId;
use crate::base::time::UnixMs;
use crate::config::Config;
use crate::ops::append;
use crate::ops::history::schemas::EveryRegistry;
use crate::ops::history::{History, Setting};
use crate::ops::work::Work;
use crate::port::admin::RegistryAdmin;
use crate::port::vector::VectorStore;
use crate::record::collection::Collections;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// One region's clients.
pub struct Past {
    pub config: Config,
    pub setting: Setting,
    pub kafka: KafkaSettings,
    pub reader: KafkaLogReader,
    pub schemas: EveryRegistry,
    pub runtime: Runtime,
    pub clock: SystemClock,
    doing: Doing,
}

impl Past {
    pub fn open(config: Config) -> Result<Self> {
        let kafka = kafka_settings(&config, 0);
        let mut registries: BTreeMap<_, Box<dyn RegistryAdmin>> = BTreeMap::new();
        for region in config.regions.keys() {
            registries.insert(region.clone(), Box::new(config.registry_client(region)?));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Error::fatal(format!("no threads for Milvus' client: {error}")))?;
        Ok(Self {
            setting: setting(&config),
            reader: KafkaLogReader::new(&kafka)?,
            schemas: EveryRegistry::new(registries),
            clock: SystemClock::start(),
            doing: Doing::begin()?,
            kafka,
            runtime,
            config,
        })
    }

    /// Rows of these collections; their names may be those of physical ones.
    pub fn store(&self, collections: Arc<Collections>) -> Result<MilvusStore> {
        MilvusStore::new(self.runtime.handle().clone(), collections, &milvus_settings(&self.config), append::wake())
    }

    /// The same for later, under whatever names.
    pub fn opener(&self) -> impl FnMut(Arc<Collections>) -> Result<Box<dyn VectorStore>> + 'static {
        let (handle, settings) = (self.runtime.handle().clone(), milvus_settings(&self.config));
        move |collections| {
            let store = MilvusStore::new(handle.clone(), collections, &settings, append::wake())?;
            Ok(Box::new(store))
        }
    }

    pub fn collection(&self, name: &str) -> Result<CollectionId> {
        self.setting.collections.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.setting.collections.iter().map(|(_, spec)| spec.name.as_str()).collect();
            Error::refuse(format!("collection {name:?} is not in the configuration; it has {}", known.join(", ")))
        })
    }

    /// Does the work with the progress line; an interruption is told apart from a failure.
    pub fn work(&mut self, act: impl FnOnce(&mut History<'_>, &mut Work<'_>, &Config) -> Result<Exit>) -> Result<Exit> {
        let mut history = History { setting: &self.setting, reader: &mut self.reader, schemas: &mut self.schemas };
        let done = self.doing.run(|work| act(&mut history, work, &self.config))?;
        Ok(done.unwrap_or(Exit::INTERRUPTED))
    }
}

/// What reading a region's logs needs to know of it.
pub fn setting(config: &Config) -> Setting {
    Setting {
        region: config.region.clone(),
        peers: config.peers(),
        names: config.topics(),
        partitions: config.partitions,
        collections: config.collections.clone(),
        max_lateness_ms: i64::try_from(config.max_lateness.as_millis()).unwrap_or(i64::MAX),
    }
}

/// An instant as RFC 3339 has it: `2026-07-28T10:15:00Z`, or with an offset, `2026-07-28T12:15:00+02:00`.
pub fn parse_instant(text: &str) -> std::result::Result<UnixMs, String> {
    let wrong = || format!("{text:?} is no instant; write it as 2026-07-28T10:15:00Z or 2026-07-28T12:15:00+02:00");
    let (local, offset_ms) = match text.rfind(['+', '-']).filter(|at| *at > "2026-07-28T".len()) {
        None => (text.to_owned(), 0),
        Some(at) => (format!("{}Z", &text[..at]), offset_ms(&text[at..]).ok_or_else(wrong)?),
    };
    let instant = humantime::parse_rfc3339(&local).map_err(|_| wrong())?;
    let since_epoch = instant.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
    Ok(UnixMs(i64::try_from(since_epoch.as_millis()).map_err(|_| wrong())? - offset_ms))
}

/// `+02:00`
fn offset_ms(text: &str) -> Option<i64> {
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some(if text.starts_with('-') { -minutes } else { minutes } * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_with_or_without_an_offset() {
        let utc = parse_instant("2026-07-28T10:15:00.250Z").unwrap();
        assert_eq!(utc.0 % 1_000, 250);
        assert_eq!(parse_instant("2026-07-28T12:15:00.250+02:00"), Ok(utc));
        assert_eq!(parse_instant("2026-07-28T05:45:00.250-04:30"), Ok(utc));
        for wrong in ["", "yesterday", "2026-07-28", "2026-07-28T10:15:00", "2026-07-28T10:15:00+2", "1960-01-01T00:00:00Z"] {
            assert!(parse_instant(wrong).is_err(), "{wrong}");
        }
    }
}

//! What a driven topology has put out: rows, dead letters, conflicts, changelogs, the store.
//!
//! Everything is read from where it is kept, from its beginning, as often as one likes.

use super::{PARTITION, TASK, TopologyDriver};
use crate::adapter::embedded::vector::StoredRow;
use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, RowKey, TopicPartition, VectorId};
use crate::merge::version::Version;
use crate::ops::dead_letter::DeadLetter;
use crate::record::headers;
use crate::record::id::{WrittenId, parse_id};
use crate::record::raw::RawRecord;
use crate::store::VersionStore;
use crate::store::entry::{Entry, FORGOTTEN_HEADER, parse_version_text};
use crate::store::progress::{PROGRESS_KEY, Progress};
use crate::store::row_key;
use crate::stream::report::ThreadReport;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A loser of another origin, as the conflicts topic keeps it.
#[derive(Debug, Clone)]
pub struct Conflict {
    pub record: RawRecord,
    /// The version that it lost to.
    pub winner: Version,
    /// Where it was read from.
    pub source: TopicPartition,
    pub source_offset: i64,
}

/// A record of the versions changelog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    Put(Entry),
    /// A tombstone that no change still to come can be older than.
    Forgotten(Version),
}

/// A state store, by the name that the topology's file gives it.
pub struct StoreView<'a>(&'a dyn VersionStore);

impl StoreView<'_> {
    /// What holds the row key and is acknowledged everywhere it must be; tombstones too.
    pub fn get(&self, key: &RowKey) -> Option<Entry> {
        self.0.get(key)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TopologyDriver {
    /// What the vector store holds of a collection.
    pub fn rows(&self, collection: &str) -> Result<BTreeMap<VectorId, StoredRow>> {
        Ok(self.around.database.scan(self.collection(collection)?))
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.records(self.around.settings.topics.dead_letter()).into_iter().filter_map(DeadLetter::read).collect()
    }

    pub fn conflicts(&self) -> Vec<Conflict> {
        self.records(self.around.settings.topics.conflicts()).into_iter().filter_map(read_conflict).collect()
    }

    /// The versions changelog without its progress records, in its order.
    pub fn versions_changelog(&self) -> Vec<(RowKey, Logged)> {
        let collections = &self.around.settings.collections;
        let mut logged = Vec::new();
        for record in self.records(self.around.settings.topics.versions_changelog(0)) {
            let key = record.key.as_deref().and_then(|key| row_key::parse(key, collections).ok());
            let what = match &record.value {
                Some(value) => Entry::decode(value).ok().map(Logged::Put),
                None => record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text).map(Logged::Forgotten),
            };
            logged.extend(key.zip(what));
        }
        logged
    }

    /// The winners' own bytes, by row key, in the order in which they won; a forgotten one has no value.
    pub fn vectors_changelog(&self) -> Vec<(RowKey, RawRecord)> {
        let collections = &self.around.settings.collections;
        let records = self.records(self.around.settings.topics.vectors_changelog(0)).into_iter();
        records.filter_map(|record| Some((row_key::parse(record.key.as_deref()?, collections).ok()?, record))).collect()
    }

    /// The last progress record: how far each source is settled, and the floor.
    pub fn progress(&self) -> Option<Progress> {
        let records = self.records(self.around.settings.topics.versions_changelog(0));
        let last = records.into_iter().rfind(|record| record.key.as_deref() == Some(PROGRESS_KEY.as_bytes()));
        last.and_then(|record| Progress::decode(record.value.as_deref()?).ok())
    }

    /// Every record of any topic.
    pub fn read(&self, topic: &str) -> Result<Vec<RawRecord>> {
        self.known_topic(topic)?;
        Ok(self.records(Arc::from(topic)))
    }

    /// The task's state store. There is none while the task is being restored.
    pub fn store(&self, name: &str) -> Result<StoreView<'_>> {
        let stores = &self.around.topology.stores;
        if !stores.iter().any(|store| store == name) {
            return Err(Error::refuse(format_args!("the topology has no store {name:?}; it has {stores:?}")));
        }
        let store = self.worker.stream.store(TASK);
        let restoring = || Error::retry("the task is being restored: advance the wall clock until it runs");
        store.map(StoreView).ok_or_else(restoring)
    }

    /// A store's key; the id in its canonical text.
    pub fn row_key(&self, collection: &str, id: &str) -> Result<RowKey> {
        let collection = self.collection(collection)?;
        let kind = self.around.settings.collections.get(collection).id;
        let id = parse_id(kind, WrittenId::Text(id)).map_err(Error::refuse)?;
        Ok(RowKey { collection, id })
    }

    /// The state of the thread and of its task.
    pub fn report(&self) -> ThreadReport {
        self.worker.stream.report()
    }

    pub(super) fn known_topic(&self, topic: &str) -> Result<()> {
        if self.around.broker.describe(topic).is_some() {
            return Ok(());
        }
        let known: Vec<String> = self.around.broker.topics().into_iter().map(|(name, _)| name.to_string()).collect();
        Err(Error::refuse(format_args!("there is no topic {topic:?}; there are {}", known.join(", "))))
    }

    fn collection(&self, name: &str) -> Result<CollectionId> {
        let unknown = || Error::refuse(format_args!("collection {name:?} is not among the settings' collections"));
        self.around.settings.collections.find(name).ok_or_else(unknown)
    }

    /// Of a topic that is there.
    fn records(&self, topic: Arc<str>) -> Vec<RawRecord> {
        let mut records = Vec::new();
        let partition = TopicPartition::new(topic, PARTITION);
        let read = self.around.broker.read(&partition, 0, usize::MAX, |record| records.push(record));
        read.expect("the driver has made every topic, and deletes no record of any");
        records
    }
}

fn read_conflict(record: RawRecord) -> Option<Conflict> {
    let number = |name: &str| record.header_text(name)?.parse::<i64>().ok();
    let topic = record.header_text(headers::TOPIC)?;
    let source = TopicPartition::new(topic, i32::try_from(number(headers::PARTITION)?).ok()?);
    let winner = parse_version_text(record.header_text(headers::WINNER)?)?;
    let source_offset = number(headers::OFFSET)?;
    Some(Conflict { winner, source, source_offset, record })
}

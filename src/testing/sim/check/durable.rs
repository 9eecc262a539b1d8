//! INV-1: nothing is remembered as done before it is done. An entry in the versions changelog says that its row is
//! in the vector store and its change in the vectors changelog, at the offset that it names. This checker also
//! keeps what has become durable in a region, for the others.

use crate::base::ids::{CollectionId, RowKey, TopicPartition};
use crate::merge::version::{ContentHash, Version};
use crate::port::log::Append;
use crate::port::vector::RowBatch;
use crate::record::collection::Collections;
use crate::record::framing::{Framing, framing};
use crate::record::headers;
use crate::region::topics::TopicNames;
use crate::store::entry::{Entry, FORGOTTEN_HEADER, parse_version_text};
use crate::store::progress::PROGRESS_KEY;
use crate::store::row_key;
use crate::testing::sim::trace::Violations;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::testing::sim) struct Durable {
    names: TopicNames,
    collections: Arc<Collections>,
    violations: Violations,
    /// The greatest version of a row that was ever written to the vector store.
    rows: HashMap<RowKey, Version>,
    /// The greatest entry of a key that was ever in the changelog.
    entries: HashMap<RowKey, (Version, ContentHash)>,
    forgotten: HashMap<RowKey, Version>,
    /// What lies where in the vectors changelog.
    vectors: HashMap<(i32, i64), (Bytes, ContentHash)>,
    /// Source coordinates of the dead letters.
    dead: HashSet<(Arc<str>, i32, i64)>,
    /// Values that a task has appended to the change topic.
    rekeyed: HashSet<Bytes>,
}

impl Durable {
    pub fn new(names: TopicNames, collections: Arc<Collections>, violations: Violations) -> Self {
        Self {
            names,
            collections,
            violations,
            rows: HashMap::new(),
            entries: HashMap::new(),
            forgotten: HashMap::new(),
            vectors: HashMap::new(),
            dead: HashSet::new(),
            rekeyed: HashSet::new(),
        }
    }

    /// Does this change, or a greater one, hold its key for good here?
    pub fn holds(&self, key: &RowKey, version: &Version, hash: ContentHash) -> bool {
        self.entries.get(key).is_some_and(|(held, held_hash)| (held, *held_hash) >= (version, hash))
            || self.forgotten.get(key).is_some_and(|forgotten| forgotten >= version)
    }

    pub fn is_dead_letter(&self, at: &TopicPartition, offset: i64) -> bool {
        self.dead.contains(&(at.topic.clone(), at.partition, offset))
    }

    pub fn is_rekeyed(&self, value: &Bytes) -> bool {
        self.rekeyed.contains(value)
    }

    pub fn rows_landed(&mut self, collection: CollectionId, batch: &RowBatch) {
        for (id, version) in batch.ids.iter().zip(&batch.versions) {
            let greatest = self.rows.entry(RowKey { collection, id: id.clone() }).or_insert_with(|| version.clone());
            if *greatest < *version {
                *greatest = version.clone();
            }
        }
    }

    pub fn appended(&mut self, now: Duration, append: &Append, offset: i64) {
        let topic = &append.to.topic;
        if *topic == self.names.vectors_changelog(0) {
            self.vector_appended(append, offset);
        } else if *topic == self.names.versions_changelog(0) {
            if append.key.as_deref() != Some(PROGRESS_KEY.as_bytes()) {
                self.entry_appended(now, append);
            }
        } else if *topic == self.names.dead_letter() {
            self.dead_letter_appended(now, append);
        } else if *topic == self.names.local(0)
            && let Some(value) = &append.value
        {
            self.rekeyed.insert(value.clone());
        }
    }

    fn vector_appended(&mut self, append: &Append, offset: i64) {
        if let (Some(key), Some(value)) = (&append.key, &append.value) {
            let content_at = match framing(value) {
                Ok(Framing::Avro { content_at, .. }) => content_at,
                _ => 0,
            };
            self.vectors.insert((append.to.partition, offset), (key.clone(), ContentHash::of(&value[content_at..])));
        }
    }

    fn entry_appended(&mut self, now: Duration, append: &Append) {
        let bytes = append.key.as_deref().unwrap_or_default();
        let key = match row_key::parse(bytes, &self.collections) {
            Ok(key) => key,
            Err(error) => return self.violations.add("durable", now, format!("an entry's key can't be read: {error}")),
        };
        let Some(value) = &append.value else { return self.forgotten(now, key, append) };
        let entry = match Entry::decode(value) {
            Ok(entry) => entry,
            Err(error) => return self.violations.add("durable", now, format!("the entry of {key:?} can't be read: {error}")),
        };
        let vector = self.vectors.get(&(append.to.partition, entry.vector_offset));
        if !vector.is_some_and(|(of, hash)| of == bytes && *hash == entry.content_hash) {
            let detail = format!("the entry of {key:?} names offset {}, where its change is not", entry.vector_offset);
            self.violations.add("durable", now, detail);
        }
        let row = self.rows.get(&key);
        if !entry.tombstone && !entry.refused && row.is_none_or(|row| *row < entry.version) {
            let detail = format!("{key:?} {} is remembered as done; the vector store has had {row:?}", entry.version);
            self.violations.add("durable", now, detail);
        }
        let found = (entry.version, entry.content_hash);
        let greatest = self.entries.entry(key).or_insert_with(|| found.clone());
        if *greatest < found {
            *greatest = found;
        }
    }

    fn forgotten(&mut self, now: Duration, key: RowKey, append: &Append) {
        let header = append.headers.iter().find(|(name, _)| &**name == FORGOTTEN_HEADER);
        let text = header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
        let Some(version) = text.and_then(parse_version_text) else {
            return self.violations.add("durable", now, format!("{key:?} is forgotten, and nothing says up to which version"));
        };
        let greatest = self.forgotten.entry(key).or_insert_with(|| version.clone());
        if *greatest < version {
            *greatest = version;
        }
    }

    fn dead_letter_appended(&mut self, now: Duration, append: &Append) {
        let text = |name: &str| {
            let header = append.headers.iter().rev().find(|(header, _)| &**header == name);
            header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok())
        };
        let place = (|| {
            Some((
                Arc::from(text(headers::TOPIC)?),
                text(headers::PARTITION)?.parse().ok()?,
                text(headers::OFFSET)?.parse().ok()?,
            ))
        })();
        match place {
            Some(place) => _ = self.dead.insert(place),
            None => self.violations.add("dead letters", now, "a dead letter does not say where it was read"),
        }
    }
}

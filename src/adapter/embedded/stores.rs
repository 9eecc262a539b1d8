//! Versions stores that outlive their worker, in memory: a machine's disk, for tests and simulations.
//!
//! As a disk does, it keeps what was committed with its position; and with `ahead`, puts that were not committed yet,
//! as soon as there are so many of them.

use crate::base::error::Result;
use crate::base::ids::{CollectionId, RowKey, TaskId, TopicId, TopicPartition, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::store::entry::Entry;
use crate::store::memory::MemoryStore;
use crate::store::{Applied, Cursor, Opened, StoreOf, Stores, VersionStore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone)]
pub struct KeptStores {
    kept: Arc<Mutex<BTreeMap<TaskId, Kept>>>,
    ahead: usize,
}

#[derive(Debug, Clone)]
struct Kept {
    changelog: TopicPartition,
    topic_id: Option<TopicId>,
    schema_hash: u64,
    applied: Option<Applied>,
    keys: BTreeMap<RowKey, Known>,
    vectors_end: i64,
}

#[derive(Debug, Clone)]
enum Known {
    Entry(Entry),
    Forgotten(Version),
}

impl KeptStores {
    pub fn new(ahead: usize) -> Self {
        Self { kept: Arc::default(), ahead }
    }

    /// The disk as it is now: a backup, if nothing is opened from it.
    pub fn copy(&self) -> Self {
        Self { kept: Arc::new(Mutex::new(self.lock().clone())), ahead: self.ahead }
    }

    /// Where a task's store goes on, if one is kept.
    pub fn position(&self, task: TaskId) -> Option<i64> {
        let kept = self.lock();
        kept.get(&task)?.applied.as_ref().map(|applied| applied.position.next_offset)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stores for KeptStores {
    fn open(&self, of: &StoreOf) -> Result<Opened> {
        let Some(kept) = self.lock().get(&of.task).cloned() else { return self.open_empty(of) };
        let is_same = (&kept.changelog, kept.schema_hash) == (&of.changelog, of.collections.schema_hash());
        if !is_same || kept.topic_id.is_none() || kept.topic_id != of.topic_id || kept.applied.is_none() {
            let warning = kept.applied.map(|_| format!("the store kept for task {} is of another changelog", of.task));
            return Ok(Opened { warning, ..self.open_empty(of)? });
        }
        let mut live = MemoryStore::new(&of.collections, of.horizon);
        for (key, known) in &kept.keys {
            match known {
                Known::Entry(entry) => live.put(key, entry.clone()),
                Known::Forgotten(up_to) => drop(live.forget(key, up_to)),
            }
        }
        let (applied, vectors_end) = (kept.applied, kept.vectors_end);
        let store = KeptStore { live, vectors_end, task: of.task, disk: self.clone(), unwritten: BTreeSet::new() };
        Ok(Opened { store: Box::new(store), applied, warning: None })
    }

    fn open_empty(&self, of: &StoreOf) -> Result<Opened> {
        let kept = Kept {
            changelog: of.changelog.clone(),
            topic_id: of.topic_id.clone(),
            schema_hash: of.collections.schema_hash(),
            applied: None,
            keys: BTreeMap::new(),
            vectors_end: 0,
        };
        self.lock().insert(of.task, kept);
        let live = MemoryStore::new(&of.collections, of.horizon);
        let store = KeptStore { live, vectors_end: 0, task: of.task, disk: self.clone(), unwritten: BTreeSet::new() };
        Ok(Opened { store: Box::new(store), applied: None, warning: None })
    }
}

struct KeptStore {
    live: MemoryStore,
    vectors_end: i64,
    task: TaskId,
    disk: KeptStores,
    unwritten: BTreeSet<RowKey>,
}

impl KeptStore {
    fn changed(&mut self, key: &RowKey) {
        self.unwritten.insert(key.clone());
        if self.unwritten.len() >= self.disk.ahead {
            self.write(None);
        }
    }

    fn write(&mut self, applied: Option<&Applied>) {
        let mut disk = self.disk.lock();
        let Some(kept) = disk.get_mut(&self.task) else { return };
        for key in std::mem::take(&mut self.unwritten) {
            let entry = self.live.get(&key).map(Known::Entry);
            match entry.or_else(|| self.live.forgotten(&key).map(Known::Forgotten)) {
                Some(known) => kept.keys.insert(key, known),
                None => kept.keys.remove(&key),
            };
        }
        kept.vectors_end = self.vectors_end();
        if applied.is_some() {
            kept.applied = applied.cloned();
        }
    }
}

impl VersionStore for KeptStore {
    fn get(&self, key: &RowKey) -> Option<Entry> {
        self.live.get(key)
    }

    fn put(&mut self, key: &RowKey, entry: Entry) {
        self.live.put(key, entry);
        self.changed(key);
    }

    fn forget(&mut self, key: &RowKey, up_to: &Version) -> Option<Entry> {
        let dropped = self.live.forget(key, up_to);
        self.changed(key);
        dropped
    }

    fn forgotten(&self, key: &RowKey) -> Option<Version> {
        self.live.forgotten(key)
    }

    fn len(&self) -> usize {
        self.live.len()
    }

    fn vectors_end(&self) -> i64 {
        self.vectors_end.max(self.live.vectors_end())
    }

    fn tombstones_below(&self, floor: Hlc, max: usize) -> Vec<(RowKey, Entry)> {
        self.live.tombstones_below(floor, max)
    }

    fn memory_bytes(&self) -> usize {
        self.live.memory_bytes()
    }

    fn for_each(&self, visit: &mut dyn FnMut(RowKey, Entry)) {
        self.live.for_each(visit);
    }

    fn page(
        &self,
        collection: CollectionId,
        from: Option<&Cursor>,
        max: usize,
        entries: &mut Vec<(VectorId, Entry)>,
    ) -> Option<Cursor> {
        self.live.page(collection, from, max, entries)
    }

    fn commit(&mut self, applied: &Applied) -> Result<()> {
        self.live.commit(applied)?;
        self.write(Some(applied));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What was forgotten is kept: the next life goes on from it.
    fn activate(&mut self) {}
}

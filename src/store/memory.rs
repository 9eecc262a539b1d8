//! The versions store in memory: the default.
//!
//! One [`table`] per collection; what all of them share lies here: the origins' names, which a slot holds as
//! a number, and the tombstones in the order of their stamps, so that those below the floor are found without
//! a scan. A UUID or int64 key takes 48 bytes of slot and about 8 of index (`examples/store_memory.rs` measures it).

mod slot;
mod table;

#[cfg(test)]
mod tests;

use crate::base::error::Result;
use crate::base::ids::{CollectionId, Region, RowKey, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::collection::Collections;
use crate::store::entry::Entry;
use crate::store::forgotten::Forgotten;
use crate::store::{Applied, Cursor, Opened, Put, StoreOf, Stores, VersionStore};
use slot::Packed;
use std::collections::BTreeSet;
use std::time::Duration;
use table::Table;

/// Makes stores in memory: nothing is kept, each is restored from the beginning of its changelog.
#[derive(Debug, Default, Clone, Copy)]
pub struct MemoryStores;

impl Stores for MemoryStores {
    fn open(&self, of: &StoreOf) -> Result<Opened> {
        self.open_empty(of)
    }

    fn open_empty(&self, of: &StoreOf) -> Result<Opened> {
        Ok(Opened { store: Box::new(MemoryStore::new(&of.collections, of.horizon)), applied: None, warning: None })
    }
}

pub struct MemoryStore {
    tables: Vec<Table>,
    origins: Origins,
    vectors_end: i64,
    forgotten: Forgotten,
    /// Nobody asks what was forgotten any more.
    active: bool,
    /// Where each tombstone lies: stamp, collection, slot.
    tombstones: BTreeSet<(Hlc, CollectionId, u32)>,
}

/// A tombstone's share of a B-tree node: 16 bytes, in nodes that are two thirds full, and their links.
const TOMBSTONE_BYTES: usize = 28;

impl MemoryStore {
    pub fn new(collections: &Collections, horizon: Duration) -> Self {
        Self {
            tables: collections.iter().map(|(_, spec)| Table::new(spec.id)).collect(),
            origins: Origins::default(),
            vectors_end: 0,
            forgotten: Forgotten::new(horizon),
            active: false,
            tombstones: BTreeSet::new(),
        }
    }

    fn table(&self, collection: CollectionId) -> &Table {
        &self.tables[collection.index()]
    }

    /// False if what is held was to stay.
    fn put_unless(&mut self, key: &RowKey, entry: &Entry, stays: impl FnOnce(&Packed, &Origins) -> bool) -> bool {
        let packed = Packed::new(entry, self.origins.number(&entry.version.origin));
        let origins = &self.origins;
        let placed = self.tables[key.collection.index()].put_unless(&key.id, packed, |held| stays(held, origins));
        let Some((slot, replaced)) = placed else { return false };
        if let Some(replaced) = replaced
            && replaced.is_tombstone()
        {
            self.tombstones.remove(&(replaced.hlc(), key.collection, slot));
        }
        if entry.tombstone {
            self.tombstones.insert((entry.version.hlc, key.collection, slot));
        }
        self.vectors_end = self.vectors_end.max(entry.vector_offset + 1);
        self.forgotten.lift(key);
        true
    }

    fn unpack(&self, packed: &Packed) -> Entry {
        packed.unpack(|origin| self.origins.name(origin))
    }
}

impl VersionStore for MemoryStore {
    fn get(&self, key: &RowKey) -> Option<Entry> {
        self.table(key.collection).get(&key.id).map(|packed| self.unpack(packed))
    }

    fn put(&mut self, key: &RowKey, entry: Entry) {
        self.put_unless(key, &entry, |_, _| false);
    }

    /// With one look for the key: a restore does little else.
    fn put_newer(&mut self, key: &RowKey, entry: Entry) -> Put {
        if let Some(up_to) = self.forgotten.get(key).filter(|up_to| entry.version <= **up_to) {
            return Put::Forgotten(up_to.clone());
        }
        let stays = |held: &Packed, origins: &Origins| {
            // Nearly always the stamps say it.
            entry.version.hlc <= held.hlc() && entry.is_older_than(&held.unpack(|origin| origins.name(origin)))
        };
        if self.put_unless(key, &entry, stays) { Put::Taken } else { Put::Older }
    }

    fn forget(&mut self, key: &RowKey, up_to: &Version) -> Option<Entry> {
        if !self.active {
            self.forgotten.remember(key, up_to);
        }
        let (slot, removed) = self.tables[key.collection.index()].remove(&key.id)?;
        if removed.is_tombstone() {
            self.tombstones.remove(&(removed.hlc(), key.collection, slot));
        }
        Some(self.unpack(&removed))
    }

    fn forgotten(&self, key: &RowKey) -> Option<Version> {
        self.forgotten.get(key).cloned()
    }

    fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    fn vectors_end(&self) -> i64 {
        self.vectors_end
    }

    fn tombstones_below(&self, floor: Hlc, max: usize) -> Vec<(RowKey, Entry)> {
        let below = self.tombstones.range(..(floor, CollectionId(0), 0)).take(max);
        let found = below.map(|(_, collection, slot)| {
            let (id, packed) = self.table(*collection).at(*slot);
            (RowKey { collection: *collection, id }, self.unpack(packed))
        });
        found.collect()
    }

    fn memory_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(Table::memory_bytes).sum();
        size_of::<Self>() + tables + self.tombstones.len() * TOMBSTONE_BYTES
    }

    fn for_each(&self, visit: &mut dyn FnMut(RowKey, Entry)) {
        for (index, table) in self.tables.iter().enumerate() {
            let collection = CollectionId(index as u16);
            table.for_each(|id, packed| visit(RowKey { collection, id }, self.unpack(packed)));
        }
    }

    fn page(
        &self,
        collection: CollectionId,
        from: Option<&Cursor>,
        max: usize,
        entries: &mut Vec<(VectorId, Entry)>,
    ) -> Option<Cursor> {
        let slot = from.and_then(|place| place.0.as_slice().try_into().ok()).map_or(0, u32::from_be_bytes);
        let next = self.table(collection).page(slot, max, |id, packed| entries.push((id, self.unpack(packed))));
        next.map(|slot| Cursor(slot.to_be_bytes().to_vec()))
    }

    fn commit(&mut self, applied: &Applied) -> Result<()> {
        self.forgotten.age(applied.position.at);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn activate(&mut self) {
        self.active = true;
        self.forgotten.clear();
    }
}

/// Every origin met, numbered as they came. There are as many as there ever were regions, so a scan does.
#[derive(Default)]
struct Origins(Vec<Region>);

impl Origins {
    fn number(&mut self, origin: &Region) -> u16 {
        let found = self.0.iter().position(|known| known == origin);
        let index = found.unwrap_or_else(|| {
            assert!(self.0.len() < slot::ORIGINS_MAX, "more than {} regions have written to one partition", slot::ORIGINS_MAX);
            self.0.push(origin.clone());
            self.0.len() - 1
        });
        index as u16
    }

    fn name(&self, number: u16) -> Region {
        self.0[usize::from(number)].clone()
    }
}

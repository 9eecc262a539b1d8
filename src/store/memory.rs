//! The versions store in memory: the default.
//!
//! One [`table`] per collection; what all of them share lies here: the origins' names, which a slot holds as
//! a number, and the tombstones in the order of their stamps, so that those below the floor are found without
//! a scan. A UUID or int64 key takes 48 bytes of slot and 5.7 to 11.4 bytes of index.

mod slot;
mod table;

#[cfg(test)]
mod tests;

use crate::base::ids::{CollectionId, Region, RowKey, VectorId};
use crate::merge::hlc::Hlc;
use crate::record::collection::Collections;
use crate::store::entry::Entry;
use crate::store::{Cursor, VersionStore};
use slot::Packed;
use std::collections::BTreeSet;
use table::Table;

pub struct MemoryStore {
    tables: Vec<Table>,
    origins: Origins,
    /// Where each tombstone lies: stamp, collection, slot.
    tombstones: BTreeSet<(Hlc, CollectionId, u32)>,
}

/// A tombstone's share of a B-tree node: 16 bytes, in nodes that are two thirds full, and their links.
const TOMBSTONE_BYTES: usize = 28;

impl MemoryStore {
    pub fn new(collections: &Collections) -> Self {
        let tables = collections.iter().map(|(_, spec)| Table::new(spec.id)).collect();
        Self { tables, origins: Origins::default(), tombstones: BTreeSet::new() }
    }

    fn table(&self, collection: CollectionId) -> &Table {
        &self.tables[collection.index()]
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
        let packed = Packed::new(&entry, self.origins.number(&entry.version.origin));
        let (slot, replaced) = self.tables[key.collection.index()].put(&key.id, packed);
        if let Some(replaced) = replaced
            && replaced.is_tombstone()
        {
            self.tombstones.remove(&(replaced.hlc(), key.collection, slot));
        }
        if entry.tombstone {
            self.tombstones.insert((entry.version.hlc, key.collection, slot));
        }
    }

    fn remove(&mut self, key: &RowKey) -> Option<Entry> {
        let (slot, removed) = self.tables[key.collection.index()].remove(&key.id)?;
        if removed.is_tombstone() {
            self.tombstones.remove(&(removed.hlc(), key.collection, slot));
        }
        Some(self.unpack(&removed))
    }

    fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
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

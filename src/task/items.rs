//! The winners under way: from the merge's decision to the last acknowledgement.
//!
//! The store holds acknowledged entries only (INV-1); what is under way is here and is asked first. Dropping
//! this is all that a dirty close has to undo.

use crate::base::ids::RowKey;
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use crate::record::raw::RawRecord;
use crate::store::VersionStore;
use crate::store::entry::Entry;
use crate::task::settlement::Ticket;
use crate::topology::node::{Holder, Row, Versions};
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use smallvec::SmallVec;
use std::cell::RefCell;

pub type ItemId = u32;

/// What is written to the vector store for an item, if anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Write {
    #[default]
    Nothing,
    Upsert(Row),
    Delete,
}

#[derive(Debug)]
pub enum Kind {
    /// A winner: it is put into both changelogs and the store after the vector store has it.
    Winner { record: RawRecord, entry: Entry },
    /// A row as the store already knows it, written once more.
    Reassertion { entry: Entry },
    /// A row that a topology writes without a merge: acknowledged by the vector store, it is settled.
    Plain { version: Version },
    /// A tombstone below the floor on its way out of both changelogs and the store.
    Forgetting { entry: Entry },
}

#[derive(Debug)]
pub struct Item {
    pub key: RowKey,
    pub kind: Kind,
    pub write: Write,
    /// Settled when the item is done; the first is the record's that the item came from.
    pub tickets: SmallVec<[Ticket; 2]>,
    /// When the change was appended at its origin, and which of the task's sources brought it.
    pub appended_at: UnixMs,
    pub source: usize,
}

impl Item {
    /// It stands for a change that was just judged, not for one that is already known to be applied.
    pub fn is_fresh(&self) -> bool {
        matches!(self.kind, Kind::Winner { .. } | Kind::Plain { .. })
    }

    /// What is known to be the newest for its key once the item is done.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.kind {
            Kind::Winner { entry, .. } | Kind::Reassertion { entry } | Kind::Forgetting { entry } => Some(entry),
            Kind::Plain { .. } => None,
        }
    }

    pub fn version(&self) -> &Version {
        match &self.kind {
            Kind::Plain { version } => version,
            Kind::Winner { entry, .. } | Kind::Reassertion { entry } | Kind::Forgetting { entry } => &entry.version,
        }
    }

    /// Bytes it takes in a batch, roughly.
    pub fn write_bytes(&self) -> usize {
        const ROW_OVERHEAD: usize = 64;
        match &self.write {
            Write::Upsert(row) => row.vector.len() * 4 + row.metadata.len() + ROW_OVERHEAD,
            Write::Delete | Write::Nothing => ROW_OVERHEAD,
        }
    }
}

#[derive(Debug, Default)]
pub struct Items {
    slots: Vec<Option<Item>>,
    free: Vec<ItemId>,
    /// The newest winner under way of each key.
    in_flight: HashMap<RowKey, ItemId>,
}

impl Items {
    pub fn insert(&mut self, item: Item) -> ItemId {
        let (key, winner) = (item.key.clone(), matches!(item.kind, Kind::Winner { .. }));
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(item);
                id
            }
            None => {
                self.slots.push(Some(item));
                (self.slots.len() - 1) as ItemId
            }
        };
        if winner {
            self.in_flight.insert(key, id);
        }
        id
    }

    /// Puts a newer write in the place of one that has not been sent; the older one's tickets go over to it.
    pub fn replace(&mut self, id: ItemId, mut newer: Item) -> Item {
        let older = self.get_mut(id);
        newer.tickets.extend(older.tickets.drain(..));
        newer.appended_at = newer.appended_at.min(older.appended_at);
        if matches!(newer.kind, Kind::Winner { .. }) {
            self.in_flight.insert(newer.key.clone(), id);
        }
        std::mem::replace(self.get_mut(id), newer)
    }

    pub fn get(&self, id: ItemId) -> &Item {
        self.slots[id as usize].as_ref().expect("an item lives until its last acknowledgement")
    }

    pub fn get_mut(&mut self, id: ItemId) -> &mut Item {
        self.slots[id as usize].as_mut().expect("an item lives until its last acknowledgement")
    }

    pub fn remove(&mut self, id: ItemId) -> Item {
        let item = self.slots[id as usize].take().expect("an item ends once");
        self.free.push(id);
        if let EntryRef::Occupied(newest) = self.in_flight.entry_ref(&item.key)
            && *newest.get() == id
        {
            newest.remove();
        }
        item
    }

    /// The newest winner under way of that key.
    pub fn newest(&self, key: &RowKey) -> Option<ItemId> {
        self.in_flight.get(key).copied()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Items first, then the store: what a processor sees of the versions.
pub struct VersionsView<'a> {
    items: &'a Items,
    store: &'a dyn VersionStore,
    /// The last answer: each processor on a record's way asks the same.
    last: RefCell<Option<(RowKey, Option<Holder>)>>,
}

impl<'a> VersionsView<'a> {
    pub fn new(items: &'a Items, store: &'a dyn VersionStore) -> Self {
        Self { items, store, last: RefCell::new(None) }
    }

    fn look(&self, key: &RowKey) -> Option<Holder> {
        let under_way = self.items.newest(key).and_then(|id| self.items.get(id).entry());
        let (entry, in_flight) = match under_way {
            Some(entry) => (entry.clone(), true),
            None => (self.store.get(key)?, false),
        };
        Some(Holder {
            version: entry.version,
            content_hash: entry.content_hash,
            tombstone: entry.tombstone,
            refused: entry.refused,
            in_flight,
        })
    }
}

impl Versions for VersionsView<'_> {
    fn holder(&self, key: &RowKey) -> Option<Holder> {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((known, holder)) if known == key => holder.clone(),
            _ => last.insert((key.clone(), self.look(key))).1.clone(),
        }
    }
}

//! State: the versions that hold each row key, how they are written down, and how far a task has come.

pub mod entry;
pub mod memory;
pub mod progress;
pub mod row_key;

use crate::base::ids::{CollectionId, RowKey, VectorId};
use crate::merge::hlc::Hlc;
use entry::Entry;

/// Where a walk through a store has come to: the store's own notion, meaningless elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// The versions store of one task. It holds acknowledged entries only (INV-1).
///
/// One conformance suite (`testing::conformance`) runs on every implementation.
pub trait VersionStore: Send {
    fn get(&self, key: &RowKey) -> Option<Entry>;

    fn put(&mut self, key: &RowKey, entry: Entry);

    fn remove(&mut self, key: &RowKey) -> Option<Entry>;

    /// Entries held, tombstones included.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `max` tombstones whose stamp is below `floor`, oldest first, with their entries.
    fn tombstones_below(&self, floor: Hlc, max: usize) -> Vec<(RowKey, Entry)>;

    /// Resident memory, in bytes.
    fn memory_bytes(&self) -> usize;

    /// Visits every entry, in no particular order.
    fn for_each(&self, visit: &mut dyn FnMut(RowKey, Entry));

    /// At most `max` entries of a collection, from a place on that an earlier call has given, and where to go on;
    /// `None` at the end. Entries that are put or removed while the walk goes on may be missed, no other is.
    fn page(
        &self,
        collection: CollectionId,
        from: Option<&Cursor>,
        max: usize,
        entries: &mut Vec<(VectorId, Entry)>,
    ) -> Option<Cursor>;
}

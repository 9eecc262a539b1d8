//! What roll-backs have undone, decided from the changes' own stamps: written here once more on purpose.

use crate::base::ids::{CollectionId, Region};
use crate::testing::sim::workload::Made;

/// One roll-back: nothing of the whole millisecond that is gone back to, and nothing from its own stamp on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::testing::sim) struct Undone {
    pub after_ms: i64,
    pub before: u64,
    /// None of them means all.
    pub collections: Vec<CollectionId>,
    pub origin: Option<Region>,
}

impl Undone {
    pub fn contains(&self, made: &Made) -> bool {
        let stamp = made.version.hlc.0;
        let within = (stamp >> 16) as i64 > self.after_ms && stamp < self.before;
        let concerned = self.collections.is_empty() || self.collections.contains(&made.key.collection);
        within && concerned && self.origin.as_ref().is_none_or(|origin| *origin == made.version.origin)
    }
}

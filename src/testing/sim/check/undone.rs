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
        let within = (made.version.hlc.0 >> 16) as i64 > self.after_ms && self.is_after(made);
        let concerned = self.collections.is_empty() || self.collections.contains(&made.key.collection);
        within && concerned && self.origin.as_ref().is_none_or(|origin| *origin == made.version.origin)
    }

    /// What is stamped at the roll-back or later stays.
    pub fn is_after(&self, made: &Made) -> bool {
        made.version.hlc.0 < self.before
    }
}

//! Where two regions' states of a partition differ. Digests of key ranges are compared first; only the keys of ranges
//! whose digests differ are looked at one by one.

use super::replica::Replica;
use crate::base::ids::RowKey;
use crate::merge::hlc::Hlc;
use crate::store::VersionStore;
use crate::store::entry::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Ranges that the keys of a partition are divided into, by their hash.
pub const RANGES: usize = 1_024;

/// A sum, so that the order in which a store gives its entries does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    sum: u64,
    entries: u64,
}

#[derive(Debug, Default)]
pub struct Comparison {
    /// Keys that the two hold differently.
    pub keys: Vec<RowKey>,
    pub ranges_different: usize,
    /// Rows of the first region.
    pub rows: u64,
}

/// The tombstones that one of the two may have forgotten already: below the greater of their floors.
pub fn forgettable(here: &Replica, there: &Replica) -> Option<Hlc> {
    here.floor().max(there.floor())
}

pub fn compare(here: &Replica, there: &Replica) -> Comparison {
    let forgettable = forgettable(here, there);
    let (ours, theirs) = (digests(here.store(), forgettable), digests(there.store(), forgettable));
    let differs: Vec<bool> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours != theirs).collect();
    let mut found = Comparison { ranges_different: differs.iter().filter(|differs| **differs).count(), ..Comparison::default() };
    here.store().for_each(&mut |_, entry| found.rows += u64::from(!entry.tombstone));
    if found.ranges_different == 0 {
        return found;
    }
    here.store().for_each(&mut |key, entry| {
        if differs[range_of(&key)] && !same(Some(&entry), there.get(&key).as_ref(), forgettable) {
            found.keys.push(key);
        }
    });
    there.store().for_each(&mut |key, entry| {
        if differs[range_of(&key)] && here.get(&key).is_none() && !same(None, Some(&entry), forgettable) {
            found.keys.push(key);
        }
    });
    found
}

/// Does a key stand alike in both? A tombstone that may be forgotten is as good as no entry; whether this region's
/// vector store refused the row, and where its vector lies, is its own affair.
pub fn same(ours: Option<&Entry>, theirs: Option<&Entry>, forgettable: Option<Hlc>) -> bool {
    match (known(ours, forgettable), known(theirs, forgettable)) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => {
            (&ours.version, ours.content_hash, ours.tombstone) == (&theirs.version, theirs.content_hash, theirs.tombstone)
        }
        _ => false,
    }
}

/// Does one region hold now what the other held then, or something newer?
pub fn covers(now: Option<&Entry>, then: Option<&Entry>, forgettable: Option<Hlc>) -> bool {
    match (now, then) {
        (_, None) => true,
        (Some(now), Some(then)) => (&now.version, now.content_hash) >= (&then.version, then.content_hash),
        (None, Some(then)) => known(Some(then), forgettable).is_none(),
    }
}

fn known(entry: Option<&Entry>, forgettable: Option<Hlc>) -> Option<&Entry> {
    entry.filter(|entry| !entry.tombstone || forgettable.is_none_or(|floor| entry.version.hlc >= floor))
}

fn digests(store: &dyn VersionStore, forgettable: Option<Hlc>) -> Vec<Digest> {
    let mut digests = vec![Digest::default(); RANGES];
    store.for_each(&mut |key, entry| {
        if known(Some(&entry), forgettable).is_none() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (&key, &entry.version, entry.content_hash, entry.tombstone).hash(&mut hasher);
        let digest = &mut digests[range_of(&key)];
        digest.sum = digest.sum.wrapping_add(hasher.finish());
        digest.entries += 1;
    });
    digests
}

/// Both sides of a comparison are in one process: the hash need be the same only there.
fn range_of(key: &RowKey) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % RANGES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::merge::version::{ContentHash, Version};

    fn entry(hlc: u64, tombstone: bool) -> Entry {
        let version = Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: 1 };
        Entry { version, content_hash: ContentHash(9), vector_offset: 3, tombstone, refused: false }
    }

    #[test]
    fn a_tombstone_counts_until_one_of_the_two_may_have_forgotten_it() {
        let (delete, floor) = (entry(10, true), Some(Hlc(11)));
        assert!(same(Some(&delete), None, floor) && covers(None, Some(&delete), floor));
        assert!(!same(Some(&delete), None, Some(Hlc(10))) && !covers(None, Some(&delete), None));
        let beaten = entry(9, false);
        assert!(
            !same(Some(&delete), Some(&beaten), floor) && !covers(Some(&beaten), Some(&delete), floor),
            "what it has beaten is there"
        );
    }

    #[test]
    fn a_newer_entry_covers_an_older_one_and_offsets_and_refusals_are_nobody_elses_affair() {
        assert!(covers(Some(&entry(2, true)), Some(&entry(1, false)), None));
        assert!(!covers(Some(&entry(1, false)), Some(&entry(2, false)), None));
        let refused = Entry { refused: true, vector_offset: 77, ..entry(1, false) };
        assert!(same(Some(&refused), Some(&entry(1, false)), None));
    }
}

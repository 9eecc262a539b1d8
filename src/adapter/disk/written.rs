//! Which keys the tables of a store that is being filled may hold. Nearly every key of a compacted changelog comes once:
//! looking for each of them in every run of tables would take longer than all the rest.

use crate::base::ids::RowKey;
use fastbloom::BloomFilter;

/// Keys that the first filter has room for; each further one has twice the room of the one before.
const FIRST_KEYS: usize = 1 << 18;
/// How often a key that is not there is looked for in vain.
const FALSE_POSITIVES: f64 = 0.01;

/// A filter that grows (Almeida et al., "Scalable Bloom Filters", 2007): about ten bits a key.
pub(super) struct Written {
    filters: Vec<BloomFilter>,
    /// Of the last filter, what is left.
    room: usize,
}

impl Written {
    pub fn new() -> Self {
        Self { filters: Vec::new(), room: 0 }
    }

    pub fn add(&mut self, key: &RowKey) {
        if self.room == 0 {
            self.room = FIRST_KEYS << self.filters.len();
            self.filters.push(BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(self.room));
        }
        if let Some(last) = self.filters.last_mut() {
            last.insert(key);
        }
        self.room -= 1;
    }

    /// False: it was never added.
    pub fn may_hold(&self, key: &RowKey) -> bool {
        self.filters.iter().rev().any(|filter| filter.contains(key))
    }

    pub fn memory_bytes(&self) -> usize {
        self.filters.iter().map(|filter| filter.num_bits() / 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::stores::key;

    #[test]
    fn what_was_added_may_be_there_and_little_else() {
        let mut written = Written::new();
        assert!(!written.may_hold(&key(0)));
        let added = 2 * FIRST_KEYS as i64;
        (0..added).for_each(|number| written.add(&key(number)));
        assert_eq!(written.filters.len(), 2);
        assert!((0..added).all(|number| written.may_hold(&key(number))));
        let taken_for_added = (added..2 * added).filter(|number| written.may_hold(&key(*number))).count();
        assert!(taken_for_added < added as usize / 20, "{taken_for_added} of {added}");
        assert!(written.memory_bytes() < 2 * added as usize);
    }
}

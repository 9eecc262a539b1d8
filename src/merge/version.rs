//! What orders the changes of one row key.

use crate::base::ids::Region;
use crate::merge::hlc::Hlc;
use std::fmt;

/// Compared field by field in this order, `origin` by its bytes, `sequence` as an unsigned number: total,
/// and the same in every region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub hlc: Hlc,
    pub origin: Region,
    pub sequence: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.hlc.0, self.origin, self.sequence)
    }
}

/// xxh3-64 (seed 0) of a change's bytes after the framing, which are the same in every region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub u64);

impl ContentHash {
    pub fn of(content: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(content))
    }
}

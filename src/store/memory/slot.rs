//! An entry in 32 bytes: what a slot holds beside its key.

use crate::base::ids::Region;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::store::entry::Entry;

/// `rest` holds, from the top: 48 bits of vector offset (signed; at a hundred thousand winners a second, 44
/// years of one partition), 12 bits of origin, 2 unused, refused, tombstone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Packed {
    hlc: u64,
    sequence: u64,
    content_hash: u64,
    rest: u64,
}

const OFFSET_SHIFT: u32 = 16;
const ORIGIN_SHIFT: u32 = 4;
const REFUSED: u64 = 2;
const TOMBSTONE: u64 = 1;

pub(super) const ORIGINS_MAX: usize = 1 << (OFFSET_SHIFT - ORIGIN_SHIFT);

impl Packed {
    pub(super) fn new(entry: &Entry, origin: u16) -> Self {
        let flags = if entry.refused { REFUSED } else { 0 } | if entry.tombstone { TOMBSTONE } else { 0 };
        Self {
            hlc: entry.version.hlc.0,
            sequence: entry.version.sequence,
            content_hash: entry.content_hash.0,
            rest: (entry.vector_offset << OFFSET_SHIFT) as u64 | u64::from(origin) << ORIGIN_SHIFT | flags,
        }
    }

    pub(super) fn unpack(&self, name: impl FnOnce(u16) -> Region) -> Entry {
        let origin = (self.rest >> ORIGIN_SHIFT) as usize % ORIGINS_MAX;
        Entry {
            version: Version { hlc: self.hlc(), origin: name(origin as u16), sequence: self.sequence },
            content_hash: ContentHash(self.content_hash),
            vector_offset: self.rest as i64 >> OFFSET_SHIFT,
            tombstone: self.is_tombstone(),
            refused: self.rest & REFUSED != 0,
        }
    }

    pub(super) fn hlc(&self) -> Hlc {
        Hlc(self.hlc)
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.rest & TOMBSTONE != 0
    }
}

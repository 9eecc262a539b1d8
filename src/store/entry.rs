//! What is remembered of a row key, and its bytes in the versions changelog.

use crate::base::ids::Region;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use bytes::{BufMut, BytesMut};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub version: Version,
    pub content_hash: ContentHash,
    /// Where the winning change lies in the vectors changelog's partition of the same number.
    pub vector_offset: i64,
    /// The winner is a delete.
    pub tombstone: bool,
    /// This region's Milvus refused the row; the version holds the key all the same.
    pub refused: bool,
}

const FORMAT: u8 = 1;
const FLAG_TOMBSTONE: u8 = 1;
const FLAG_REFUSED: u8 = 2;
const FIXED_BYTES: usize = 2 + 8 * 4;

/// The header on a null in a changelog: the version up to which the key is forgotten.
pub const FORGOTTEN_HEADER: &str = "driftless.forgotten";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("entry format {0} is not known to this version; upgrade this worker or restore an older changelog")]
    UnknownFormat(u8),
    #[error("entry is cut short ({0} bytes)")]
    Truncated(usize),
    #[error("origin is not UTF-8")]
    Origin,
}

impl Entry {
    /// By version, then by content: as the merge decides.
    pub fn is_older_than(&self, other: &Entry) -> bool {
        (&self.version, self.content_hash) < (&other.version, other.content_hash)
    }

    /// Format 1: `1, flags, hlc, sequence, content hash, vector offset` (big-endian 64-bit), then the
    /// origin's bytes to the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        self.put(&mut bytes);
        bytes.into()
    }

    /// The same behind what is there already.
    pub fn put(&self, bytes: &mut BytesMut) {
        let origin = self.version.origin.as_str().as_bytes();
        bytes.reserve(FIXED_BYTES + origin.len());
        bytes.put_u8(FORMAT);
        bytes.put_u8(if self.tombstone { FLAG_TOMBSTONE } else { 0 } | if self.refused { FLAG_REFUSED } else { 0 });
        bytes.put_u64(self.version.hlc.0);
        bytes.put_u64(self.version.sequence);
        bytes.put_u64(self.content_hash.0);
        bytes.put_i64(self.vector_offset);
        bytes.put_slice(origin);
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        Self::decode_with(bytes, |name| Region::new(name))
    }

    /// `region` makes a region of its name. There are few, so that whoever reads many entries can share them.
    pub fn decode_with(bytes: &[u8], region: impl FnOnce(&str) -> Region) -> Result<Self, EntryError> {
        match bytes.first() {
            None => return Err(EntryError::Truncated(0)),
            Some(&FORMAT) => {}
            Some(&other) => return Err(EntryError::UnknownFormat(other)),
        }
        let (fixed, origin) = bytes.split_at_checked(FIXED_BYTES).ok_or(EntryError::Truncated(bytes.len()))?;
        let number = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&fixed[2 + 8 * index..10 + 8 * index]);
            u64::from_be_bytes(word)
        };
        Ok(Self {
            version: Version {
                hlc: Hlc(number(0)),
                origin: region(std::str::from_utf8(origin).map_err(|_| EntryError::Origin)?),
                sequence: number(1),
            },
            content_hash: ContentHash(number(2)),
            vector_offset: number(3) as i64,
            tombstone: fixed[1] & FLAG_TOMBSTONE != 0,
            refused: fixed[1] & FLAG_REFUSED != 0,
        })
    }
}

/// A version in a header: `hlc/sequence/origin` in decimal (the origin last: it may hold any character).
pub fn version_text(version: &Version) -> String {
    format!("{}/{}/{}", version.hlc.0, version.sequence, version.origin)
}

pub fn parse_version_text(text: &str) -> Option<Version> {
    let mut parts = text.splitn(3, '/');
    let hlc = Hlc(parts.next()?.parse().ok()?);
    let sequence = parts.next()?.parse().ok()?;
    Some(Version { hlc, origin: Region::new(parts.next()?), sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            version: Version { hlc: Hlc(1 << 60), origin: Region::new("eu"), sequence: u64::MAX },
            content_hash: ContentHash(7),
            vector_offset: 42,
            tombstone: true,
            refused: false,
        }
    }

    #[test]
    fn an_entry_is_read_back() {
        assert_eq!(Entry::decode(&entry().encode()), Ok(entry()));
    }

    /// Format 1 as bytes: a change of this test is a change of what older workers can read.
    #[test]
    fn format_1_is_fixed() {
        let text: String = entry().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "01011000000000000000ffffffffffffffff0000000000000007000000000000002a6575");
    }

    #[test]
    fn every_cut_is_refused_and_none_panics() {
        let bytes = entry().encode();
        for length in 0..FIXED_BYTES {
            assert!(matches!(Entry::decode(&bytes[..length]), Err(EntryError::Truncated(_))), "{length}");
        }
        assert_eq!(Entry::decode(&[9, 0]), Err(EntryError::UnknownFormat(9)));
    }

    #[test]
    fn a_version_survives_a_header() {
        let version = Version { hlc: Hlc(3), origin: Region::new("a/b"), sequence: 4 };
        assert_eq!(parse_version_text(&version_text(&version)), Some(version));
        assert_eq!(parse_version_text("1/x/us"), None);
    }
}

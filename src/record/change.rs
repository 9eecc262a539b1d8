//! One upsert or delete of one vector, read as far as its header. The vector and the metadata stay encoded
//! until the change is known to win.

use crate::base::ids::{Region, RowKey};
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::record::raw::RawRecord;
use bytes::Bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Upsert,
    Delete,
}

/// A change whose header has been read and found to name a configured collection, a canonical id and the
/// origin that its topic stands for.
#[derive(Debug, Clone)]
pub struct Change {
    pub op: Op,
    pub key: RowKey,
    pub version: Version,
    pub record: RawRecord,
    pub body: EncodedBody,
}

impl Change {
    /// How far the append lies behind the stamp's wall time: `A − (hlc >> 16)`, in ms.
    pub fn lateness_ms(&self) -> i64 {
        self.record.appended_at.since_ms(self.version.hlc.wall())
    }

    pub fn content_hash(&self) -> ContentHash {
        ContentHash::of(&self.body.content)
    }
}

/// Where the vector and the metadata are to be found.
#[derive(Debug, Clone)]
pub struct EncodedBody {
    /// The value's bytes after the framing: what the content hash covers.
    pub content: Bytes,
    pub encoding: BodyEncoding,
}

#[derive(Debug, Clone)]
pub enum BodyEncoding {
    /// Our own writer schema; `vector` begins at this offset of `content`.
    Avro { vector_at: usize },
    /// Read through another writer schema, or from JSON: already in full.
    Decoded(Box<Body>),
}

/// A metadata value as written; a null is left out of the row.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Text(String),
}

/// Vector and metadata in the order in which they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    pub vector: Vec<f32>,
    pub metadata: Vec<(String, MetaValue)>,
}

/// A heartbeat's content: which origin lives, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub origin: Region,
    pub hlc: Hlc,
    pub record: RawRecord,
    /// What the writer says besides: its bounds of lateness, its predecessor, the collections' hash.
    pub metadata: Vec<(String, MetaValue)>,
}

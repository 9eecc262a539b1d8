//! Changes as a test writes them, with everything that it doesn't care about filled in.

use crate::base::ids::{Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::avro::WireOp;
use crate::record::change::MetaValue;
use bytes::Bytes;

/// A change to be piped in. Unless it is told otherwise it comes from the driver's own region, is stamped by the
/// driver's clock, each greater than the one stamped so before, with sequence 1, and keyed by its id.
#[derive(Debug, Clone)]
pub struct InputChange {
    pub(super) op: WireOp,
    pub(super) collection: String,
    pub(super) id: String,
    pub(super) origin: Option<Region>,
    pub(super) stamp: Option<Hlc>,
    pub(super) sequence: u64,
    pub(super) vector: Vec<f32>,
    pub(super) metadata: Vec<(String, MetaValue)>,
    pub(super) key: InputKey,
    pub(super) appended_at: Option<UnixMs>,
}

#[derive(Debug, Clone)]
pub(super) enum InputKey {
    Id,
    None,
    Other(String),
}

impl InputChange {
    pub fn upsert(collection: &str, id: &str, vector: &[f32]) -> Self {
        Self { vector: vector.to_vec(), ..Self::new(WireOp::Upsert, collection, id) }
    }

    pub fn delete(collection: &str, id: &str) -> Self {
        Self::new(WireOp::Delete, collection, id)
    }

    /// What a region says of itself in a partition that has had no change for a while.
    pub fn heartbeat(origin: &str) -> Self {
        Self { origin: Some(Region::new(origin)), sequence: 0, ..Self::new(WireOp::Heartbeat, "", "") }
    }

    fn new(op: WireOp, collection: &str, id: &str) -> Self {
        Self {
            op,
            collection: collection.to_owned(),
            id: id.to_owned(),
            origin: None,
            stamp: None,
            sequence: 1,
            vector: Vec::new(),
            metadata: Vec::new(),
            key: InputKey::Id,
            appended_at: None,
        }
    }

    /// The region that it comes from: a peer's arrives by its mirror topic.
    pub fn from_region(self, origin: &str) -> Self {
        Self { origin: Some(Region::new(origin)), ..self }
    }

    /// The first stamp of that millisecond.
    pub fn stamped(self, at: UnixMs) -> Self {
        self.stamped_hlc(Hlc::at(at))
    }

    pub fn stamped_hlc(self, stamp: Hlc) -> Self {
        Self { stamp: Some(stamp), ..self }
    }

    pub fn sequence(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }

    /// A delete may carry one too, and is none the better for it.
    pub fn vector(self, vector: &[f32]) -> Self {
        Self { vector: vector.to_vec(), ..self }
    }

    pub fn metadata(mut self, key: &str, value: MetaValue) -> Self {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// As a producer sends it that doesn't key its records.
    pub fn keyless(self) -> Self {
        Self { key: InputKey::None, ..self }
    }

    pub fn keyed(self, key: &str) -> Self {
        Self { key: InputKey::Other(key.to_owned()), ..self }
    }

    /// A, for one of a peer: when that region's own broker took it. Of the own region it is the driver's time.
    pub fn appended_at(self, at: UnixMs) -> Self {
        Self { appended_at: Some(at), ..self }
    }
}

/// A change that was piped in: where it lies, and as what.
#[derive(Debug, Clone, PartialEq)]
pub struct Piped {
    pub partition: TopicPartition,
    pub offset: i64,
    pub version: Version,
    pub value: Bytes,
}

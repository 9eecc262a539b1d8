//! From a message to a [`Change`] whose header is good, or to the reason why not; and from a winner's
//! encoded body to a row. The order of the checks is part of the contract: every region must refuse alike.

use crate::base::ids::Region;
use crate::record::change::{Change, Heartbeat};
use crate::record::collection::{CollectionSpec, Collections};
use crate::record::raw::RawRecord;
use crate::record::reason::Rejection;
use crate::record::schema::SchemaSource;

/// What a message turned out to be.
#[derive(Debug)]
pub enum Decoded {
    Change(Change),
    Heartbeat(Heartbeat),
    Rejected(RawRecord, Rejection),
    /// The writer schema has been asked for; offer the same record again later.
    NeedsSchema(RawRecord),
}

/// Reads the header and judges framing, id, collection and origin, in that order.
/// `origin` is the region that the record's topic stands for.
pub fn decode(_record: RawRecord, _origin: &Region, _collections: &Collections, _schemas: &mut dyn SchemaSource) -> Decoded {
    todo!("helper: records")
}

/// Reads a winner's vector and metadata: `vector` is cleared and filled with `spec.dimension` finite floats,
/// `metadata` with one JSON object.
pub fn decode_row(
    _change: &Change,
    _spec: &CollectionSpec,
    _vector: &mut Vec<f32>,
    _metadata: &mut Vec<u8>,
) -> Result<(), Rejection> {
    todo!("helper: records")
}

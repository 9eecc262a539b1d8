//! A writer schema as a registry gave it, prepared once, and where it comes from.

use crate::base::ids::Region;
use crate::record::avro::OtherSchema;
use std::sync::Arc;

/// How values written with this schema are read.
#[derive(Debug)]
pub enum WriterSchema {
    /// Our own schema, field by field: the fast path applies.
    Ours,
    /// Another schema whose values resolve to ours (fields added, removed, defaulted).
    Resolvable(Box<OtherSchema>),
    /// Not a change at all: every value of it is malformed, for this reason.
    Unusable(String),
}

/// What is known of a schema id now.
#[derive(Debug, Clone)]
pub enum SchemaLookup {
    Known(Arc<WriterSchema>),
    /// The origin's registry says that there is no such id.
    Unknown,
    /// It has been asked for; the thread is woken when the answer is there. An unreachable registry keeps
    /// its ids in this state (and only its own region's source waits).
    Pending,
}

/// A port: writer schemas by region and id, without blocking. Ids belong to the registry of the region where the record was written.
pub trait SchemaSource: Send {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup;
}

//! The schema registry of embedded regions: one id, our own writer schema.

use crate::base::ids::Region;
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use std::sync::Arc;

/// The id under which embedded producers frame their values.
pub const OUR_SCHEMA_ID: u32 = 1;

#[derive(Debug, Clone)]
pub struct EmbeddedSchemas {
    ours: Arc<WriterSchema>,
}

impl Default for EmbeddedSchemas {
    fn default() -> Self {
        Self { ours: Arc::new(WriterSchema::Ours) }
    }
}

impl SchemaSource for EmbeddedSchemas {
    fn lookup(&mut self, _origin: &Region, id: u32) -> SchemaLookup {
        if id == OUR_SCHEMA_ID { SchemaLookup::Known(self.ours.clone()) } else { SchemaLookup::Unknown }
    }
}

//! `VectorChange` in Avro: our schema, and the ways to read and write values of it.
//!
//! A writer schema that is ours field by field is read by hand ([`fast`]: the header without an allocation,
//! the floats by copying). Every other one goes through apache-avro's resolution ([`resolved`]), at once and
//! in full. Both refuse the same bytes; a differential test holds them together.

mod encode;
mod extent;
mod fast;
mod resolved;
mod wire;

#[cfg(test)]
mod tests;

pub use encode::{Fields, encode};
pub(crate) use fast::{Header, read_body, read_header, read_row};
pub use resolved::OtherSchema;
pub(crate) use resolved::resolve;

use crate::record::schema::WriterSchema;
use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::Value as Json;
use std::sync::LazyLock;

/// What is registered as the change topic's value schema.
pub const SCHEMA_TEXT: &str = include_str!("../../schemas/vector_change.avsc");

static OURS: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(SCHEMA_TEXT).expect("the schema is part of this program, and a test parses it"));

/// The enum `Op`, in the schema's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireOp {
    Upsert,
    Delete,
    Heartbeat,
}

impl WireOp {
    const SYMBOLS: [(WireOp, &'static str); 3] =
        [(WireOp::Upsert, "UPSERT"), (WireOp::Delete, "DELETE"), (WireOp::Heartbeat, "HEARTBEAT")];

    fn from_index(index: i64) -> Option<Self> {
        Some(Self::SYMBOLS.get(usize::try_from(index).ok()?)?.0)
    }

    fn from_symbol(symbol: &str) -> Option<Self> {
        Self::SYMBOLS.into_iter().find(|(_, name)| *name == symbol).map(|(op, _)| op)
    }
}

/// Why bytes are not a `VectorChange`. The text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AvroError {
    #[error("the body is cut short in `{0}`")]
    Truncated(&'static str),
    #[error("{0} bytes are left over after the last field")]
    LeftOver(usize),
    #[error("a length or count in `{0}` is negative")]
    NegativeLength(&'static str),
    #[error("a number in `{0}` has more than 64 bits")]
    Overflow(&'static str),
    #[error("`{0}` is not UTF-8")]
    NotUtf8(&'static str),
    #[error("`{field}` has no variant {index}")]
    NoSuchVariant { field: &'static str, index: i64 },
    #[error("a boolean in `{field}` is {byte}")]
    NotBoolean { field: &'static str, byte: u8 },
    #[error("it does not resolve to VectorChange: {0}")]
    Unresolved(String),
}

/// Prepares a writer schema, given as the registry's text.
///
/// Two schemas are the same if their parsing canonical forms are (Avro specification, "Parsing Canonical
/// Form for Schemas"): documentation, defaults and aliases don't change how a value is written.
pub fn writer_schema(text: &str) -> WriterSchema {
    let schema = match parse(text) {
        Ok(schema) => schema,
        Err(why) => return WriterSchema::Unusable(format!("its writer schema is not Avro: {why}")),
    };
    if schema.canonical_form() == OURS.canonical_form() {
        return WriterSchema::Ours;
    }
    let other = match OtherSchema::new(schema) {
        Ok(other) => other,
        Err(why) => return WriterSchema::Unusable(format!("its writer schema {why}")),
    };
    match SchemaCompatibility::can_read(other.schema(), &OURS) {
        Ok(_) => WriterSchema::Resolvable(Box::new(other)),
        Err(why) => WriterSchema::Unusable(format!("its writer schema does not resolve to VectorChange: {why}")),
    }
}

/// Parses without logical types. They never change the bytes, and apache-avro's resolution refuses
/// a timestamp where a long is asked for, which the specification allows.
fn parse(text: &str) -> Result<Schema, String> {
    let mut json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    drop_logical_types(&mut json);
    Schema::parse_str(&json.to_string()).map_err(|error| error.to_string())
}

fn drop_logical_types(json: &mut Json) {
    match json {
        Json::Object(members) => {
            members.remove("logicalType");
            members.values_mut().for_each(drop_logical_types);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_logical_types),
        _ => {}
    }
}

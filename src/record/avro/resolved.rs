//! Values of another writer's schema, read through apache-avro's schema resolution.

use super::extent::Extent;
use super::{AvroError, OURS, WireOp};
use crate::merge::hlc::Hlc;
use crate::record::avro::Header;
use crate::record::change::{Body, MetaValue};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use std::sync::Arc;

/// Another writer's schema whose values resolve to ours.
#[derive(Debug)]
pub struct OtherSchema {
    schema: Schema,
    extent: Arc<Extent>,
}

impl OtherSchema {
    /// Says why if it cannot be read within bounds.
    pub(super) fn new(schema: Schema) -> Result<Self, String> {
        let extent = Extent::of(&schema)?;
        Ok(Self { schema, extent })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// A whole change, owned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    op: WireOp,
    hlc: Hlc,
    origin: String,
    sequence: u64,
    collection: String,
    vector_id: String,
    pub body: Body,
}

impl Resolved {
    pub(crate) fn header(&self) -> Header<'_> {
        Header {
            op: self.op,
            hlc: self.hlc,
            origin: &self.origin,
            sequence: self.sequence,
            collection: &self.collection,
            vector_id: &self.vector_id,
        }
    }
}

/// Metadata comes sorted by key, since apache-avro's map has no order.
pub(crate) fn resolve(writer: &OtherSchema, content: &[u8]) -> Result<Resolved, AvroError> {
    writer.extent.check(content)?;
    let value = GenericDatumReader::builder(&writer.schema)
        .reader_schema(&OURS)
        .build()
        .and_then(|datum| datum.read_value(&mut &*content))
        .map_err(|error| AvroError::Unresolved(error.to_string()))?;
    take_fields(value)
}

fn take_fields(value: Value) -> Result<Resolved, AvroError> {
    let Value::Record(fields) = value else { return Err(not_resolved("the record")) };
    let mut fields = fields.into_iter().map(|(_, value)| value);
    // Resolution puts the fields in our schema's order, and each in its type.
    let mut next = || fields.next().ok_or_else(|| not_resolved("a field"));
    Ok(Resolved {
        op: take_op(next()?)?,
        hlc: Hlc(take_long(next()?)? as u64),
        origin: take_text(next()?)?,
        sequence: take_long(next()?)? as u64,
        collection: take_text(next()?)?,
        vector_id: take_text(next()?)?,
        body: Body { vector: take_vector(next()?)?, metadata: take_metadata(next()?)? },
    })
}

fn take_op(value: Value) -> Result<WireOp, AvroError> {
    match value {
        Value::Enum(_, symbol) => WireOp::from_symbol(&symbol).ok_or_else(|| not_resolved("op")),
        _ => Err(not_resolved("op")),
    }
}

fn take_long(value: Value) -> Result<i64, AvroError> {
    if let Value::Long(number) = value { Ok(number) } else { Err(not_resolved("a long")) }
}

fn take_text(value: Value) -> Result<String, AvroError> {
    if let Value::String(text) = value { Ok(text) } else { Err(not_resolved("a string")) }
}

fn take_vector(value: Value) -> Result<Vec<f32>, AvroError> {
    let Value::Array(items) = value else { return Err(not_resolved("vector")) };
    let mut vector = Vec::with_capacity(items.len());
    for item in items {
        let Value::Float(float) = item else { return Err(not_resolved("vector")) };
        vector.push(float);
    }
    Ok(vector)
}

fn take_metadata(value: Value) -> Result<Vec<(String, MetaValue)>, AvroError> {
    let Value::Map(items) = value else { return Err(not_resolved("metadata")) };
    let mut metadata = Vec::with_capacity(items.len());
    for (key, item) in items {
        let Value::Union(_, item) = item else { return Err(not_resolved("metadata")) };
        let value = match *item {
            Value::Null => MetaValue::Null,
            Value::Boolean(value) => MetaValue::Bool(value),
            Value::Long(value) => MetaValue::Long(value),
            Value::Double(value) => MetaValue::Double(value),
            Value::String(value) => MetaValue::Text(value),
            _ => return Err(not_resolved("metadata")),
        };
        metadata.push((key, value));
    }
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(metadata)
}

fn not_resolved(field: &str) -> AvroError {
    AvroError::Unresolved(format!("{field} has another type than the schema says"))
}

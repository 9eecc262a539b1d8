//! Values of our own schema, written: heartbeats, the demo's changes, replayed dead letters.

use super::WireOp;
use super::wire::{put_long, put_text};
use crate::merge::hlc::Hlc;
use crate::record::change::MetaValue;

/// All fields of a change, in the schema's order.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    pub op: WireOp,
    pub hlc: Hlc,
    pub origin: &'a str,
    pub sequence: u64,
    pub collection: &'a str,
    pub vector_id: &'a str,
    pub vector: &'a [f32],
    pub metadata: &'a [(String, MetaValue)],
}

/// The body without framing (see [`framing::frame`](crate::record::framing::frame)).
pub fn encode(fields: &Fields<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + size_of_val(fields.vector) + 32 * fields.metadata.len());
    put_long(&mut bytes, fields.op as i64);
    put_long(&mut bytes, fields.hlc.0 as i64);
    put_text(&mut bytes, fields.origin);
    put_long(&mut bytes, fields.sequence as i64);
    put_text(&mut bytes, fields.collection);
    put_text(&mut bytes, fields.vector_id);
    if !fields.vector.is_empty() {
        put_long(&mut bytes, fields.vector.len() as i64);
        bytes.extend(fields.vector.iter().flat_map(|float| float.to_le_bytes()));
    }
    put_long(&mut bytes, 0);
    if !fields.metadata.is_empty() {
        put_long(&mut bytes, fields.metadata.len() as i64);
        for (key, value) in fields.metadata {
            put_text(&mut bytes, key);
            put_value(&mut bytes, value);
        }
    }
    put_long(&mut bytes, 0);
    bytes
}

fn put_value(bytes: &mut Vec<u8>, value: &MetaValue) {
    match value {
        MetaValue::Null => put_long(bytes, 0),
        MetaValue::Bool(value) => {
            put_long(bytes, 1);
            bytes.push(u8::from(*value));
        }
        MetaValue::Long(value) => {
            put_long(bytes, 2);
            put_long(bytes, *value);
        }
        MetaValue::Double(value) => {
            put_long(bytes, 3);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        MetaValue::Text(value) => {
            put_long(bytes, 4);
            put_text(bytes, value);
        }
    }
}

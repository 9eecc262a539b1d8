//! What a registry may answer: any text as a writer's schema, and any bytes as a value of it. No panic, no hang, no
//! memory beyond what is there.
//!
//! An input is the schema's text, a zero byte, and the value.

use crate::change::{Outcome, Reading, Registry, good_body, read, record};
use crate::meter::measure;
use crate::run::{Target, Verdict};
use bytes::Bytes;
use driftless::record::avro::{SCHEMA_TEXT, writer_schema};
use driftless::record::framing::frame;
use driftless::record::schema::{SchemaLookup, WriterSchema};
use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use std::sync::Arc;

pub const TARGET: Target = Target {
    name: "schema",
    good,
    words: &[
        b"\"type\":\"record\"",
        b"\"type\":\"array\",\"items\":",
        b"\"type\":\"map\",\"values\":",
        b"\"null\"",
        b"\"long\"",
        b"\"VectorChange\"",
        b"\"name\":\"\"",
        b"\"namespace\":\"\"",
        b"\"aliases\":[\"origin\"]",
        b"\"default\":null",
        b"\"logicalType\":\"decimal\"",
        b"\"fixed\"",
        b"\"size\":0",
        b"\"enum\"",
        b"\"symbols\":[]",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\0",
        b".",
    ],
    body,
    bytes_max: (1 << 20, 1024),
};

/// Ours, with fields added, left out, renamed, reordered or of another type.
fn good(rng: &mut SmallRng) -> Vec<u8> {
    let mut schema: Value = serde_json::from_str(SCHEMA_TEXT).expect("the shipped schema is JSON");
    let fields = schema["fields"].as_array_mut().expect("a record has fields");
    let mut value = good_body(rng);
    match rng.random_range(0..6) {
        0 => {}
        1 => fields.truncate(6),
        2 => fields[3]["type"] = json!("int"),
        3 => fields[7]["type"]["values"] = json!(["null", "int", "float", "string", "bytes"]),
        4 => {
            fields.push(json!({"name": "note", "type": {"type": "record", "name": "Note", "fields": [{"name": "by", "type": ["null", "string"]}]}}));
            fields.push(json!({"name": "notes", "type": {"type": "array", "items": "Note"}}));
            value.extend([2, 4, b'm', b'e', 2, 0, 0]);
        }
        _ => {
            fields.push(json!({"name": "size", "type": {"type": "fixed", "name": "Four", "size": 4}}));
            fields.push(json!({"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}}));
            value.extend([1, 2, 3, 4, 2]);
        }
    }
    [schema.to_string().as_bytes(), b"\0", &value].concat()
}

fn body(input: &[u8]) -> Verdict {
    let split = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, value) = (String::from_utf8_lossy(&input[..split]), input.get(split + 1..).unwrap_or_default());
    let (schema, schema_bytes) = measure(|| Arc::new(writer_schema(&text)));
    let message = record(Bytes::from(frame(7, value)));
    let mut registry = Registry(SchemaLookup::Known(schema.clone()));
    let (Reading { outcome, words, .. }, value_bytes) = measure(|| read(message, &mut registry));
    let accepted = matches!(outcome, Outcome::Change { .. } | Outcome::Heartbeat { .. });
    let kind = match &*schema {
        WriterSchema::Ours => format!("ours: {words}"),
        WriterSchema::Resolvable(_) => format!("resolvable: {words}"),
        WriterSchema::Unusable(why) => why.clone(),
    };
    Verdict::new(accepted, &kind, schema_bytes.max(value_bytes))
}

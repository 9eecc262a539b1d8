//! Any bytes as a message's value, whatever the registry says of their schema: nothing panics, nothing is
//! allocated for a length that is not there, and what is framed is found again.

use crate::change::{ORIGIN, Outcome, Reading, Registry, good_body, read, record};
use crate::meter::measure;
use crate::run::{Target, Verdict};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use driftless::record::avro::{SCHEMA_TEXT, writer_schema};
use driftless::record::framing::{Framing, frame, framing};
use driftless::record::schema::{SchemaLookup, WriterSchema};
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::{Arc, LazyLock};

pub const TARGET: Target = Target {
    name: "framing",
    good,
    words: &[b"\x00\x00\x00\x00\x01", b"{", b"{}", b"\x04us", b"\x0atexts", b"\x80\x80\x80\x80\x01", b"\xfe\xff\xff\xff\x0f"],
    body,
    bytes_max: (16 << 10, 256),
};

/// By the schema's id: ours; another's; one that is no change; unknown; not answered yet.
fn registry(schema_id: u32) -> Registry {
    static KNOWN: LazyLock<[Arc<WriterSchema>; 3]> =
        LazyLock::new(|| [SCHEMA_TEXT, &newer(), "\"string\""].map(|text| Arc::new(writer_schema(text))));
    Registry(match schema_id % 5 {
        id @ 0..=2 => SchemaLookup::Known(KNOWN[id as usize].clone()),
        3 => SchemaLookup::Unknown,
        _ => SchemaLookup::Pending,
    })
}

/// A later writer's schema: a list, a map, nested records and bytes behind our fields.
fn newer() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA_TEXT).expect("the shipped schema is JSON");
    let added = serde_json::json!([
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "blob", "type": ["null", "bytes"], "default": null},
        {"name": "counts", "type": {"type": "map", "values": "long"}, "default": {}},
        {"name": "note", "type": {"type": "record", "name": "Note", "fields": [{"name": "by", "type": "string"}]},
         "default": {"by": ""}},
    ]);
    let fields = schema["fields"].as_array_mut().expect("a record has fields");
    fields.extend(added.as_array().expect("a list").iter().cloned());
    schema.to_string()
}

fn good(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..4) {
        0 => frame(rng.random_range(0..5), &good_body(rng)),
        1 => br#"{"type":"delete","collection":"texts","vector_id":"a","timestamp":1700000000000}"#.to_vec(),
        _ => frame(1, &newer_body(rng)),
    }
}

fn newer_body(rng: &mut SmallRng) -> Vec<u8> {
    static SCHEMA: LazyLock<apache_avro::Schema> =
        LazyLock::new(|| apache_avro::Schema::parse_str(&newer()).expect("ours with fields added"));
    let text = |text: &str| Value::String(text.to_owned());
    let tags = (0..rng.random_range(0..3)).map(|_| text("tag")).collect();
    let fields = [
        ("op", Value::Enum(0, "UPSERT".to_owned())),
        ("timestamp", Value::Long(rng.random())),
        ("origin", text(ORIGIN)),
        ("sequence", Value::Long(rng.random())),
        ("collection", text("texts")),
        ("vector_id", text("a")),
        ("vector", Value::Array(vec![Value::Float(0.5); 3])),
        ("metadata", Value::Map([("k".to_owned(), Value::Union(2, Box::new(Value::Long(3))))].into())),
        ("tags", Value::Array(tags)),
        ("blob", Value::Union(1, Box::new(Value::Bytes(vec![7; rng.random_range(0..9)])))),
        ("counts", Value::Map([("n".to_owned(), Value::Long(1))].into())),
        ("note", Value::Record(vec![("by".to_owned(), text("me"))])),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    let writer = GenericDatumWriter::builder(&SCHEMA).build().expect("a schema without references");
    writer.write_value_to_vec(Value::Record(fields.into())).expect("a value of that schema")
}

fn body(value: &[u8]) -> Verdict {
    let (framed, none) = measure(|| framing(value).map_err(|refused| refused.reason));
    assert!(none < 1 << 10, "framing alone held {none} bytes");
    let mut registry = registry(7);
    match framed {
        Ok(Framing::Avro { schema_id, content_at }) => {
            assert_eq!(frame(schema_id, &value[content_at..]), value, "framed again");
            registry = self::registry(schema_id);
        }
        Ok(Framing::Json) => assert_eq!(value.first(), Some(&b'{')),
        Err(_) => {}
    }
    let is_avro = matches!(framed, Ok(Framing::Avro { .. }));
    let message = record(Bytes::copy_from_slice(value));
    let (Reading { outcome, row, words }, bytes) = measure(|| read(message, &mut registry));
    assert!(framed.is_ok() || outcome == Outcome::Refused(framed.unwrap_err()));
    let kind = match &outcome {
        Outcome::Change { op, body, .. } => format!("{op:?} {} {row:?}", body.metadata.len().min(3)),
        _ => words,
    };
    let accepted = matches!(outcome, Outcome::Change { .. } | Outcome::Heartbeat { .. } | Outcome::NeedsSchema);
    Verdict::new(accepted, &format!("{is_avro} {kind}"), bytes)
}

//! The fast path against apache-avro: same verdict and same values, of any bytes.

use crate::change::{COLLECTIONS, ORIGIN, OURS, Outcome, Reading, Registry, Row, WholeBody, good_body, metadata, read, record};
use crate::meter::measure;
use crate::run::{Target, Verdict};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use bytes::Bytes;
use driftless::record::avro::{SCHEMA_TEXT, writer_schema};
use driftless::record::change::{MetaValue, Op};
use driftless::record::framing::frame;
use driftless::record::id::{WrittenId, parse_id};
use driftless::record::reason::Reason;
use driftless::record::schema::{SchemaLookup, WriterSchema};
use std::io::Read;
use std::sync::{Arc, LazyLock};

pub const TARGET: Target = Target {
    name: "avro",
    good: good_body,
    words: &[
        b"us",
        b"\x04us",
        b"\x0anumbers",
        b"texts",
        b"\x00",
        b"\x01",
        b"\x02",
        b"\x04\x05",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
    body,
    bytes_max: (4 << 10, 48),
};

static BY_HAND: LazyLock<Arc<WriterSchema>> = LazyLock::new(|| Arc::new(WriterSchema::Ours));
/// A field that takes no bytes makes another schema of ours, for the same bytes.
static RESOLVED: LazyLock<Arc<WriterSchema>> = LazyLock::new(|| {
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA_TEXT).expect("the shipped schema is JSON");
    let fields = schema["fields"].as_array_mut().expect("a record has fields");
    fields.push(serde_json::json!({"name": "nothing", "type": "null", "default": null}));
    let schema = writer_schema(&schema.to_string());
    assert!(matches!(schema, WriterSchema::Resolvable(_)), "{schema:?}");
    Arc::new(schema)
});

fn body(content: &[u8]) -> Verdict {
    LazyLock::force(&RESOLVED);
    let value = Bytes::from(frame(7, content));
    let through = |schema: &Arc<WriterSchema>| {
        let mut registry = Registry(SchemaLookup::Known(schema.clone()));
        read(record(value.clone()), &mut registry)
    };
    let (Reading { outcome: by_hand, row, words }, bytes) = measure(|| through(&BY_HAND));
    let (Reading { outcome: resolved, row: resolved_row, .. }, resolved_bytes) = measure(|| through(&RESOLVED));
    assert!(resolved_bytes < (16 << 10) + 512 * content.len(), "held {resolved_bytes} bytes for a body of {}", content.len());
    assert!(agree(&by_hand, &resolved), "by hand {by_hand:?}, resolved {resolved:?}");
    assert_rows_agree(row.as_ref(), resolved_row.as_ref());
    let reference = by_reference(&OURS, content);
    assert!(agree(&by_hand, &reference), "by hand {by_hand:?}, by apache-avro {reference:?}");
    let row = row.map(|row| row.map(|(vector, metadata)| (vector.len(), metadata.len().min(9))));
    let kind = match &by_hand {
        Outcome::Change { op, collection, body, .. } => {
            format!("{op:?} {collection:?} {row:?} {} {:?}", body.metadata.len().min(3), body.vector.is_empty())
        }
        Outcome::Heartbeat { metadata, .. } => format!("beat {}", metadata.is_empty()),
        _ => words,
    };
    Verdict::new(matches!(by_hand, Outcome::Change { .. } | Outcome::Heartbeat { .. }), &kind, bytes)
}

/// The same, but that the others read the whole before they judge the header, and the fast path does not.
fn agree(by_hand: &Outcome, whole: &Outcome) -> bool {
    let header_refused = matches!(by_hand, Outcome::Refused(_) | Outcome::IgnoredHeartbeat);
    by_hand == whole || (header_refused && *whole == Outcome::Refused(Reason::Malformed))
}

fn assert_rows_agree(by_hand: Option<&Row>, resolved: Option<&Row>) {
    assert_eq!(by_hand, resolved, "rows by hand and resolved");
    if let Some(Ok((vector, metadata))) = by_hand
        && !metadata.is_empty()
    {
        assert!(vector.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{vector:?}");
        let written: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(metadata).expect("one JSON object");
        assert!(written.values().all(|value| !value.is_null() && !value.is_object() && !value.is_array()), "{written:?}");
    }
}

/// apache-avro alone, and the contract's rules on the header once more.
fn by_reference(schema: &Schema, content: &[u8]) -> Outcome {
    let mut reader = Strict { rest: content, overrun: false };
    let value = GenericDatumReader::builder(schema).build().and_then(|datum| datum.read_value(&mut reader));
    match value {
        Ok(Value::Record(fields)) if !reader.overrun && reader.rest.is_empty() => judge(fields),
        _ => Outcome::Refused(Reason::Malformed),
    }
}

/// apache-avro takes the end of input for a null in places: here it is an error.
struct Strict<'a> {
    rest: &'a [u8],
    overrun: bool,
}

impl Read for Strict<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.overrun |= buffer.len() > self.rest.len();
        self.rest.read(buffer)
    }
}

fn judge(fields: Vec<(String, Value)>) -> Outcome {
    let mut fields = fields.into_iter().map(|(_, value)| value);
    let mut next = || fields.next().expect("the schema has eight fields");
    let Value::Enum(op, _) = next() else { panic!("op is an enum") };
    let hlc = number(next()) as u64;
    let origin = text(next());
    let sequence = number(next()) as u64;
    let (collection, id) = (text(next()), text(next()));
    let body = WholeBody { vector: floats(next()), metadata: entries(next()) };
    if op == 2 {
        let metadata = body.metadata;
        return if origin == ORIGIN { Outcome::Heartbeat { hlc, metadata } } else { Outcome::IgnoredHeartbeat };
    }
    let Some(found) = COLLECTIONS.find(&collection) else { return Outcome::Refused(Reason::UnknownCollection) };
    let id = match parse_id(COLLECTIONS.get(found).id, WrittenId::Text(&id)) {
        Ok(id) => id,
        Err(refused) => return Outcome::Refused(refused.reason),
    };
    if origin != ORIGIN {
        return Outcome::Refused(Reason::ForeignOrigin);
    }
    let op = if op == 0 { Op::Upsert } else { Op::Delete };
    Outcome::Change { op, collection: found.0, id, hlc, sequence, body }
}

fn number(value: Value) -> i64 {
    let Value::Long(number) = value else { panic!("not a long: {value:?}") };
    number
}

fn text(value: Value) -> String {
    let Value::String(text) = value else { panic!("not a string: {value:?}") };
    text
}

fn floats(value: Value) -> Vec<u32> {
    let Value::Array(items) = value else { panic!("not an array: {value:?}") };
    let bits = |item| match item {
        Value::Float(float) => float.to_bits(),
        other => panic!("not a float: {other:?}"),
    };
    items.into_iter().map(bits).collect()
}

fn entries(value: Value) -> std::collections::BTreeMap<String, String> {
    let Value::Map(items) = value else { panic!("not a map: {value:?}") };
    let scalar = |value| match value {
        Value::Union(_, inner) => match *inner {
            Value::Null => MetaValue::Null,
            Value::Boolean(value) => MetaValue::Bool(value),
            Value::Long(value) => MetaValue::Long(value),
            Value::Double(value) => MetaValue::Double(value),
            Value::String(value) => MetaValue::Text(value),
            other => panic!("not a scalar: {other:?}"),
        },
        other => panic!("not a union: {other:?}"),
    };
    metadata(items.into_iter().map(|(key, value)| (key, scalar(value))).collect())
}

//! JSON changes: no panic; what is accepted says what a plain reading by serde_json says, and means the same when
//! it is written again.

use crate::change::{COLLECTIONS, Outcome, Reading, Registry, good_key, read, record};
use crate::meter::measure;
use crate::run::{Target, Verdict};
use bytes::Bytes;
use driftless::base::ids::{Region, VectorId};
use driftless::record::change::{Body, Change, MetaValue, Op};
use driftless::record::decode::{Decoded, decode, decode_body};
use driftless::record::schema::SchemaLookup;
use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;

pub const TARGET: Target = Target {
    name: "json",
    good,
    words: &[
        b"\"type\":\"upsert\"",
        b"\"delete\"",
        b"\"vector_id\":",
        b"\"payload\":[",
        b"\"metadata\":{",
        b"null",
        b"true",
        b"1e999",
        b"-0",
        b"1.0",
        b"5e-324",
        b"9223372036854775808",
        b"\\u0000",
        b"\\ud800",
        b"\"",
        b"{",
        b"}",
        b"[[[[",
        b",",
        b":",
    ],
    body,
    bytes_max: (8 << 10, 96),
};

fn good(rng: &mut SmallRng) -> Vec<u8> {
    let (collection, id) = good_key(rng);
    let id: Value = match (collection, rng.random::<bool>()) {
        ("numbers", true) => id.parse::<i64>().expect("a number").into(),
        _ => id.into(),
    };
    let mut members = vec![
        ("type", json!(if rng.random_range(0..4) == 0 { "delete" } else { "upsert" })),
        ("collection", json!(collection)),
        ("vector_id", id),
        ("timestamp", json!(1_700_000_000_000u64 << [0, 16, 18][rng.random_range(0..3)])),
    ];
    if rng.random_range(0..4) != 0 {
        members.push(("payload", json!([rng.random::<f32>(), rng.random_range(-9..9), rng.random::<f64>() * 1e-30])));
    }
    if rng.random() {
        members.push((
            "metadata",
            json!({"a": rng.random::<i64>(), "b": rng.random::<f64>(), "c": "\u{e9}\n", "d": true, "e": null}),
        ));
    }
    if rng.random() {
        members.push(("unknown", json!({"x": [1, {}]})));
    }
    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
    format!("{{{}}}", members.join(", ")).into_bytes()
}

fn body(content: &[u8]) -> Verdict {
    let message = record(Bytes::copy_from_slice(content));
    let (Reading { outcome, row, words }, bytes) = measure(|| read(message, &mut Registry(SchemaLookup::Unknown)));
    let accepted = matches!(outcome, Outcome::Change { .. });
    if accepted {
        let (change, body) = whole(content).expect("accepted a moment ago");
        assert_plain_reading_agrees(content, &change, &body);
        assert_written_again_it_means_the_same(&change, &body);
    }
    let kind = match &outcome {
        Outcome::Change { op, id, body, .. } => {
            let kinds: Vec<&str> = body.metadata.values().map(|value| value.split(['(', ' ']).next().unwrap_or("")).collect();
            format!("{op:?} {:?} {:?} {kinds:?}", std::mem::discriminant(id), row.map(|row| row.map(|(vector, _)| vector.len())))
        }
        _ => words,
    };
    Verdict::new(accepted, &kind, bytes)
}

fn whole(content: &[u8]) -> Option<(Change, Body)> {
    let message = record(Bytes::copy_from_slice(content));
    let origin = Region::new(crate::change::ORIGIN);
    let Decoded::Change(change) = decode(message, &origin, &COLLECTIONS, &mut Registry(SchemaLookup::Unknown)) else {
        return None;
    };
    let body = decode_body(&change).ok()?;
    Some((change, body))
}

/// Each number in its own text, so that no conversion stands between.
type Plain = HashMap<String, Box<RawValue>>;

fn plain<T: serde::de::DeserializeOwned>(raw: &RawValue) -> T {
    serde_json::from_str(raw.get()).expect("what was accepted has this form")
}

fn assert_plain_reading_agrees(content: &[u8], change: &Change, body: &Body) {
    let members: Plain = serde_json::from_slice(content).expect("what was accepted is one JSON object");
    let op: String = plain(&members["type"]);
    assert_eq!(op == "delete", change.op == Op::Delete);
    assert_eq!(COLLECTIONS.find(&plain::<String>(&members["collection"])), Some(change.key.collection));
    let id = members["vector_id"].get();
    match &change.key.id {
        VectorId::Int(number) if !id.starts_with('"') => assert_eq!(id.parse::<i64>(), Ok(*number)),
        id => assert_eq!(plain::<String>(&members["vector_id"]), id.to_string()),
    }
    assert!(members["timestamp"].get().parse::<u64>().is_ok());
    let payload = members.get("payload").and_then(|raw| plain::<Option<Vec<Box<RawValue>>>>(raw)).unwrap_or_default();
    let floats: Vec<u32> = payload.iter().map(|raw| (raw.get().parse::<f64>().expect("a number") as f32).to_bits()).collect();
    assert_eq!(floats, body.vector.iter().map(|float| float.to_bits()).collect::<Vec<_>>());
    let metadata = members.get("metadata").and_then(|raw| plain::<Option<Plain>>(raw)).unwrap_or_default();
    assert_eq!(metadata.len(), body.metadata.len());
    for (key, value) in &body.metadata {
        let raw = &metadata[key];
        match value {
            MetaValue::Null => assert_eq!(raw.get(), "null"),
            MetaValue::Bool(value) => assert_eq!(plain::<bool>(raw), *value),
            MetaValue::Text(value) => assert_eq!(plain::<String>(raw), *value),
            MetaValue::Long(value) => assert_eq!(raw.get().parse::<i64>(), Ok(*value)),
            MetaValue::Double(value) => {
                assert!(raw.get().parse::<i64>().is_err(), "{raw} fits 64 bits");
                assert_eq!(raw.get().parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
            }
        }
    }
}

fn assert_written_again_it_means_the_same(change: &Change, body: &Body) {
    let finite = |value: &MetaValue| !matches!(value, MetaValue::Double(number) if !number.is_finite());
    if !body.vector.iter().all(|float| float.is_finite()) || !body.metadata.iter().all(|(_, value)| finite(value)) {
        // JSON has no text for it.
        return;
    }
    let metadata: serde_json::Map<String, Value> =
        body.metadata.iter().map(|(key, value)| (key.clone(), scalar(value))).collect();
    let again = json!({
        "type": if change.op == Op::Delete { "delete" } else { "upsert" },
        "collection": COLLECTIONS.get(change.key.collection).name,
        "vector_id": change.key.id.to_string(),
        "payload": body.vector,
        "timestamp": change.version.hlc.0,
        "metadata": metadata,
    });
    let (other, read) = whole(again.to_string().as_bytes()).expect("what was written is a change");
    assert_eq!((other.op, &other.key), (change.op, &change.key));
    assert_eq!(
        read.vector.iter().map(|float| float.to_bits()).collect::<Vec<_>>(),
        body.vector.iter().map(|float| float.to_bits()).collect::<Vec<_>>()
    );
    assert_eq!(crate::change::metadata(read.metadata), crate::change::metadata(body.metadata.clone()));
}

fn scalar(value: &MetaValue) -> Value {
    match value {
        MetaValue::Null => Value::Null,
        MetaValue::Bool(value) => json!(value),
        MetaValue::Long(value) => json!(value),
        MetaValue::Double(value) => json!(value),
        MetaValue::Text(value) => json!(value),
    }
}

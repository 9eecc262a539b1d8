//! The plain JSON form of a change, for producers without a registry:
//!
//! ```json
//! {"type": "upsert", "collection": "docs", "vector_id": "42", "payload": [0.1, 0.2],
//!  "timestamp": 1700000000000, "metadata": {"lang": "en"}}
//! ```
//!
//! It is read in full at once. Keys not named here are ignored, as Avro ignores a newer writer's fields; a key
//! that occurs twice is refused, since readers of JSON don't agree on which one holds. Numbers are converted
//! from their own text: serde_json's default conversion may be off by a bit in the last place.

use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::record::change::{Body, MetaValue, Op};
use crate::record::id::WrittenId;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// A change as written; its origin is the topic's region, its sequence the content hash.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonChange {
    pub op: Op,
    pub collection: String,
    vector_id: JsonId,
    pub hlc: Hlc,
    pub body: Body,
}

impl JsonChange {
    pub(crate) fn vector_id(&self) -> WrittenId<'_> {
        match &self.vector_id {
            JsonId::Text(text) => WrittenId::Text(text),
            JsonId::Number(number) => WrittenId::Number(*number),
        }
    }
}

/// `appended_at` (A) tells which unit the timestamp has.
pub(crate) fn read(content: &[u8], appended_at: UnixMs) -> Result<JsonChange, serde_json::Error> {
    // Of what it passes over, serde_json looks at no byte's encoding.
    let text = std::str::from_utf8(content).map_err(serde_json::Error::custom)?;
    let wire: Wire = serde_json::from_str(text)?;
    Ok(JsonChange {
        op: match wire.op {
            WireType::Upsert => Op::Upsert,
            WireType::Delete => Op::Delete,
        },
        collection: wire.collection,
        vector_id: wire.vector_id,
        hlc: hlc_nearest(wire.timestamp, appended_at),
        body: Body {
            vector: wire.payload.unwrap_or_default().into_iter().map(|Float(float)| float).collect(),
            metadata: wire.metadata.unwrap_or_default().0,
        },
    })
}

/// TSO: Milvus' timestamp oracle, milliseconds and 18 bits of logical counter.
const TSO_LOGICAL_BITS: u32 = 18;
const HLC_COUNTER_BITS: u32 = 16;

/// Unix milliseconds, a TSO or an HLC, whichever lies nearest to A (the three are decades apart). A logical
/// counter too great for an HLC's 16 bits is cut to 65 535.
fn hlc_nearest(timestamp: u64, appended_at: UnixMs) -> Hlc {
    let near = |wall_ms: u64| (i128::from(wall_ms) - i128::from(appended_at.0)).unsigned_abs();
    let (from_ms, from_tso, from_hlc) =
        (near(timestamp), near(timestamp >> TSO_LOGICAL_BITS), near(timestamp >> HLC_COUNTER_BITS));
    if from_ms <= from_tso && from_ms <= from_hlc {
        return Hlc::at(UnixMs(i64::try_from(timestamp).unwrap_or(i64::MAX)));
    }
    if from_tso <= from_hlc {
        let wall = UnixMs((timestamp >> TSO_LOGICAL_BITS) as i64);
        let logical = timestamp & ((1 << TSO_LOGICAL_BITS) - 1);
        return Hlc::new(wall, u16::try_from(logical).unwrap_or(u16::MAX));
    }
    Hlc(timestamp)
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    op: WireType,
    collection: String,
    vector_id: JsonId,
    payload: Option<Vec<Float>>,
    timestamp: u64,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireType {
    Upsert,
    Delete,
}

#[derive(Debug, PartialEq)]
enum JsonId {
    Text(String),
    Number(i128),
}

impl<'de> Deserialize<'de> for JsonId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match scalar(deserializer)? {
            Scalar::Text(text) => Ok(JsonId::Text(text)),
            Scalar::Number(text) => {
                text.parse().map(JsonId::Number).map_err(|_| D::Error::custom(format!("vector_id {text} is not an integer")))
            }
            Scalar::Null | Scalar::Bool(_) => Err(D::Error::custom("vector_id is neither a string nor an integer")),
        }
    }
}

/// Read as a double, then rounded, as every JSON reader without a single-precision type does.
struct Float(f32);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match scalar(deserializer)? {
            Scalar::Number(text) => double(text).map(|number| Float(number as f32)),
            _ => Err(D::Error::custom("payload holds something else than numbers")),
        }
    }
}

#[derive(Default)]
struct Metadata(Vec<(String, MetaValue)>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of scalars")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, MetaScalar(value))) = map.next_entry::<String, MetaScalar>()? {
            entries.push((key, value));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom(format!("duplicate metadata key {:?}", twice[0].0)));
        }
        Ok(Metadata(entries))
    }
}

struct MetaScalar(MetaValue);

impl<'de> Deserialize<'de> for MetaScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = match scalar(deserializer)? {
            Scalar::Null => MetaValue::Null,
            Scalar::Bool(value) => MetaValue::Bool(value),
            Scalar::Text(text) => MetaValue::Text(text),
            Scalar::Number(text) => match integer(text) {
                Some(number) => MetaValue::Long(number),
                None => MetaValue::Double(double(text)?),
            },
        };
        Ok(MetaScalar(value))
    }
}

/// A number without fraction and exponent that fits 64 bits; any other one is a double.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn double<E: Error>(text: &str) -> Result<f64, E> {
    text.parse().map_err(|_| E::custom(format!("{text} is not a number")))
}

/// A JSON scalar; a number keeps its text.
enum Scalar<'de> {
    Null,
    Bool(bool),
    Number(&'de str),
    Text(String),
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scalar<'de>, D::Error> {
    let text = <&'de RawValue>::deserialize(deserializer)?.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(Scalar::Null),
        Some(b't') => Ok(Scalar::Bool(true)),
        Some(b'f') => Ok(Scalar::Bool(false)),
        Some(b'"') => serde_json::from_str(text).map(Scalar::Text).map_err(D::Error::custom),
        Some(b'-' | b'0'..=b'9') => Ok(Scalar::Number(text)),
        _ => Err(D::Error::custom("a list or an object stands where a scalar must")),
    }
}

#[cfg(test)]
mod tests;

//! A row's metadata: which keys and values are good, and how it is written as one JSON object.
//!
//! Entries are sorted by key, so that a change's metadata is written alike whatever order its encoding had.

use crate::record::change::MetaValue;
use crate::record::collection::{ID_COLUMN, METADATA_BYTES_MAX, VECTOR_COLUMN};
use crate::record::id::excerpt;
use crate::record::reason::{Reason, Rejection};
use serde::Serialize;
use serde_json::{Map, Value};
use smallvec::SmallVec;

/// A metadata value that still lies in the record's bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MetaRef<'a> {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

pub(crate) type MetaEntries<'a> = SmallVec<[(&'a str, MetaRef<'a>); 8]>;

/// Milvus keeps dynamic fields under this name.
const DYNAMIC_FIELD: &str = "$meta";

impl<'a> From<&'a MetaValue> for MetaRef<'a> {
    fn from(value: &'a MetaValue) -> Self {
        match value {
            MetaValue::Null => MetaRef::Null,
            MetaValue::Bool(value) => MetaRef::Bool(*value),
            MetaValue::Long(value) => MetaRef::Long(*value),
            MetaValue::Double(value) => MetaRef::Double(*value),
            MetaValue::Text(value) => MetaRef::Text(value),
        }
    }
}

impl From<MetaRef<'_>> for MetaValue {
    fn from(value: MetaRef<'_>) -> Self {
        match value {
            MetaRef::Null => MetaValue::Null,
            MetaRef::Bool(value) => MetaValue::Bool(value),
            MetaRef::Long(value) => MetaValue::Long(value),
            MetaRef::Double(value) => MetaValue::Double(value),
            MetaRef::Text(value) => MetaValue::Text(value.to_owned()),
        }
    }
}

/// Sorts by key. Where a key occurs twice, the last one holds (as in every Avro reader that fills a map);
/// a null is then left out, and no rule is applied to it.
pub(crate) fn normalize(entries: &mut MetaEntries<'_>) {
    entries.sort_by(|a, b| a.0.cmp(b.0));
    let mut kept = 0;
    for index in 0..entries.len() {
        let shadowed = entries.get(index + 1).is_some_and(|next| next.0 == entries[index].0);
        if !shadowed && entries[index].1 != MetaRef::Null {
            entries[kept] = entries[index];
            kept += 1;
        }
    }
    entries.truncate(kept);
}

pub(crate) fn check_finite(entries: &MetaEntries<'_>) -> Result<(), Rejection> {
    for (key, value) in entries {
        if let MetaRef::Double(number) = value
            && !number.is_finite()
        {
            return Err(Rejection::new(Reason::NotFinite, format!("metadata {} is {number}", excerpt(key))));
        }
    }
    Ok(())
}

pub(crate) fn check_keys(entries: &MetaEntries<'_>) -> Result<(), Rejection> {
    for (key, _) in entries {
        if key.is_empty() {
            return Err(Rejection::new(Reason::ReservedKey, "a metadata key is empty"));
        }
        if key.starts_with('_') || [DYNAMIC_FIELD, ID_COLUMN, VECTOR_COLUMN].contains(key) {
            return Err(Rejection::new(Reason::ReservedKey, format!("metadata key {} is reserved; rename it", excerpt(key))));
        }
    }
    Ok(())
}

/// Fills `json` with one object. Doubles keep a fraction or an exponent (`1.0`), so that Milvus does not take
/// them for integers; they are written in the shortest form that reads back bit for bit.
pub(crate) fn write_json(entries: &MetaEntries<'_>, json: &mut Vec<u8>) -> Result<(), Rejection> {
    json.clear();
    json.push(b'{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write_value(key, json);
        json.push(b':');
        match value {
            MetaRef::Null => json.extend_from_slice(b"null"),
            MetaRef::Bool(value) => write_value(value, json),
            MetaRef::Long(value) => write_value(value, json),
            MetaRef::Double(value) => write_value(value, json),
            MetaRef::Text(value) => write_value(value, json),
        }
    }
    json.push(b'}');
    if json.len() > METADATA_BYTES_MAX {
        let detail = format!("metadata takes {} bytes as JSON, at most {METADATA_BYTES_MAX} are taken", json.len());
        return Err(Rejection::new(Reason::MetadataTooLarge, detail));
    }
    Ok(())
}

/// The fields of a JSON object that somebody else wrote. What is no scalar is kept as its JSON text; of what is no object
/// there are none.
pub fn fields_of(json: &[u8]) -> Vec<(String, MetaValue)> {
    let object: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    object.into_iter().map(|(name, value)| (name, meta_value(value))).collect()
}

fn meta_value(value: Value) -> MetaValue {
    match value {
        Value::Null => MetaValue::Null,
        Value::Bool(value) => MetaValue::Bool(value),
        Value::String(text) => MetaValue::Text(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(long), _) => MetaValue::Long(long),
            (None, Some(double)) => MetaValue::Double(double),
            (None, None) => MetaValue::Text(number.to_string()),
        },
        Value::Array(_) | Value::Object(_) => MetaValue::Text(value.to_string()),
    }
}

fn write_value<T: Serialize + ?Sized>(value: &T, json: &mut Vec<u8>) {
    serde_json::to_writer(json, value).expect("a scalar has a JSON form, and memory takes every write");
}

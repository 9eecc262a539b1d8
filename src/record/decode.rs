//! From a message to a [`Change`] whose header is good, or to the reason why not; and from a winner's
//! encoded body to a row.
//!
//! The order of the checks is part of the contract, since every region must refuse alike: null value,
//! framing, writer schema, header (of another writer's Avro and of JSON: the whole body), collection, id,
//! origin; then, for a winner, the body's encoding to its last byte, dimension, finiteness of vector and
//! metadata, metadata keys, metadata size. A loser's body is never looked at.

use crate::base::ids::{Region, RowKey};
use crate::merge::version::{ContentHash, Version};
use crate::record::avro::{self, AvroError, Header, WireOp};
use crate::record::change::{Body, BodyEncoding, Change, EncodedBody, Heartbeat, Op};
use crate::record::collection::{CollectionSpec, Collections, ORIGIN_BYTES_MAX};
use crate::record::framing::{Framing, framing};
use crate::record::id::{WrittenId, excerpt, parse_id};
use crate::record::json;
use crate::record::metadata::{self, MetaEntries};
use crate::record::raw::RawRecord;
use crate::record::reason::{Reason, Rejection};
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use bytes::Bytes;

/// What a message turned out to be.
#[derive(Debug)]
pub enum Decoded {
    Change(Change),
    Heartbeat(Heartbeat),
    /// A heartbeat that says nothing about this topic's region; to be counted, and no dead letter.
    IgnoredHeartbeat(RawRecord, String),
    Rejected(RawRecord, Rejection),
    /// The writer schema has been asked for; offer the same record again later.
    NeedsSchema(RawRecord),
}

/// Reads the header and judges framing, collection, id and origin, in that order (an id's form depends on its
/// collection). `origin` is the region that the record's topic stands for.
pub fn decode(record: RawRecord, origin: &Region, collections: &Collections, schemas: &mut dyn SchemaSource) -> Decoded {
    let Some(value) = record.value.clone() else {
        return Decoded::Rejected(record, Rejection::new(Reason::NullValue, "the record has no value"));
    };
    let judge = Judge { origin, collections };
    match framing(&value) {
        Err(rejection) => Decoded::Rejected(record, rejection),
        Ok(Framing::Json) => judge.json(record, value),
        Ok(Framing::Avro { schema_id, content_at }) => match schemas.lookup(origin, schema_id) {
            SchemaLookup::Pending => Decoded::NeedsSchema(record),
            SchemaLookup::Unknown => {
                let detail = format!("the registry of region {origin} has no schema with id {schema_id}");
                Decoded::Rejected(record, Rejection::new(Reason::UnknownSchema, detail))
            }
            SchemaLookup::Known(schema) => judge.avro(record, value.slice(content_at..), &schema),
        },
    }
}

struct Judge<'a> {
    origin: &'a Region,
    collections: &'a Collections,
}

impl Judge<'_> {
    fn avro(&self, record: RawRecord, content: Bytes, schema: &WriterSchema) -> Decoded {
        match schema {
            WriterSchema::Ours => {
                let (header, vector_at) = match avro::read_header(&content) {
                    Ok(read) => read,
                    Err(error) => return Decoded::Rejected(record, malformed(error)),
                };
                self.header(record, header, &content, || BodyEncoding::Avro { vector_at })
            }
            WriterSchema::Resolvable(writer) => {
                let mut resolved = match avro::resolve(writer, &content) {
                    Ok(resolved) => resolved,
                    Err(error) => return Decoded::Rejected(record, malformed(error)),
                };
                let body = Box::new(std::mem::take(&mut resolved.body));
                self.header(record, resolved.header(), &content, || BodyEncoding::Decoded(body))
            }
            WriterSchema::Unusable(why) => Decoded::Rejected(record, Rejection::new(Reason::Malformed, why.clone())),
        }
    }

    fn header(&self, record: RawRecord, header: Header<'_>, content: &Bytes, encoding: impl FnOnce() -> BodyEncoding) -> Decoded {
        let op = match header.op {
            WireOp::Upsert => Op::Upsert,
            WireOp::Delete => Op::Delete,
            WireOp::Heartbeat => return self.heartbeat(record, header, content, encoding()),
        };
        let judged = self.key(header.collection, WrittenId::Text(header.vector_id)).and_then(|key| {
            self.check_origin(header.origin)?;
            Ok(key)
        });
        let key = match judged {
            Ok(key) => key,
            Err(rejection) => return Decoded::Rejected(record, rejection),
        };
        let version = Version { hlc: header.hlc, origin: self.origin.clone(), sequence: header.sequence };
        let body = EncodedBody { content: content.clone(), encoding: encoding() };
        Decoded::Change(Change { op, key, version, record, body })
    }

    fn heartbeat(&self, record: RawRecord, header: Header<'_>, content: &Bytes, encoding: BodyEncoding) -> Decoded {
        if let Err(rejection) = self.check_origin(header.origin) {
            return Decoded::IgnoredHeartbeat(record, rejection.detail);
        }
        match read_body(content, &encoding) {
            Ok(body) => {
                Decoded::Heartbeat(Heartbeat { origin: self.origin.clone(), hlc: header.hlc, record, metadata: body.metadata })
            }
            Err(rejection) => Decoded::Rejected(record, rejection),
        }
    }

    fn json(&self, record: RawRecord, content: Bytes) -> Decoded {
        let change = match json::read(&content, record.appended_at) {
            Ok(change) => change,
            Err(error) => return Decoded::Rejected(record, malformed(error)),
        };
        let key = match self.key(&change.collection, change.vector_id()) {
            Ok(key) => key,
            Err(rejection) => return Decoded::Rejected(record, rejection),
        };
        let version = Version { hlc: change.hlc, origin: self.origin.clone(), sequence: ContentHash::of(&content).0 };
        let body = EncodedBody { content, encoding: BodyEncoding::Decoded(Box::new(change.body)) };
        Decoded::Change(Change { op: change.op, key, version, record, body })
    }

    fn key(&self, collection: &str, id: WrittenId<'_>) -> Result<RowKey, Rejection> {
        let Some(found) = self.collections.find(collection) else {
            let detail = format!("collection {} is not in the configuration", excerpt(collection));
            return Err(Rejection::new(Reason::UnknownCollection, detail));
        };
        Ok(RowKey { collection: found, id: parse_id(self.collections.get(found).id, id)? })
    }

    fn check_origin(&self, written: &str) -> Result<(), Rejection> {
        if written == self.origin.as_str() && !written.is_empty() && written.len() <= ORIGIN_BYTES_MAX {
            return Ok(());
        }
        let detail = format!("origin {} on the topic of region {}", excerpt(written), self.origin);
        Err(Rejection::new(Reason::ForeignOrigin, detail))
    }
}

/// Reads a winner's vector and metadata: `vector` is cleared and filled with `spec.dimension` finite floats,
/// `metadata` with one JSON object.
///
/// Of a delete only the encoding is judged (a body that is cut short is malformed, whatever its op); what it
/// carries is ignored, and both outputs are left empty.
pub fn decode_row(
    change: &Change,
    spec: &CollectionSpec,
    vector: &mut Vec<f32>,
    metadata: &mut Vec<u8>,
) -> Result<(), Rejection> {
    let mut entries = MetaEntries::new();
    match &change.body.encoding {
        BodyEncoding::Avro { vector_at } => {
            avro::read_row(&change.body.content, *vector_at, vector, &mut entries).map_err(malformed::<AvroError>)?;
        }
        BodyEncoding::Decoded(body) => {
            vector.clear();
            vector.extend_from_slice(&body.vector);
            entries.extend(body.metadata.iter().map(|(key, value)| (key.as_str(), value.into())));
        }
    }
    if change.op == Op::Delete {
        vector.clear();
        metadata.clear();
        return Ok(());
    }
    check_vector(vector, spec)?;
    metadata::normalize(&mut entries);
    metadata::check_finite(&entries)?;
    metadata::check_keys(&entries)?;
    metadata::write_json(&entries, metadata)
}

/// A change's vector and metadata as written, unjudged but for their encoding: for those who write the change
/// again (a replay with a new stamp) or show it.
pub fn decode_body(change: &Change) -> Result<Body, Rejection> {
    read_body(&change.body.content, &change.body.encoding)
}

fn read_body(content: &[u8], encoding: &BodyEncoding) -> Result<Body, Rejection> {
    match encoding {
        BodyEncoding::Avro { vector_at } => avro::read_body(content, *vector_at).map_err(malformed),
        BodyEncoding::Decoded(body) => Ok((**body).clone()),
    }
}

fn check_vector(vector: &[f32], spec: &CollectionSpec) -> Result<(), Rejection> {
    if vector.len() != spec.dimension {
        let detail = format!("{} dimensions; collection {:?} has {}", vector.len(), spec.name, spec.dimension);
        return Err(Rejection::new(Reason::BadDimension, detail));
    }
    // A pass without a branch per float; the place is looked for only where there is something to tell.
    let finite = vector.iter().fold(true, |finite, float| finite & float.is_finite());
    if finite {
        return Ok(());
    }
    let place = vector.iter().position(|float| !float.is_finite()).unwrap_or_default();
    Err(Rejection::new(Reason::NotFinite, format!("vector[{place}] is {}", vector[place])))
}

fn malformed<E: std::fmt::Display>(error: E) -> Rejection {
    Rejection::new(Reason::Malformed, error.to_string())
}

#[cfg(test)]
mod tests;

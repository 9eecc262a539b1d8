//! From a message to a [`Change`] whose header is good, or to the reason why not; and from a winner's
//! encoded body to a row.
//!
//! The order of the checks is part of the contract, since every region must refuse alike: size, null value,
//! framing, writer schema, header (of another writer's Avro and of JSON: the whole body), collection, id,
//! origin; then, for a winner, the body's encoding to its last byte, dimension, finiteness of vector and
//! metadata, metadata keys, metadata size. A loser's body is never looked at.

use crate::base::ids::{Region, RowKey};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::record::avro::{self, Header, WireOp};
use crate::record::change::{Body, BodyEncoding, Change, EncodedBody, Heartbeat, MetaValue, Op};
use crate::record::collection::{CollectionSpec, Collections, ORIGIN_BYTES_MAX};
use crate::record::framing::{Framing, framing};
use crate::record::id::{WrittenId, excerpt, parse_id};
use crate::record::json;
use crate::record::metadata::{self, MetaEntries};
use crate::record::raw::RawRecord;
use crate::record::reason::{Reason, Rejection};
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use crate::record::size;
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

/// Reads the header and judges size, framing, collection, id and origin, in that order (an id's form depends on its
/// collection). `origin` is the region that the record's topic stands for.
pub fn decode(record: RawRecord, origin: &Region, collections: &Collections, schemas: &mut dyn SchemaSource) -> Decoded {
    let judge = Judge { origin, collections };
    match judge.record(&record, schemas) {
        Ok(Read::Change { op, key, version, body }) => Decoded::Change(Change { op, key, version, record, body }),
        Ok(Read::Heartbeat { hlc, metadata }) => Decoded::Heartbeat(Heartbeat { origin: origin.clone(), hlc, record, metadata }),
        Err(Stop::Reject(rejection)) => Decoded::Rejected(record, rejection),
        Err(Stop::Ignore(why)) => Decoded::IgnoredHeartbeat(record, why),
        Err(Stop::NeedsSchema) => Decoded::NeedsSchema(record),
    }
}

/// What a good record says.
enum Read {
    Change { op: Op, key: RowKey, version: Version, body: EncodedBody },
    Heartbeat { hlc: Hlc, metadata: Vec<(String, MetaValue)> },
}

/// Why there is nothing to be had from a record.
enum Stop {
    Reject(Rejection),
    Ignore(String),
    NeedsSchema,
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Stop::Reject(rejection)
    }
}

struct Judge<'a> {
    origin: &'a Region,
    collections: &'a Collections,
}

impl Judge<'_> {
    fn record(&self, record: &RawRecord, schemas: &mut dyn SchemaSource) -> Result<Read, Stop> {
        size::judge(record)?;
        let Some(value) = &record.value else {
            return Err(Rejection::new(Reason::NullValue, "the record has no value").into());
        };
        match framing(value)? {
            Framing::Json => self.json(value, record.appended_at),
            Framing::Avro { schema_id, content_at } => match schemas.lookup(self.origin, schema_id) {
                SchemaLookup::Known(schema) => self.avro(value, content_at, &schema),
                SchemaLookup::Pending => Err(Stop::NeedsSchema),
                SchemaLookup::Unknown => {
                    let detail = format!("the registry of region {} has no schema with id {schema_id}", self.origin);
                    Err(Rejection::new(Reason::UnknownSchema, detail).into())
                }
            },
        }
    }

    fn avro(&self, value: &Bytes, content_at: usize, schema: &WriterSchema) -> Result<Read, Stop> {
        let content = &value[content_at..];
        match schema {
            WriterSchema::Ours => {
                let (header, vector_at) = avro::read_header(content).map_err(malformed)?;
                self.header(header, value, content_at, || BodyEncoding::Avro { vector_at })
            }
            WriterSchema::Resolvable(writer) => {
                let mut resolved = avro::resolve(writer, content).map_err(malformed)?;
                let body = Box::new(std::mem::take(&mut resolved.body));
                self.header(resolved.header(), value, content_at, || BodyEncoding::Decoded(body))
            }
            WriterSchema::Unusable(why) => Err(Rejection::new(Reason::Malformed, why.clone()).into()),
        }
    }

    fn header(
        &self,
        header: Header<'_>,
        value: &Bytes,
        content_at: usize,
        encoding: impl FnOnce() -> BodyEncoding,
    ) -> Result<Read, Stop> {
        let op = match header.op {
            WireOp::Upsert => Op::Upsert,
            WireOp::Delete => Op::Delete,
            WireOp::Heartbeat => return self.heartbeat(header, &value[content_at..], &encoding()),
        };
        let key = self.key(header.collection, WrittenId::Text(header.vector_id))?;
        self.check_origin(header.origin)?;
        let version = Version { hlc: header.hlc, origin: self.origin.clone(), sequence: header.sequence };
        let body = EncodedBody { content: value.slice(content_at..), encoding: encoding() };
        Ok(Read::Change { op, key, version, body })
    }

    fn heartbeat(&self, header: Header<'_>, content: &[u8], encoding: &BodyEncoding) -> Result<Read, Stop> {
        self.check_origin(header.origin).map_err(|rejection| Stop::Ignore(rejection.detail))?;
        Ok(Read::Heartbeat { hlc: header.hlc, metadata: read_body(content, encoding)?.metadata })
    }

    fn json(&self, value: &Bytes, appended_at: UnixMs) -> Result<Read, Stop> {
        let change = json::read(value, appended_at).map_err(malformed)?;
        let key = self.key(&change.collection, change.vector_id())?;
        let version = Version { hlc: change.hlc, origin: self.origin.clone(), sequence: ContentHash::of(value).0 };
        let body = EncodedBody { content: value.clone(), encoding: BodyEncoding::Decoded(Box::new(change.body)) };
        Ok(Read::Change { op: change.op, key, version, body })
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
            avro::read_row(&change.body.content, *vector_at, vector, &mut entries).map_err(malformed)?;
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

//! Offering a dead letter again: with its own version while that is still admissible, otherwise, if the operator
//! wants it so, with a new stamp that makes it the newest write.
//!
//! A change enters through the change topic of its own origin alone; so a dead letter of a mirror is replayed
//! in its origin's region, where it lies as well.

use super::DeadLetter;
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::HlcClock;
use crate::merge::version::Version;
use crate::port::admin::RegistryAdmin;
use crate::port::log::Append;
use crate::processor::admit::EARLY_MS_MAX;
use crate::record::avro::{self, Fields, WireOp};
use crate::record::change::{Change, Op};
use crate::record::collection::Collections;
use crate::record::decode::{self, Decoded};
use crate::record::framing::frame;
use crate::record::headers;
use crate::record::raw::RawRecord;
use crate::record::reason::Reason;
use crate::record::schema::{SchemaLookup, SchemaSource};
use crate::region::partitioner::partition_for_key;
use crate::region::topics::TopicNames;
use crate::store::row_key;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// A change as it is to be appended, and what it is in the merge's eyes.
#[derive(Debug)]
pub struct Offer {
    pub append: Append,
    pub version: Version,
    /// Its row key in the versions changelog, and where that lies.
    pub row_key: Bytes,
    pub changelog: TopicPartition,
}

/// What is to be done with one dead letter, and why.
#[derive(Debug)]
pub enum Decision {
    /// Bytes unchanged, under its proper key.
    AsItIs(Offer),
    /// The same content with a new version.
    Restamped(Offer),
    /// Its own version is not admissible any more; only a new stamp would do.
    NeedsNewStamp(String),
    /// It came by a mirror: to be replayed where it was written.
    ElsewhereOnly(Region),
    /// It would only become a dead letter again.
    StillRefused(String),
}

/// What all decisions of one run need.
pub struct Replay<'a> {
    pub region: Region,
    pub peers: &'a [Region],
    pub names: &'a TopicNames,
    pub partitions: i32,
    pub collections: &'a Collections,
    pub max_lateness_ms: i64,
    /// Give what is too late, or too early, a new stamp.
    pub restamp: bool,
    pub now: UnixMs,
    pub clock: HlcClock,
    /// Makes the versions of two replays differ; the upper 16 bits of the sequence.
    pub writer: u16,
    /// This region's id of our own schema, for what is written anew.
    pub schema_id: u32,
    pub schemas: RegistrySchemas<'a>,
    pub issued: u64,
}

impl Replay<'_> {
    pub fn decide(&mut self, letter: &DeadLetter) -> Result<Decision> {
        if letter.reason == Reason::TooLarge.code() {
            let why = format!("its value was too large to be kept ({}): have a smaller one written", letter.detail);
            return Ok(Decision::StillRefused(why));
        }
        let Some(shard) = self.names.shard_of_local(&letter.source.topic) else {
            return Ok(self.not_local(letter));
        };
        let record = RawRecord {
            topic: letter.source.topic.clone(),
            partition: letter.source.partition,
            offset: letter.source_offset,
            appended_at: letter.appended_at,
            ..letter.record.clone()
        };
        let decoded = decode::decode(record, &self.region, self.collections, &mut self.schemas);
        self.schemas.fail_if_unreached()?;
        let change = match decoded {
            Decoded::Change(change) => change,
            Decoded::Rejected(_, rejection) => return Ok(Decision::StillRefused(rejection.to_string())),
            Decoded::Heartbeat(_) | Decoded::IgnoredHeartbeat(..) | Decoded::NeedsSchema(_) => {
                return Ok(Decision::StillRefused("it is not a change".to_owned()));
            }
        };
        let spec = self.collections.get(change.key.collection);
        if let Err(rejection) = decode::decode_row(&change, spec, &mut Vec::new(), &mut Vec::new()) {
            return Ok(Decision::StillRefused(rejection.to_string()));
        }
        let lateness_ms = self.now.since_ms(change.version.hlc.wall());
        if (-EARLY_MS_MAX..=self.max_lateness_ms).contains(&lateness_ms) {
            let value = letter.record.value.clone().unwrap_or_default();
            let version = change.version.clone();
            return Ok(Decision::AsItIs(self.offer(letter, shard, &change, version, value)));
        }
        if !self.restamp {
            let direction = if lateness_ms < 0 { "ahead of" } else { "behind" };
            let away = humantime::format_duration(std::time::Duration::from_secs(lateness_ms.unsigned_abs() / 1000));
            return Ok(Decision::NeedsNewStamp(format!("its stamp is {away} {direction} now")));
        }
        let (version, value) = self.encode_anew(&change)?;
        Ok(Decision::Restamped(self.offer(letter, shard, &change, version, value.into())))
    }

    /// The record's own headers go with it, ours of the dead letter don't.
    fn offer(&self, letter: &DeadLetter, shard: u16, change: &Change, version: Version, value: Bytes) -> Offer {
        let id = change.key.id.to_string();
        let partition = partition_for_key(id.as_bytes(), self.partitions);
        let headers = letter.record.headers.iter().filter(|(name, _)| !name.starts_with(headers::PREFIX)).cloned().collect();
        let to = TopicPartition::new(self.names.local(shard), partition);
        Offer {
            append: Append { to, key: Some(id.into()), value: Some(value), headers },
            version,
            row_key: row_key::encode(&change.key, self.collections).into(),
            changelog: TopicPartition::new(self.names.versions_changelog(shard), partition),
        }
    }

    fn not_local(&self, letter: &DeadLetter) -> Decision {
        for peer in self.peers {
            if (0..self.names.shards()).any(|shard| self.names.mirror(peer, shard) == letter.source.topic) {
                return Decision::ElsewhereOnly(peer.clone());
            }
        }
        if (0..self.names.shards()).any(|shard| self.names.repair(shard) == letter.source.topic) {
            return Decision::StillRefused(
                "a resync brought it: mend what its reason says, and run `driftless resync` again".to_owned(),
            );
        }
        Decision::StillRefused(format!("{} is not a change topic of this configuration", letter.source.topic))
    }

    /// The same op, vector and metadata, stamped now: the newest write of its key unless somebody's clock is ahead.
    fn encode_anew(&mut self, change: &Change) -> Result<(Version, Vec<u8>)> {
        let body = decode::decode_body(change).map_err(|rejection| Error::refuse(rejection.to_string()))?;
        self.issued += 1;
        let sequence = u64::from(self.writer) << 48 | self.issued;
        let version = Version { hlc: self.clock.stamp(self.now), origin: self.region.clone(), sequence };
        let fields = Fields {
            op: match change.op {
                Op::Upsert => WireOp::Upsert,
                Op::Delete => WireOp::Delete,
            },
            hlc: version.hlc,
            origin: version.origin.as_str(),
            sequence,
            collection: &self.collections.get(change.key.collection).name,
            vector_id: &change.key.id.to_string(),
            vector: &body.vector,
            metadata: &body.metadata,
        };
        let value = frame(self.schema_id, &avro::encode(&fields));
        Ok((version, value))
    }
}

/// This region's registry as a source of writer schemas: each asked for once, waiting for the answer.
pub struct RegistrySchemas<'a> {
    registry: &'a mut dyn RegistryAdmin,
    known: HashMap<u32, SchemaLookup>,
    unreached: Option<Error>,
}

impl<'a> RegistrySchemas<'a> {
    pub fn new(registry: &'a mut dyn RegistryAdmin) -> Self {
        Self { registry, known: HashMap::new(), unreached: None }
    }

    fn fail_if_unreached(&mut self) -> Result<()> {
        self.unreached.take().map_or(Ok(()), Err)
    }
}

impl SchemaSource for RegistrySchemas<'_> {
    fn lookup(&mut self, _origin: &Region, id: u32) -> SchemaLookup {
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let found = match self.registry.by_id(id) {
            Ok(Some(text)) => SchemaLookup::Known(Arc::new(avro::writer_schema(&text))),
            Ok(None) => SchemaLookup::Unknown,
            Err(error) => {
                self.unreached = Some(error);
                return SchemaLookup::Pending;
            }
        };
        self.known.insert(id, found.clone());
        found
    }
}

#[cfg(test)]
mod tests;

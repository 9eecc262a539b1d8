//! What the logs still hold of the past: every change that a region was offered, and every one that won.
//!
//! - A **setting** is what reading needs to know of a region.
//! - A **statement** is what one record says of one row key: a change, or (in the vectors changelog) that a delete has
//!   been forgotten. Statements are judged as the engine judges them, by the record alone.
//! - [`progress`] follows how far the workers are.
//!
//! Records are read one partition at a time and visited one by one: what is kept of them is the caller's business.

pub mod progress;
pub mod schemas;

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::version::{ContentHash, Version};
use crate::ops::work::Work;
use crate::port::admin::LogAdmin;
use crate::port::log::LogReader;
use crate::processor::admit::{inadmissible, well_keyed};
use crate::record::change::{Change, Op};
use crate::record::collection::Collections;
use crate::record::decode::{Decoded, decode};
use crate::record::headers;
use crate::record::raw::RawRecord;
use crate::record::reason::Rejection;
use crate::record::schema::SchemaSource;
use crate::region::topics::TopicNames;
use crate::store::entry::{FORGOTTEN_HEADER, parse_version_text};
use crate::store::row_key;
use std::sync::Arc;
use std::time::Duration;

/// Clocks of brokers and producers may differ by so much, and nothing is looked for in the wrong place.
pub const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(10 * 60);
/// Reads in a row that may bring nothing; each waits a short moment.
const EMPTY_READS_MAX: usize = 1_000;
/// A wanted record that lies so much further on is gone to directly.
const READ_THROUGH_MAX: i64 = 20_000;

/// What a region's logs are read with.
#[derive(Debug, Clone)]
pub struct Setting {
    pub region: Region,
    pub peers: Vec<Region>,
    pub names: TopicNames,
    pub partitions: i32,
    pub collections: Arc<Collections>,
    pub max_lateness_ms: i64,
}

/// A topic that tells of changes, with the region whose changes it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeTopic {
    pub name: Arc<str>,
    pub origin: Region,
}

/// What one record says of one row key.
#[derive(Debug, Clone)]
pub struct Statement {
    pub key: RowKey,
    pub version: Version,
    /// None: a delete that has been forgotten, of which the version alone is known.
    pub change: Option<Change>,
}

impl Statement {
    pub fn is_delete(&self) -> bool {
        self.change.as_ref().is_none_or(|change| change.op == Op::Delete)
    }

    pub fn hash(&self) -> ContentHash {
        self.change.as_ref().map_or(ContentHash(0), Change::content_hash)
    }
}

/// What a record of a change topic turned out to be.
#[derive(Debug)]
pub enum Judged {
    Admitted(Change),
    /// Good, but not under its own key: its region appends it again.
    MisKeyed(Change),
    Refused(Option<Change>, Rejection),
    Heartbeat,
}

/// Reads the logs of one region.
pub struct History<'a> {
    pub setting: &'a Setting,
    pub reader: &'a mut dyn LogReader,
    pub schemas: &'a mut dyn SchemaSource,
}

impl History<'_> {
    /// The change topics of a shard that are there: the own one, then the mirrors.
    pub fn change_topics(&mut self, shard: u16) -> Result<Vec<ChangeTopic>> {
        let (names, region) = (&self.setting.names, &self.setting.region);
        let own = ChangeTopic { name: names.local(shard), origin: region.clone() };
        self.check(&own.name)?;
        let mut topics = vec![own];
        for peer in &self.setting.peers {
            let name = names.mirror(peer, shard);
            if self.reader.partition_count(&name)?.is_some() {
                self.check(&name)?;
                topics.push(ChangeTopic { name, origin: peer.clone() });
            }
        }
        Ok(topics)
    }

    /// Is the topic there, with as many partitions as all the others?
    pub fn check(&mut self, topic: &str) -> Result<()> {
        let wanted = self.setting.partitions;
        match self.reader.partition_count(topic)? {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(Error::refuse(format!("topic {topic} has {found} partitions, [topics] partitions = {wanted}"))),
            None => Err(Error::refuse(format!("topic {topic} is not there; `driftless topics create` makes it"))),
        }
    }

    /// Visits every record from `from` to the end that the partition has now, which is the answer.
    pub fn read(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        work: &mut Work<'_>,
        visit: &mut dyn FnMut(&mut dyn SchemaSource, RawRecord) -> Result<()>,
    ) -> Result<i64> {
        self.read_until(partition, from, i64::MAX, work, visit)
    }

    /// The same, but no further than `until`.
    pub fn read_until(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        until: i64,
        work: &mut Work<'_>,
        visit: &mut dyn FnMut(&mut dyn SchemaSource, RawRecord) -> Result<()>,
    ) -> Result<i64> {
        let bounds = self.reader.bounds(partition)?;
        let (from, end) = (from.max(bounds.first), bounds.end.min(until));
        if from < end {
            self.reader.open(partition, from)?;
            let schemas = &mut *self.schemas;
            let read = read_to(self.reader, partition, from, end, work, &mut |record| visit(schemas, record));
            self.reader.close();
            read?;
        }
        Ok(end.max(from))
    }

    /// Visits the records at these offsets, which ascend; fails if one of them is gone.
    pub fn fetch(
        &mut self,
        partition: &TopicPartition,
        offsets: &[i64],
        work: &mut Work<'_>,
        visit: &mut dyn FnMut(&mut dyn SchemaSource, &mut Work<'_>, RawRecord) -> Result<()>,
    ) -> Result<()> {
        let first = self.reader.bounds(partition)?.first;
        if let Some(lost) = offsets.first().filter(|offset| **offset < first) {
            return Err(gone(partition, *lost));
        }
        let mut wanted = offsets.iter().copied().peekable();
        let mut position = i64::MIN;
        let mut empty_reads = 0;
        let mut records = Vec::new();
        while let Some(next) = wanted.peek().copied() {
            if position > next {
                return Err(gone(partition, next));
            }
            if position < next.saturating_sub(READ_THROUGH_MAX) {
                self.reader.open(partition, next)?;
                position = next;
            }
            work.go_on()?;
            let read = self.reader.read(&mut records)?;
            empty_reads = if read > position { 0 } else { empty_reads + 1 };
            if empty_reads > EMPTY_READS_MAX {
                return Err(silent(partition, position));
            }
            position = read;
            for record in records.drain(..) {
                let Some(next) = wanted.peek() else { break };
                if record.offset > *next {
                    return Err(gone(partition, *next));
                }
                if record.offset == *next {
                    wanted.next();
                    visit(self.schemas, work, record)?;
                }
            }
        }
        self.reader.close();
        Ok(())
    }

    pub fn judge(&mut self, record: RawRecord, origin: &Region) -> Result<Judged> {
        judge(self.setting, self.schemas, record, origin)
    }

    pub fn winner(&mut self, record: RawRecord) -> Result<Option<Statement>> {
        winner(self.setting, self.schemas, record)
    }
}

fn read_to(
    reader: &mut dyn LogReader,
    partition: &TopicPartition,
    from: i64,
    end: i64,
    work: &mut Work<'_>,
    visit: &mut dyn FnMut(RawRecord) -> Result<()>,
) -> Result<()> {
    let mut records = Vec::new();
    let (mut position, mut empty_reads) = (from, 0);
    while position < end {
        let next = reader.read(&mut records)?;
        empty_reads = if next > position { 0 } else { empty_reads + 1 };
        if empty_reads > EMPTY_READS_MAX {
            return Err(silent(partition, position));
        }
        work.advance(next.min(end).saturating_sub(position).max(0) as u64)?;
        position = next;
        for record in records.drain(..).filter(|record| record.offset < end) {
            visit(record)?;
        }
    }
    Ok(())
}

fn silent(partition: &TopicPartition, position: i64) -> Error {
    Error::retry(format!("{partition} gives nothing at offset {position}; is its leader up?"))
}

fn gone(partition: &TopicPartition, offset: i64) -> Error {
    Error::refuse(format!(
        "{partition} no longer holds offset {offset}: compaction or retention has removed it since it was planned; run the command again"
    ))
}

/// A record of a change topic, judged up to the merge as the engine does.
pub fn judge(setting: &Setting, schemas: &mut dyn SchemaSource, record: RawRecord, origin: &Region) -> Result<Judged> {
    match decode(record, origin, &setting.collections, schemas) {
        Decoded::Change(change) => Ok(match inadmissible(change.lateness_ms(), setting.max_lateness_ms) {
            Some(rejection) => Judged::Refused(Some(change), rejection),
            None if well_keyed(&change, setting.partitions) => Judged::Admitted(change),
            None => Judged::MisKeyed(change),
        }),
        Decoded::Rejected(_, rejection) => Ok(Judged::Refused(None, rejection)),
        Decoded::Heartbeat(_) | Decoded::IgnoredHeartbeat(..) => Ok(Judged::Heartbeat),
        Decoded::NeedsSchema(record) => Err(needs_schema(&record, origin)),
    }
}

/// A record of the vectors changelog. None: it is of no row that is configured, or cannot be read.
pub fn winner(setting: &Setting, schemas: &mut dyn SchemaSource, record: RawRecord) -> Result<Option<Statement>> {
    let Some(key) = record.key.as_deref().and_then(|key| row_key::parse(key, &setting.collections).ok()) else {
        return Ok(None);
    };
    if record.value.is_none() {
        let forgotten = record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text);
        return Ok(forgotten.map(|version| Statement { key, version, change: None }));
    }
    let written_by = record.header_text(headers::ORIGIN).map(Region::new);
    let appended_at = record.header_text(headers::APPENDED_AT).and_then(|text| text.parse().ok()).map(UnixMs);
    // Its own key and headers were judged when it came; those that it has here are ours.
    let bare = RawRecord { key: None, headers: Vec::new(), appended_at: appended_at.unwrap_or(record.appended_at), ..record };
    // What an older worker wrote does not name its origin: its content does, unless it is JSON.
    let candidates = match written_by {
        Some(origin) => vec![origin],
        None => std::iter::once(&setting.region).chain(&setting.peers).cloned().collect(),
    };
    for origin in candidates {
        match decode(bare.clone(), &origin, &setting.collections, schemas) {
            Decoded::Change(change) if change.key == key => {
                return Ok(Some(Statement { key, version: change.version.clone(), change: Some(change) }));
            }
            Decoded::NeedsSchema(record) => return Err(needs_schema(&record, &origin)),
            _ => {}
        }
    }
    Ok(None)
}

fn needs_schema(record: &RawRecord, origin: &Region) -> Error {
    Error::retry(format!(
        "{}[{}] offset {} cannot be read while the registry of {origin} is out of reach; see [regions.{origin}]",
        record.topic, record.partition, record.offset
    ))
}

/// The earliest instant of which everything is still there: compaction leaves a key's last record alone, and of the
/// others what is younger than `min.compaction.lag.ms`.
pub fn retained_since(admin: &mut dyn LogAdmin, setting: &Setting, now: UnixMs) -> Result<UnixMs> {
    let topics: Vec<Arc<str>> = (0..setting.names.shards()).map(|shard| setting.names.vectors_changelog(shard)).collect();
    let described = admin.describe(&topics)?;
    let mut lag_ms = i64::MAX;
    for topic in &topics {
        let missing = || Error::refuse(format!("topic {topic} is not there; `driftless topics create` makes it"));
        let settings = &described.get(topic).ok_or_else(missing)?.settings;
        let lag = settings.get("min.compaction.lag.ms").and_then(|text| text.parse::<i64>().ok());
        lag_ms = lag_ms.min(lag.unwrap_or(0));
    }
    Ok(UnixMs(now.0.saturating_sub(lag_ms).max(0)).plus(CLOCKS_DIFFER_MAX))
}

/// `2026-07-28T10:15:00.123Z`.
pub fn instant(at: UnixMs) -> String {
    let since_epoch = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since_epoch).to_string()
}

#[cfg(test)]
mod tests;

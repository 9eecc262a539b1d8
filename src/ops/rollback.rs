//! Undoing what was written after an instant, everywhere: for each row that it changed, the greatest change that is not
//! undone is written once more, as a new change that every region follows.
//!
//! - **T** is the instant that is gone back to, **R** the one at which the roll-back began. What is stamped in (T, R)
//!   and matches the filter is *undone*; what is stamped at R or later stays, and wins.
//! - A **compensation** is the change that puts a row back. All carry the stamp R, so whatever is written meanwhile
//!   wins, and this region's own origin, so that they need no exemption anywhere.
//!
//! Decide, then act: a [`Plan`] is computed from the logs alone and changes nothing; [`Rollback::carry_out`] does what
//! it says. Who does it twice writes nothing the second time, since rows are compared by content.

mod decide;
pub mod job;
mod plan;
mod write;

pub use plan::{Plan, Sample};

use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, Region, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::ops::history::progress::{ProgressFollower, frontier_passed, wait_applied};
use crate::ops::history::{History, Statement, instant};
use crate::ops::work::Work;
use crate::port::log::{Append, Appender};
use crate::record::avro::{self, Fields, WireOp};
use crate::record::change::{Body, Change, MetaValue};
use crate::record::decode::decode_body;
use crate::record::framing::frame;
use crate::record::headers;
use crate::region::partitioner::partition_for_key;
use crate::store::row_key;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use write::Ended;

/// What is to be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Undo {
    /// T.
    pub to: UnixMs,
    /// R: what is stamped at it or later stays.
    pub until: Hlc,
    /// Of these collections alone; none means all.
    pub collections: Vec<CollectionId>,
    /// Written in this region alone.
    pub origin: Option<Region>,
    /// With all of these in their metadata.
    pub marked: Vec<(String, String)>,
    /// Changes of the change topics that are older count only as far as the vectors changelog has them: a delete that
    /// has been forgotten since may have beaten them.
    pub proven_since: UnixMs,
}

impl Undo {
    /// As far as can be told without reading the metadata.
    fn may_undo(&self, key: &RowKey, version: &Version) -> bool {
        let after = Hlc::new(self.to, u16::MAX);
        version.hlc > after && version.hlc < self.until && self.concerns(key, version)
    }

    fn concerns(&self, key: &RowKey, version: &Version) -> bool {
        let collection = self.collections.is_empty() || self.collections.contains(&key.collection);
        collection && self.origin.as_ref().is_none_or(|origin| *origin == version.origin)
    }

    fn undoes(&self, said: &Statement) -> bool {
        self.may_undo(&said.key, &said.version) && self.is_marked(said.change.as_ref())
    }

    fn is_marked(&self, change: Option<&Change>) -> bool {
        if self.marked.is_empty() {
            return true;
        }
        let Some(Ok(body)) = change.map(decode_body) else { return false };
        let has = |wanted: &(String, String)| {
            body.metadata.iter().rev().find(|(name, _)| *name == wanted.0).is_some_and(|(_, value)| text_of(value) == wanted.1)
        };
        self.marked.iter().all(has)
    }
}

/// As one would type it.
fn text_of(value: &MetaValue) -> String {
    match value {
        MetaValue::Null => "null".to_owned(),
        MetaValue::Bool(value) => value.to_string(),
        MetaValue::Long(value) => value.to_string(),
        MetaValue::Double(value) => value.to_string(),
        MetaValue::Text(value) => value.clone(),
    }
}

/// How compensations are written.
#[derive(Debug, Clone)]
pub struct Scribe {
    /// R, or a later one where R is not admissible any more: the last of those that were used.
    pub stamps: Vec<Hlc>,
    /// The upper 16 bits of the sequence: tells this roll-back's changes from everybody else's.
    pub writer: u16,
    /// This region's id of our own schema.
    pub schema_id: u32,
    pub to: UnixMs,
}

impl Scribe {
    fn stamp(&self) -> Hlc {
        self.stamps.last().copied().unwrap_or_default()
    }

    /// Is it one of this roll-back's own changes?
    fn wrote(&self, version: &Version, region: &Region) -> bool {
        version.origin == *region && (version.sequence >> 48) as u16 == self.writer && self.stamps.contains(&version.hlc)
    }

    /// The same for the same row and stamp, so that a repetition is a duplicate. No body: a delete.
    fn compensation(&self, history: &crate::ops::history::Setting, shard: u16, key: &RowKey, body: Option<&Body>) -> Append {
        let id = key.id.to_string();
        let empty = Body::default();
        let row_key = row_key::encode(key, &history.collections);
        let sequence = u64::from(self.writer) << 48 | xxhash_rust::xxh3::xxh3_64(&row_key) >> 16;
        let content = avro::encode(&Fields {
            op: if body.is_some() { WireOp::Upsert } else { WireOp::Delete },
            hlc: self.stamp(),
            origin: history.region.as_str(),
            sequence,
            collection: &history.collections.get(key.collection).name,
            vector_id: &id,
            vector: &body.unwrap_or(&empty).vector,
            metadata: &body.unwrap_or(&empty).metadata,
        });
        let partition = partition_for_key(id.as_bytes(), history.partitions);
        let back_to = (Arc::from(headers::ROLLED_BACK_TO), Some(Bytes::from(self.to.to_string())));
        Append {
            to: TopicPartition::new(history.names.local(shard), partition),
            key: Some(id.into()),
            value: Some(frame(self.schema_id, &content).into()),
            headers: vec![back_to].into(),
        }
    }
}

/// Bytes of a record as they are sent, but for the framing of batches and their compression.
fn bytes_of(append: &Append) -> u64 {
    let headers: usize = append.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len)).sum();
    (append.key.as_ref().map_or(0, Bytes::len) + append.value.as_ref().map_or(0, Bytes::len) + headers) as u64
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub restored: u64,
    pub deleted: u64,
    pub bytes: u64,
}

pub struct Rollback {
    pub undo: Undo,
    pub scribe: Scribe,
    /// How long to wait for others while nothing gets better.
    pub patience: Duration,
}

impl Rollback {
    /// Waits until all that was appended anywhere up to R is settled here, then plans. Changes nothing.
    pub fn plan(&self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<Plan> {
        let past_r = UnixMs(self.scribe.stamp().wall().0 + 1);
        let setting = history.setting;
        let mut follower = ProgressFollower::new(setting);
        follower.wait(history.reader, work, self.patience, &mut |followed| Ok(frontier_passed(setting, followed, past_r)))?;
        let plan = plan::make(history, &self.undo, &self.scribe, work)?;
        match plan.earliest {
            Some(earliest) if self.undo.to < earliest => Err(Error::refuse(format!(
                "{} is older than everything that is known here, which begins at {}; name a later instant",
                instant(self.undo.to),
                instant(earliest)
            ))),
            _ => Ok(plan),
        }
    }

    /// Appends what the plan says, and waits until it is applied here. A stamp that would not be admissible any more
    /// gives way to a new one: then it is planned again, and what was written since R is left alone. `note_stamps` is
    /// called before the first change with a new stamp is written.
    pub fn carry_out(
        &mut self,
        plan: &Plan,
        history: &mut History<'_>,
        appender: &mut dyn Appender,
        work: &mut Work<'_>,
        note_stamps: &mut dyn FnMut(&[Hlc]) -> Result<()>,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut anew: Option<Plan> = None;
        loop {
            let plan = anew.as_ref().unwrap_or(plan);
            let last_instant = self.last_instant(history.setting.max_lateness_ms);
            let (part, ended) = write::carry_out(plan, &self.scribe, history, appender, work, last_instant)?;
            written.restored += part.restored;
            written.deleted += part.deleted;
            written.bytes += part.bytes;
            if ended == Ended::Done {
                self.wait_applied(plan, history, work)?;
                return Ok(written);
            }
            self.scribe.stamps.push(Hlc::at(work.now()).max(self.scribe.stamp()));
            note_stamps(&self.scribe.stamps)?;
            work.note("the stamp would not be admissible any more: going on with a new one; what was written since stays");
            anew = Some(self.plan(history, work)?);
        }
    }

    /// Until when changes with the present stamp may be appended, with time for the append itself.
    fn last_instant(&self, max_lateness_ms: i64) -> UnixMs {
        let margin_ms = (max_lateness_ms / 4).min(60_000);
        UnixMs(self.scribe.stamp().wall().0 + max_lateness_ms - margin_ms)
    }

    fn wait_applied(&self, plan: &Plan, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        let parts = plan.partitions.iter().filter(|part| !part.is_empty()).map(|part| (part.shard, part.partition));
        wait_applied(history.setting, history.reader, parts, self.patience, work)
    }
}

#[cfg(test)]
mod tests;

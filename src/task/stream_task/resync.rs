//! What a resync brings: records of the repair topic, and its marks.

use super::StreamTask;
use crate::base::time::UnixMs;
use crate::record::decode::{Decoded, decode};
use crate::record::raw::RawRecord;
use crate::record::reason::{Reason, Rejection};
use crate::record::schema::SchemaSource;
use crate::store::progress::Gap;
use crate::task::command::Commands;
use crate::task::completeness::Completeness;
use crate::task::repair_topic::{self, Mark, MarkError};
use std::collections::BTreeMap;

impl StreamTask {
    pub fn is_repair(&self, source: usize) -> bool {
        self.sources[source].repair
    }

    pub fn completeness(&self) -> &Completeness {
        &self.completeness
    }

    /// A source's record, judged as far as its header goes.
    pub(super) fn read_source(&self, source: usize, record: RawRecord, schemas: &mut dyn SchemaSource) -> Decoded {
        let source = &self.sources[source];
        if source.repair {
            repair_topic::read(record, &self.context.collections, schemas)
        } else {
            decode(record, &source.region, &self.context.collections, schemas)
        }
    }

    /// What the vectors changelog keeps of a winner: with the append time that it had at its origin.
    pub(super) fn as_at_its_origin(&self, source: usize, record: &RawRecord) -> RawRecord {
        if self.sources[source].repair { repair_topic::original(record) } else { record.clone() }
    }

    pub(super) fn mark_of_resync(&self, source: usize, record: &RawRecord) -> Option<Result<Mark, MarkError>> {
        if self.sources[source].repair { Mark::read(record) } else { None }
    }

    pub(super) fn take_mark(
        &mut self,
        source: usize,
        record: &RawRecord,
        mark: Result<Mark, MarkError>,
        commands: &mut Commands,
    ) {
        match mark {
            Ok(Mark::Begin { peer }) => {
                tracing::info!(task = %self.context.task, peer, "a resync has begun: nothing is forgotten until it has ended");
                self.completeness.resync_begun(peer);
            }
            Ok(Mark::End { filled, since }) => self.resync_ended(&filled, &since),
            Err(error) => {
                let ticket = self.sources[source].settlement.open(record);
                self.dead_letter("resync", ticket, record, &Rejection::new(Reason::Malformed, error.to_string()), commands);
                return self.release(ticket);
            }
        }
        self.settle_at_once(source, record, "resync-mark");
    }

    /// What the peer knows is known here now, from as far back as the peer knows it.
    fn resync_ended(&mut self, filled: &[Gap], since: &BTreeMap<String, Option<i64>>) {
        self.completeness.resync_ended(filled);
        let left = self.completeness.gaps().len();
        tracing::info!(task = %self.context.task, filled = filled.len(), left, "a resync has ended");
        for source in self.sources.iter_mut().filter(|source| !source.repair) {
            match since.get(source.region.as_str()) {
                Some(None) => source.since = None,
                Some(Some(theirs)) => source.since = source.since.map(|ours| ours.min(UnixMs(*theirs))),
                None => {}
            }
        }
    }
}

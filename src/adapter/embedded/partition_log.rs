//! One partition's records in offset order. Offsets may have holes (control records, compaction) and the
//! log may begin above zero (retention).

use crate::base::time::UnixMs;
use crate::record::raw::RawHeader;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct StoredRecord {
    pub offset: i64,
    pub timestamp: UnixMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RawHeader>,
    /// Set on a null when compaction first meets it: from then on it may be removed.
    removable_from: Option<UnixMs>,
}

/// When compaction may touch what (`min.compaction.lag.ms`, `delete.retention.ms`).
#[derive(Debug, Clone, Copy)]
pub struct Compaction {
    pub min_lag: Duration,
    pub delete_retention: Duration,
}

#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    records: VecDeque<StoredRecord>,
    first: i64,
    end: i64,
}

impl PartitionLog {
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The offset that the next append gets.
    pub fn end(&self) -> i64 {
        self.end
    }

    pub fn append(&mut self, timestamp: UnixMs, key: Option<Bytes>, value: Option<Bytes>, headers: Vec<RawHeader>) -> i64 {
        let offset = self.end;
        self.records.push_back(StoredRecord { offset, timestamp, key, value, headers, removable_from: None });
        self.end += 1;
        offset
    }

    /// Uses up one offset without a record, as a transaction marker does.
    pub fn leave_hole(&mut self) {
        self.end += 1;
    }

    /// Forgets all from `offset` on, as an unclean election does: what comes next takes the same offsets again.
    pub fn lose_end(&mut self, offset: i64) {
        self.end = self.end.min(offset.max(self.first));
        while self.records.back().is_some_and(|record| record.offset >= self.end) {
            self.records.pop_back();
        }
    }

    /// Deletes all below `offset`, as retention and `DeleteRecords` do.
    pub fn delete_below(&mut self, offset: i64) {
        self.first = self.first.max(offset.min(self.end));
        while self.records.front().is_some_and(|record| record.offset < self.first) {
            self.records.pop_front();
        }
    }

    /// Log compaction as Kafka's cleaner does it: of the records older than the lag, the last *offset* of each key
    /// stays, whatever newer ones hold; a null stays for the retention after the first cleaning that met it
    /// (KIP-534). Offsets keep their meaning, so holes remain.
    pub fn compact(&mut self, now: UnixMs, compaction: Compaction) {
        let young = now.minus(compaction.min_lag);
        let cleanable = self.records.iter().position(|record| record.timestamp > young).unwrap_or(self.records.len());
        let mut last = HashMap::new();
        for record in self.records.range(..cleanable) {
            last.insert(record.key.clone(), record.offset);
        }
        let mut kept = VecDeque::with_capacity(self.records.len());
        for (index, mut record) in self.records.drain(..).enumerate() {
            if index < cleanable {
                if last.get(&record.key) != Some(&record.offset) {
                    continue;
                }
                if record.value.is_none() {
                    match record.removable_from {
                        Some(from) if now >= from => continue,
                        Some(_) => {}
                        None => record.removable_from = Some(now.plus(compaction.delete_retention)),
                    }
                }
            }
            kept.push_back(record);
        }
        self.records = kept;
    }

    /// The records at and after `offset`, past any hole.
    pub fn from(&self, offset: i64) -> impl Iterator<Item = &StoredRecord> {
        let start = self.records.partition_point(|record| record.offset < offset);
        self.records.range(start..)
    }

    /// The first offset whose record has a timestamp at or after `at`, else the end.
    pub fn offset_at(&self, at: UnixMs) -> i64 {
        self.records.iter().find(|record| record.timestamp >= at).map_or(self.end, |record| record.offset)
    }
}

//! Keys that were sent a moment ago, and the rows that came for them since. A key that changes a hundred times a second
//! is written ten times: what an upsert costs Milvus is a dead row in a loaded segment, until it compacts.
//!
//! A key that has not been sent of late is never held, so that a lone write goes at once.

use crate::base::ids::RowKey;
use crate::base::time::Now;
use crate::task::items::ItemId;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Keys remembered at most; others are not held.
const KEYS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Hold {
    /// A key is sent again this long after the last time at the earliest; zero holds nothing.
    period: Duration,
    /// Sent within the last period, oldest first, each with its hold's end.
    sent: VecDeque<(Duration, RowKey)>,
    keys: HashMap<RowKey, Held>,
    rows: usize,
}

#[derive(Debug)]
struct Held {
    until: Duration,
    row: Option<ItemId>,
}

impl Hold {
    pub fn new(period: Duration) -> Self {
        Self { period, sent: VecDeque::new(), keys: HashMap::new(), rows: 0 }
    }

    /// Rows that are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The key's row, if it is held.
    pub fn held(&self, key: &RowKey) -> Option<ItemId> {
        self.keys.get(key)?.row
    }

    /// Holds the row of a key that was sent a moment ago; otherwise answers false.
    pub fn take(&mut self, key: &RowKey, row: ItemId, now: Now) -> bool {
        let Some(held) = self.keys.get_mut(key).filter(|held| now.monotonic < held.until) else { return false };
        debug_assert!(held.row.is_none(), "a held row is replaced by a newer one, not joined by it");
        held.row = Some(row);
        self.rows += 1;
        true
    }

    pub fn sent(&mut self, key: RowKey, now: Now) {
        if self.period.is_zero() || self.sent.len() == KEYS_MAX {
            return;
        }
        let until = now.monotonic + self.period;
        self.keys.insert(key.clone(), Held { until, row: None });
        self.sent.push_back((until, key));
    }

    /// One row whose hold is over.
    pub fn release_due(&mut self, now: Now) -> Option<(RowKey, ItemId)> {
        while self.sent.front().is_some_and(|(until, _)| *until <= now.monotonic) {
            let (until, key) = self.sent.pop_front()?;
            if let Some(row) = self.forget(until, &key) {
                return Some((key, row));
            }
        }
        None
    }

    /// The row that is held for longest, though its hold may not be over.
    pub fn release_any(&mut self) -> Option<(RowKey, ItemId)> {
        while self.rows > 0 {
            let (until, key) = self.sent.pop_front()?;
            if let Some(row) = self.forget(until, &key) {
                return Some((key, row));
            }
        }
        None
    }

    /// A key that was sent twice within a period is held until the end of the second one.
    fn forget(&mut self, until: Duration, key: &RowKey) -> Option<ItemId> {
        if self.keys.get(key)?.until != until {
            return None;
        }
        let row = self.keys.remove(key)?.row;
        self.rows -= usize::from(row.is_some());
        row
    }

    /// When a row's hold may be over; there may be none yet at that time.
    pub fn due(&self) -> Option<Duration> {
        self.sent.front().filter(|_| self.rows > 0).map(|(until, _)| *until)
    }
}

//! What may have been undone behind our back, and when to look: rows of requests that got no reply, and all
//! that was written around the moment when the task changed hands uncleanly.
//!
//! A vector store's upsert is unconditional. A request that timed out, or a former owner's, can land after its
//! successors; once the safety window is over none can, and what is there then is compared or written again.
//! What is still to be looked at rides in the progress record, as the offset of the vectors changelog from
//! which on all of it lies: an end before it is done hands it on.

use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Ids read back with one request at most.
const READ_BACK_MAX: usize = 1_000;

/// A range of the vectors changelog, to be written again where it still holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from: i64,
    pub until: i64,
}

/// Ids of one request. Whatever is acknowledged of them lies at or after `from` in the vectors changelog.
#[derive(Debug, Clone)]
pub struct Suspicion {
    pub collection: CollectionId,
    pub ids: Vec<VectorId>,
    pub from: i64,
}

/// When it can be judged, and a number.
pub type SuspicionId = (Duration, u64);

#[derive(Debug, Default)]
pub struct Reassert {
    /// Requests without a reply, by when they can be judged.
    suspects: BTreeMap<SuspicionId, Suspicion>,
    suspicions: u64,
    /// Asked for and not yet answered: kept to know which of them the answer leaves out.
    reading_back: Option<Suspicion>,
    /// The tail around an unclean change of hands: where it begins, and when it may be read.
    window: Option<(i64, Duration)>,
    ranges: VecDeque<Range>,
    read_now: Option<Range>,
    /// Offsets of records whose schema is being asked for, by when to look again.
    deferred: VecDeque<(Duration, i64)>,
    /// Where the rows begin that are in the lanes to be written again.
    held_from: Option<i64>,
    /// A read came to a record that can't be written again yet: not again before then.
    not_before: Duration,
}

impl Reassert {
    /// Everything from this offset of the vectors changelog on is to be written again when the safety window is over.
    pub fn after_unclean_end(&mut self, from: i64, due: Duration) {
        self.window = Some((from, due));
    }

    pub fn suspect(&mut self, suspicion: Suspicion, due: Duration) -> SuspicionId {
        self.suspicions += 1;
        let id = (due, self.suspicions);
        self.suspects.insert(id, suspicion);
        id
    }

    /// A further request of the same batch got no reply: its suspicion is due later, not there twice.
    pub fn suspect_again(&mut self, earlier: SuspicionId, suspicion: Suspicion, due: Duration) -> SuspicionId {
        let from = self.suspects.remove(&earlier).map_or(suspicion.from, |held| held.from.min(suspicion.from));
        self.suspect(Suspicion { from, ..suspicion }, due)
    }

    /// The record at this offset can't be read yet; the others don't wait for it.
    pub fn defer(&mut self, offset: i64, until: Duration) {
        self.deferred.push_back((until, offset));
    }

    /// Rows from this offset on are on their way to be written again.
    pub fn hold(&mut self, from: i64) {
        self.held_from = Some(self.held_from.map_or(from, |held| held.min(from)));
    }

    /// All of them have been written, or overtaken by newer ones.
    pub fn let_go(&mut self) {
        self.held_from = None;
    }

    /// One winner to be written again, by its place in the vectors changelog.
    pub fn repeat(&mut self, offset: i64) {
        match self.ranges.back_mut() {
            Some(last) if last.until == offset => last.until += 1,
            _ => self.ranges.push_back(Range { from: offset, until: offset + 1 }),
        }
    }

    /// The ids to read back now, if a request may go out.
    pub fn next_read_back(&mut self, now: Now) -> Option<(CollectionId, Vec<VectorId>)> {
        let mut first = self.suspects.first_entry()?;
        if self.reading_back.is_some() || first.key().0 > now.monotonic {
            return None;
        }
        let suspicion = first.get_mut();
        let rest = suspicion.ids.split_off(suspicion.ids.len().min(READ_BACK_MAX));
        let ids = std::mem::replace(&mut suspicion.ids, rest);
        let chunk = Suspicion { collection: suspicion.collection, ids, from: suspicion.from };
        if suspicion.ids.is_empty() {
            first.remove();
        }
        let asked = (chunk.collection, chunk.ids.clone());
        self.reading_back = Some(chunk);
        Some(asked)
    }

    /// What the answer to a read-back is about.
    pub fn read_back_done(&mut self) -> Option<Suspicion> {
        self.reading_back.take()
    }

    /// The range to read now, if none is being read. `end` is the end of our own appends.
    pub fn next_range(&mut self, end: i64, now: Now) -> Option<Range> {
        if self.read_now.is_some() || now.monotonic < self.not_before {
            return None;
        }
        if let Some((from, due)) = self.window
            && due <= now.monotonic
        {
            self.window = None;
            if from < end {
                self.ranges.push_back(Range { from, until: end });
            }
        }
        while let Some((until, offset)) = self.deferred.front().copied()
            && until <= now.monotonic
        {
            self.deferred.pop_front();
            self.repeat(offset);
        }
        self.read_now = self.ranges.pop_front();
        self.read_now
    }

    /// A read has come to `next`; the rest of its range, if any, is read next, but not before `not_before`.
    pub fn range_read(&mut self, next: i64, until: i64, not_before: Duration) {
        if let Some(range) = self.read_now.take() {
            self.hold(range.from);
        }
        self.not_before = not_before;
        if next < until {
            self.ranges.push_front(Range { from: next, until });
        }
    }

    /// From where on the vectors changelog would have to be written again, should the task end now.
    pub fn suspect_from(&self) -> Option<i64> {
        let suspects = self.suspects.values().chain(&self.reading_back).map(|suspicion| suspicion.from);
        let ranges = self.ranges.iter().chain(&self.read_now).map(|range| range.from);
        let deferred = self.deferred.iter().map(|(_, offset)| *offset);
        suspects.chain(ranges).chain(deferred).chain(self.window.map(|(from, _)| from)).chain(self.held_from).min()
    }

    /// Nothing is suspected any more: an end now would be a clean one.
    pub fn is_clean(&self) -> bool {
        self.suspect_from().is_none()
    }

    pub fn due(&self) -> Option<Duration> {
        let suspects = self.suspects.keys().next().map(|(due, _)| *due).filter(|_| self.reading_back.is_none());
        let window = self.window.map(|(_, due)| due);
        let ranges = (!self.ranges.is_empty()).then_some(self.not_before);
        let deferred = self.deferred.front().map(|(until, _)| *until);
        let reads = window
            .into_iter()
            .chain(ranges)
            .chain(deferred)
            .filter(|_| self.read_now.is_none())
            .map(|due| due.max(self.not_before));
        suspects.into_iter().chain(reads).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::UnixMs;

    fn at(seconds: u64) -> Now {
        Now { wall: UnixMs(0), monotonic: Duration::from_secs(seconds) }
    }

    #[test]
    fn suspects_are_read_back_when_the_window_is_over_and_one_request_at_a_time() {
        let mut reassert = Reassert::default();
        let ids = (0..1_500).map(VectorId::Int).collect();
        reassert.suspect(Suspicion { collection: CollectionId(2), ids, from: 7 }, Duration::from_secs(30));
        assert!(reassert.next_read_back(at(29)).is_none());
        let (collection, first) = reassert.next_read_back(at(30)).expect("due");
        assert_eq!((collection, first.len()), (CollectionId(2), READ_BACK_MAX));
        assert!(reassert.next_read_back(at(31)).is_none(), "one at a time");
        reassert.read_back_done();
        assert_eq!(reassert.next_read_back(at(31)).map(|(_, ids)| ids.len()), Some(500));
        assert_eq!(reassert.suspect_from(), Some(7), "until it is answered");
        reassert.read_back_done();
        assert!(reassert.is_clean());
    }

    #[test]
    fn the_tail_is_read_up_to_the_end_that_it_has_when_it_is_due() {
        let mut reassert = Reassert::default();
        reassert.after_unclean_end(10, Duration::from_secs(30));
        assert_eq!(reassert.suspect_from(), Some(10));
        assert_eq!(reassert.next_range(15, at(29)), None);
        assert_eq!(reassert.next_range(20, at(30)), Some(Range { from: 10, until: 20 }));
        reassert.range_read(14, 20, Duration::from_secs(31));
        assert_eq!(reassert.next_range(25, at(30)), None, "not before the time that was named");
        assert_eq!(reassert.next_range(25, at(31)), Some(Range { from: 14, until: 20 }));
        reassert.range_read(20, 20, Duration::ZERO);
        assert_eq!(reassert.suspect_from(), Some(10), "until what was read is written");
        reassert.let_go();
        assert!(reassert.is_clean());
    }
}

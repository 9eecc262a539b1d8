//! What may have been undone behind our back, and when to look: rows of requests that got no reply, and all
//! that was written around the moment when the task changed hands uncleanly.
//!
//! A vector store's upsert is unconditional. A request that timed out, or a former owner's, can land after its
//! successors; once the safety window is over none can, and what is there then is compared or written again.

use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::Now;
use std::collections::VecDeque;
use std::time::Duration;

/// Ids read back with one request at most.
const READ_BACK_MAX: usize = 1_000;

/// A range of the vectors changelog, to be written again where it still holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from: i64,
    pub until: i64,
}

#[derive(Debug, Default)]
pub struct Reassert {
    /// Ids of requests without a reply, by when they can be judged.
    suspects: VecDeque<(Duration, CollectionId, VecDeque<VectorId>)>,
    /// The tail around an unclean change of hands: where it begins, and when it may be read.
    window: Option<(i64, Duration)>,
    ranges: VecDeque<Range>,
    reading: bool,
    /// Asked for and not yet answered: kept to know which of them the answer leaves out.
    reading_back: Option<Vec<VectorId>>,
}

impl Reassert {
    /// Everything from this offset of the vectors changelog on is to be written again when the safety window is over.
    pub fn after_unclean_end(&mut self, from: i64, due: Duration) {
        self.window = Some((from, due));
    }

    pub fn suspect(&mut self, collection: CollectionId, ids: impl IntoIterator<Item = VectorId>, due: Duration) {
        self.suspects.push_back((due, collection, ids.into_iter().collect()));
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
        let (due, collection, ids) = self.suspects.front_mut()?;
        if self.reading_back.is_some() || *due > now.monotonic {
            return None;
        }
        let collection = *collection;
        let chunk: Vec<VectorId> = ids.drain(..ids.len().min(READ_BACK_MAX)).collect();
        if ids.is_empty() {
            self.suspects.pop_front();
        }
        self.reading_back = Some(chunk.clone());
        Some((collection, chunk))
    }

    /// The range to read now, if none is being read. `end` is the end of our own appends.
    pub fn next_range(&mut self, end: i64, now: Now) -> Option<Range> {
        if self.reading {
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
        let range = self.ranges.pop_front()?;
        self.reading = true;
        Some(range)
    }

    /// A read has come to `next`; the rest of its range, if any, is read next.
    pub fn range_read(&mut self, next: i64, until: i64) {
        self.reading = false;
        if next < until {
            self.ranges.push_front(Range { from: next, until });
        }
    }

    /// The ids that the answer is about.
    pub fn read_back_done(&mut self) -> Vec<VectorId> {
        self.reading_back.take().unwrap_or_default()
    }

    /// Nothing is suspected any more: an end now would be a clean one.
    pub fn is_clean(&self) -> bool {
        self.suspects.is_empty()
            && self.window.is_none()
            && self.ranges.is_empty()
            && !self.reading
            && self.reading_back.is_none()
    }

    pub fn due(&self) -> Option<Duration> {
        let suspects = self.suspects.front().map(|(due, _, _)| *due).filter(|_| self.reading_back.is_none());
        let window = self.window.map(|(_, due)| due);
        suspects.into_iter().chain(window).min()
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
        reassert.suspect(CollectionId(2), (0..1_500).map(VectorId::Int), Duration::from_secs(30));
        assert!(reassert.next_read_back(at(29)).is_none());
        let (collection, first) = reassert.next_read_back(at(30)).expect("due");
        assert_eq!((collection, first.len()), (CollectionId(2), READ_BACK_MAX));
        assert!(reassert.next_read_back(at(31)).is_none(), "one at a time");
        reassert.read_back_done();
        assert_eq!(reassert.next_read_back(at(31)).map(|(_, ids)| ids.len()), Some(500));
        reassert.read_back_done();
        assert!(reassert.is_clean());
    }

    #[test]
    fn the_tail_is_read_up_to_the_end_that_it_has_when_it_is_due() {
        let mut reassert = Reassert::default();
        reassert.after_unclean_end(10, Duration::from_secs(30));
        assert!(!reassert.is_clean());
        assert_eq!(reassert.next_range(15, at(29)), None);
        assert_eq!(reassert.next_range(20, at(30)), Some(Range { from: 10, until: 20 }));
        reassert.range_read(14, 20);
        assert_eq!(reassert.next_range(25, at(30)), Some(Range { from: 14, until: 20 }));
        reassert.range_read(20, 20);
        assert!(reassert.is_clean());
    }
}

//! A walk through the rows of each collection, page by page, for ever: one for all the tasks of a stream thread.
//!
//! Only here do rows turn up that no task has an entry of. The vector store knows nothing of partitions, so whoever
//! looks for such rows has to read all: a walk for each task would cost as many times the collection as there are
//! partitions, and one for a whole region would need its workers to talk. So each thread walks, and hands each row to
//! the task that its id belongs to, if it holds that task.

use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::Now;
use crate::port::vector::{Page, StoreRequest, StoredVersion};
use crate::task::scrub::ScrubSettings;
use serde::Serialize;
use std::time::Duration;

/// Rows asked for at once.
const PAGE_ROWS: usize = 1_000;
/// After an answer, at least so many times what it took.
const REST_FACTOR: u32 = 9;
/// And at most this: an answer that was under way while the process stood still seems to have taken as long.
const REST_MAX: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long it leaves a thread alone that is busy.
const BUSY_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum State {
    Resting { until: Duration },
    Reading { since: Duration },
}

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WalkReport {
    /// Rows met in the present pass, and of those known how many there should be.
    pub rows: u64,
    pub share: f64,
    pub passes: u64,
    /// When the thread began, and when its last whole pass ended; Unix ms.
    pub began_ms: i64,
    pub ended_ms: Option<i64>,
    /// In the last whole pass: rows without a version, and rows whose ids have another form than their collection's.
    pub unversioned: u64,
    pub misnamed: u64,
}

/// What a page has brought.
#[derive(Debug)]
pub struct Step {
    pub collection: CollectionId,
    /// It is the collection's first.
    pub began: bool,
    pub rows: Vec<StoredVersion>,
    /// The collection is at its end.
    pub ended: Option<CollectionEnd>,
}

#[derive(Debug, Clone, Copy)]
pub struct CollectionEnd {
    /// Rows were met that carry no version.
    pub unversioned: bool,
}

#[derive(Debug)]
pub struct RowWalk {
    settings: ScrubSettings,
    collections: usize,
    state: State,
    collection: usize,
    after: Option<VectorId>,
    /// Rows without a version in this collection, and of both kinds in this pass.
    unversioned_here: u64,
    unversioned: u64,
    misnamed: u64,
    pass_began: Duration,
    backoff: Duration,
    report: WalkReport,
}

impl RowWalk {
    pub fn new(settings: ScrubSettings, collections: usize) -> Self {
        Self {
            settings,
            collections,
            state: State::Resting { until: Duration::ZERO },
            collection: 0,
            after: None,
            unversioned_here: 0,
            unversioned: 0,
            misnamed: 0,
            pass_began: Duration::ZERO,
            backoff: Duration::ZERO,
            report: WalkReport::default(),
        }
    }

    pub fn due(&self) -> Option<Duration> {
        match self.state {
            State::Resting { until } if self.settings.enabled => Some(until),
            _ => None,
        }
    }

    /// What to ask now, if anything is due. `busy`: the thread has better things to do.
    pub fn next(&mut self, now: Now, busy: bool) -> Option<(CollectionId, StoreRequest)> {
        if self.report.began_ms == 0 {
            // Not at once: a thread that has just begun restores.
            (self.report.began_ms, self.pass_began) = (now.wall.0, now.monotonic + self.settings.pass_min / 2);
            self.state = State::Resting { until: self.pass_began };
        }
        let due = self.due().is_some_and(|due| due <= now.monotonic);
        if !due || self.collections == 0 {
            return None;
        }
        if busy {
            self.state = State::Resting { until: now.monotonic + BUSY_WAIT };
            return None;
        }
        self.state = State::Reading { since: now.monotonic };
        let request = StoreRequest::Scan { after: self.after.clone(), limit: PAGE_ROWS };
        Some((CollectionId(self.collection as u16), request))
    }

    /// `known`: how many rows the collections should have, as far as this thread can tell.
    pub fn read(&mut self, page: Page, known: usize, now: Now) -> Option<Step> {
        let State::Reading { since } = self.state else { return None };
        self.backoff = Duration::ZERO;
        let collection = CollectionId(self.collection as u16);
        let met = page.rows.len() + page.misnamed;
        let unversioned = page.rows.iter().filter(|row| row.version.is_none()).count() as u64;
        self.unversioned_here += unversioned;
        self.unversioned += unversioned;
        self.misnamed += page.misnamed as u64;
        self.report.rows += met as u64;
        self.report.share = if known == 0 { 1.0 } else { (self.report.rows as f64 / known as f64).min(1.0) };
        let took = now.monotonic.saturating_sub(since);
        let pace = self.settings.period.mul_f64(met as f64 / 1e6);
        let mut until = (since + pace).max(now.monotonic + (took * REST_FACTOR).min(REST_MAX));
        let began = self.after.is_none();
        self.after = page.next;
        let mut ended = None;
        if self.after.is_none() {
            ended = Some(CollectionEnd { unversioned: self.unversioned_here > 0 });
            self.unversioned_here = 0;
            self.collection += 1;
            if self.collection >= self.collections {
                until = until.max(self.pass_began + self.settings.pass_min);
                self.pass_ended(now, until);
            }
        }
        self.state = State::Resting { until };
        Some(Step { collection, began, rows: page.rows, ended })
    }

    fn pass_ended(&mut self, now: Now, next: Duration) {
        (self.collection, self.pass_began) = (0, next);
        (self.report.unversioned, self.report.misnamed) = (self.unversioned, self.misnamed);
        (self.unversioned, self.misnamed, self.report.rows) = (0, 0, 0);
        self.report.passes += 1;
        self.report.ended_ms = Some(now.wall.0);
    }

    /// No answer, or a refusal: the same page is asked for again, later.
    pub fn failed(&mut self, now: Now) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.state = State::Resting { until: now.monotonic + self.backoff };
    }

    pub fn report(&self) -> WalkReport {
        self.report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::UnixMs;

    fn at(ms: u64) -> Now {
        Now { wall: UnixMs(1 + ms as i64), monotonic: Duration::from_millis(ms) }
    }

    fn walk() -> RowWalk {
        let settings = ScrubSettings { enabled: true, period: Duration::from_secs(600), pass_min: Duration::from_secs(10) };
        let mut walk = RowWalk::new(settings, 2);
        assert!(walk.next(at(0), false).is_none(), "not at once");
        walk
    }

    fn page(rows: i64, next: Option<i64>) -> Page {
        let rows = (0..rows).map(|id| StoredVersion { id: VectorId::Int(id), version: None });
        Page { rows: rows.collect(), misnamed: 0, next: next.map(VectorId::Int) }
    }

    #[test]
    fn it_goes_through_each_collection_at_its_pace_with_one_request_at_a_time_and_then_begins_again() {
        let mut walk = walk();
        assert!(walk.next(at(4_999), false).is_none());
        assert!(walk.next(at(5_000), true).is_none(), "the thread is busy");
        let (collection, request) = walk.next(at(6_000), false).expect("due");
        assert_eq!(collection, CollectionId(0));
        assert!(matches!(request, StoreRequest::Scan { after: None, .. }));
        assert!(walk.next(at(20_000), false).is_none(), "one request at a time");
        let step = walk.read(page(1_000, Some(999)), 4_000, at(6_010)).expect("asked for");
        assert!(step.began && step.ended.is_none());
        assert_eq!((step.rows.len(), walk.report().share), (1_000, 0.25));
        // A thousand of a million rows in a thousandth of ten minutes.
        assert_eq!(walk.due(), Some(Duration::from_millis(6_600)));
        assert!(matches!(walk.next(at(6_600), false), Some((_, StoreRequest::Scan { after: Some(_), .. }))));
        let step = walk.read(page(0, None), 4_000, at(6_900)).expect("asked for");
        assert!(!step.began && step.ended.expect("the first collection's end").unversioned);
        assert_eq!(walk.due(), Some(Duration::from_millis(6_900 + 9 * 300)), "a slow store is asked less");
        let (collection, _) = walk.next(at(10_000), false).expect("due");
        assert_eq!(collection, CollectionId(1));
        let step = walk.read(page(0, None), 4_000, at(10_001)).expect("asked for");
        assert!(!step.ended.expect("the second one's").unversioned, "of this one alone");
        assert_eq!((walk.report().passes, walk.report().unversioned), (1, 1_000));
        assert_eq!(walk.due(), Some(Duration::from_millis(15_000)), "however few rows there are");
    }

    /// Found by the simulator (scenario `scrub`, seed 5 of its time).
    #[test]
    fn an_answer_that_came_while_the_process_stood_still_does_not_put_it_to_rest_for_long() {
        let mut walk = walk();
        assert!(walk.next(at(5_000), false).is_some());
        walk.read(page(0, None), 4_000, at(65_000)).expect("asked for");
        assert_eq!(walk.due(), Some(Duration::from_secs(65 + 60)));
    }

    #[test]
    fn a_store_that_fails_is_asked_for_the_same_page_again_later_and_later() {
        let mut walk = walk();
        let mut now = 5_000;
        for wait in [1_000, 2_000, 4_000] {
            assert!(walk.next(at(now), false).is_some());
            walk.failed(at(now));
            assert_eq!(walk.due(), Some(Duration::from_millis(now + wait)));
            now += wait;
        }
    }
}

//! The scrubber: does the vector store hold what the versions store says, for ever and at a bounded rate?
//!
//! Two walks feed it. The task's own goes through its entries, page by page, and reads their rows back: it finds what
//! is missing, older, or there although deleted, and its cost is that of the task's keys. The other, one for all the
//! tasks of a thread, goes through the rows of each collection (`stream::row_walk`): it alone meets rows of which no
//! task knows anything, *strangers*, and tells each the task whose partition its id belongs to.
//!
//! ```text
//!             due, not busy                  differences               all written again, or given up
//!   Resting ───────────────► Reading ──────────────────────► Repairing ──────────────────► Resting
//!      ▲                        │ none, or no answer
//!      └────────────────────────┘
//! ```
//!
//! It is memory only: what it has found and not repaired is found again by whoever holds the task next.

use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::Now;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::vector::StoredVersion;
use crate::processor::admit::EARLY_MS_MAX;
use crate::store::entry::Entry;
use crate::store::{Cursor, VersionStore};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Entries looked at with one request.
const PAGE_ENTRIES: usize = 1_000;
/// After an answer, at least so many times what it took: a store that is slow is asked less.
const REST_FACTOR: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(60);
/// A store that fails or throttles is asked again after this, doubled each time up to the other.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long a busy lane is left alone before it is looked at again, and a repair for which there is no room.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// Winners to be written again that lie so near each other in the vectors changelog are read together.
const RANGE_GAP: i64 = 100;
/// So much of the time that a pass may take is planned for: requests take time, and lanes are busy.
const PLANNED: f64 = 0.9;
/// A repair that takes longer than this is left to the next pass.
const REPAIR_MAX: Duration = Duration::from_secs(60);
/// How far beyond the bound of admission a stamp must lie, by this machine's clock, to be nobody's.
const CLOCK_MARGIN_MS: i64 = 120_000;
/// Of a collection's strangers in one walk, so many are deleted, or one in a hundred of the entries: more of them say
/// that it is the entries that are missing.
const STRANGERS_MAX: usize = 10;
const ENTRIES_PER_STRANGER: usize = 100;

/// How fast it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubSettings {
    pub enabled: bool,
    /// A pass over a million rows takes so long, at the fastest; one over others in proportion.
    pub period: Duration,
    /// A pass over however few takes so long.
    pub pass_min: Duration,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { enabled: true, period: Duration::from_secs(600), pass_min: Duration::from_secs(60) }
    }
}

impl ScrubSettings {
    /// How long a pass over so many rows of a region takes.
    pub fn pass(&self, rows: usize) -> Duration {
        let proportion = self.period.as_secs_f64() * rows as f64 / 1e6;
        self.pass_min.max(Duration::from_secs_f64(proportion))
    }
}

/// What a row is, compared with the entry of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    Same,
    Missing,
    /// Written over by something older, or by somebody who gives no version.
    Older,
    /// Newer than the entry. Its change may still be on its way to us: left alone.
    Newer,
    /// Newer than the entry, with a version that no change on its way can have.
    Forged,
    /// There although deleted.
    Undeleted,
    /// There although deleted, and without a version: another's, perhaps to be imported. Left alone.
    Unversioned,
}

impl Finding {
    pub fn word(self) -> &'static str {
        match self {
            Finding::Same => "same",
            Finding::Missing => "missing",
            Finding::Older => "older",
            Finding::Newer => "newer",
            Finding::Forged => "forged",
            Finding::Undeleted => "undeleted",
            Finding::Unversioned => "unversioned",
        }
    }

    pub fn is_repaired(self) -> bool {
        matches!(self, Finding::Missing | Finding::Older | Finding::Forged | Finding::Undeleted)
    }
}

/// Compares a row with the entry that holds its key. Nothing of the key may be under way.
pub fn judge(entry: &Entry, stored: Option<&StoredVersion>, floor: Option<Hlc>, now: Now) -> Finding {
    if entry.refused {
        // What this store refused is not there, and what it had before is of no account.
        return Finding::Same;
    }
    let Some(stored) = stored else {
        return if entry.tombstone { Finding::Same } else { Finding::Missing };
    };
    match &stored.version {
        None if entry.tombstone => Finding::Unversioned,
        None => Finding::Older,
        Some(version) if *version > entry.version => {
            // A former owner's change that we have not read yet, or nobody's.
            if may_still_come(version.hlc, floor, now) { Finding::Newer } else { Finding::Forged }
        }
        Some(_) if entry.tombstone => Finding::Undeleted,
        Some(version) if *version == entry.version => Finding::Same,
        Some(_) => Finding::Older,
    }
}

/// Can a change with this stamp be on its way to us? What lies below the floor we have read, and what lies beyond
/// admission is not admitted.
pub fn may_still_come(hlc: Hlc, floor: Option<Hlc>, now: Now) -> bool {
    let beyond = hlc.wall().since_ms(now.wall) > EARLY_MS_MAX + CLOCK_MARGIN_MS;
    let below = floor.is_some_and(|floor| hlc < floor);
    !beyond && !below
}

/// What a read is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Entries as they were when it was asked.
    Entries(Vec<(VectorId, Version)>),
    /// Rows without an entry, to be deleted if they still are what they were.
    Strangers(Vec<(VectorId, Version)>),
}

impl Question {
    pub fn asked(&self) -> &[(VectorId, Version)] {
        let (Question::Entries(asked) | Question::Strangers(asked)) = self;
        asked
    }
}

#[derive(Debug)]
enum State {
    Resting { until: Duration },
    Reading(Reading),
    Repairing { since: Duration, then: Duration },
}

#[derive(Debug, Clone)]
pub struct Reading {
    pub collection: CollectionId,
    pub question: Question,
    asked_at: Duration,
    /// Entries on the page, asked about or not, and where the next one begins.
    entries: usize,
    next: Option<Cursor>,
}

/// What a walk through a collection's rows has met and nobody here knows.
#[derive(Debug, Default)]
struct Strangers {
    found: Vec<(VectorId, Version)>,
    /// More than are kept.
    more: usize,
    /// The walk has been heard from its beginning: what is counted is all that there is.
    whole: bool,
}

/// How far it has come, for whoever watches.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct ScrubReport {
    /// Of the entries, the share that this pass has looked at.
    pub share: f64,
    /// Whole passes in this life of the task.
    pub passes: u64,
    /// When this life of the task began, and when its last whole pass ended; Unix ms.
    pub began_ms: i64,
    pub ended_ms: Option<i64>,
    /// Rows by what they were found to be, in this life of the task.
    pub found: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub struct Scrub {
    settings: ScrubSettings,
    partitions: usize,
    state: State,
    collection: usize,
    place: Option<Cursor>,
    /// Entries that this pass has passed.
    passed: usize,
    pass_began: Duration,
    backoff: Duration,
    /// By collection.
    strangers: Vec<Strangers>,
    /// Strangers to be read back once more, and deleted.
    condemned: Vec<(CollectionId, Vec<(VectorId, Version)>)>,
    /// Places in the vectors changelog of the winners to be written again, the range of them that is being read, and
    /// when the next one may be.
    wanted: BTreeSet<i64>,
    reading: bool,
    not_before: Duration,
    report: ScrubReport,
}

impl Scrub {
    /// The tasks of the `partitions` begin at different times.
    pub fn new(settings: ScrubSettings, collections: usize, partition: i32, partitions: i32, now: Now) -> Self {
        let partitions = partitions.max(1) as u32;
        let first = now.monotonic + settings.pass_min * (partition.max(0) as u32 % partitions) / partitions;
        Self {
            settings,
            partitions: partitions as usize,
            state: State::Resting { until: first },
            collection: 0,
            place: None,
            passed: 0,
            pass_began: first,
            backoff: Duration::ZERO,
            strangers: (0..collections).map(|_| Strangers::default()).collect(),
            condemned: Vec::new(),
            wanted: BTreeSet::new(),
            reading: false,
            not_before: Duration::ZERO,
            report: ScrubReport { began_ms: now.wall.0, ..ScrubReport::default() },
        }
    }

    pub fn due(&self) -> Option<Duration> {
        match self.state {
            _ if !self.settings.enabled => None,
            State::Resting { until } => Some(until),
            State::Repairing { since, .. } if self.reading => Some(since + REPAIR_MAX),
            State::Repairing { .. } => Some(self.not_before),
            State::Reading(_) => None,
        }
    }

    /// The collection whose rows are to be read next, if a read is due.
    pub fn next_collection(&mut self, now: Now) -> Option<CollectionId> {
        self.end_repair(now);
        let due = matches!(self.state, State::Resting { until } if until <= now.monotonic);
        if !due || !self.settings.enabled || self.strangers.is_empty() {
            return None;
        }
        Some(self.condemned.last().map_or(CollectionId(self.collection as u16), |(collection, _)| *collection))
    }

    fn end_repair(&mut self, now: Now) {
        let State::Repairing { since, then } = self.state else { return };
        if now.monotonic >= since + REPAIR_MAX {
            self.wanted.clear();
            self.reading = false;
        }
        if self.wanted.is_empty() && !self.reading {
            self.state = State::Resting { until: then };
        }
    }

    /// The collection has other things to do.
    pub fn postpone(&mut self, now: Now) {
        self.state = State::Resting { until: now.monotonic + BUSY_WAIT };
    }

    /// What to ask now; `skip` says of which keys something is under way. None: there is nothing to ask about this page.
    pub fn ask(&mut self, store: &dyn VersionStore, now: Now, skip: impl Fn(&VectorId) -> bool) -> Option<Question> {
        let mut reading = match self.condemned.last() {
            Some((collection, strangers)) => Reading {
                collection: *collection,
                question: Question::Strangers(strangers.clone()),
                asked_at: now.monotonic,
                entries: 0,
                next: None,
            },
            None => self.page(store, now),
        };
        if let Question::Entries(entries) = &mut reading.question {
            entries.retain(|(id, _)| !skip(id));
            if entries.is_empty() {
                let until = self.advance(&reading, store.len(), now);
                self.state = State::Resting { until };
                return None;
            }
        }
        let question = reading.question.clone();
        self.state = State::Reading(reading);
        Some(question)
    }

    fn page(&self, store: &dyn VersionStore, now: Now) -> Reading {
        let mut page = Vec::new();
        let collection = CollectionId(self.collection as u16);
        let next = store.page(collection, self.place.as_ref(), PAGE_ENTRIES, &mut page);
        let entries = page.len();
        let asked = page.into_iter().filter(|(_, entry)| !entry.refused).map(|(id, entry)| (id, entry.version)).collect();
        Reading { collection, question: Question::Entries(asked), asked_at: now.monotonic, entries, next }
    }

    /// Goes on behind a page; answers when the next one is due.
    fn advance(&mut self, page: &Reading, known: usize, now: Now) -> Duration {
        if let Question::Strangers(_) = page.question {
            self.condemned.retain(|(collection, _)| *collection != page.collection);
            return now.monotonic;
        }
        self.passed += page.entries;
        self.report.share = if known == 0 { 1.0 } else { (self.passed as f64 / known as f64).min(1.0) };
        let pass = self.settings.pass(known * self.partitions);
        self.place = page.next.clone();
        if self.place.is_some() {
            let share = PAGE_ENTRIES as f64 / known.max(PAGE_ENTRIES) as f64;
            return page.asked_at + pass.mul_f64(share * PLANNED);
        }
        self.collection += 1;
        if self.collection < self.strangers.len() {
            return now.monotonic;
        }
        self.report.passes += 1;
        self.report.ended_ms = Some(now.wall.0);
        let next_pass = (self.pass_began + pass.mul_f64(PLANNED)).max(now.monotonic);
        (self.collection, self.passed, self.pass_began) = (0, 0, next_pass);
        next_pass
    }

    /// An answer has come: what it is about. What it shows is told by [`found`](Self::found) and
    /// [`want`](Self::want); then comes [`judged`](Self::judged).
    pub fn reading(&self) -> Option<Reading> {
        match &self.state {
            State::Reading(reading) => Some(reading.clone()),
            _ => None,
        }
    }

    pub fn found(&mut self, word: &'static str) {
        *self.report.found.entry(word).or_default() += 1;
    }

    /// The winner at this offset of the vectors changelog is to be written again.
    pub fn want(&mut self, offset: i64) {
        self.wanted.insert(offset);
    }

    pub fn judged(&mut self, reading: &Reading, known: usize, now: Now) {
        self.backoff = Duration::ZERO;
        let took = now.monotonic.saturating_sub(reading.asked_at);
        let then = self.advance(reading, known, now).max(now.monotonic + (took * REST_FACTOR).min(REST_MAX));
        self.not_before = now.monotonic;
        self.state = State::Repairing { since: now.monotonic, then };
        self.end_repair(now);
    }

    /// No answer, or a refusal: the same page is asked for again.
    pub fn failed(&mut self, now: Now) {
        if matches!(self.state, State::Reading(_)) {
            self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
            self.state = State::Resting { until: now.monotonic + self.backoff };
        }
    }

    /// The range of the vectors changelog to read now, for rows to be written again.
    pub fn next_range(&mut self, now: Now) -> Option<(i64, i64)> {
        if self.reading || now.monotonic < self.not_before || !matches!(self.state, State::Repairing { .. }) {
            return None;
        }
        let from = *self.wanted.first()?;
        let mut until = from + 1;
        for offset in &self.wanted {
            if *offset >= until + RANGE_GAP {
                break;
            }
            until = offset + 1;
        }
        self.reading = true;
        Some((from, until))
    }

    /// Is the record at this offset to be written again? Asked once.
    pub fn takes(&mut self, offset: i64) -> bool {
        self.wanted.remove(&offset)
    }

    /// A read of a range has come to `next`; there is more if `no_room`. What was not found there is left to the next
    /// pass.
    pub fn range_read(&mut self, next: i64, until: i64, no_room: bool, now: Now) {
        self.reading = next < until && !no_room;
        if no_room {
            self.wanted.insert(next);
            self.not_before = now.monotonic + BUSY_WAIT;
        }
        self.wanted = self.wanted.split_off(&next);
        self.end_repair(now);
    }

    /// A walk through the collection's rows begins.
    pub fn walk_began(&mut self, collection: CollectionId) {
        self.strangers[collection.index()] = Strangers { whole: true, ..Strangers::default() };
    }

    /// A walk through the rows has met one that nobody here knows, and of which no change can come.
    pub fn stranger(&mut self, collection: CollectionId, id: VectorId, version: Version, known: usize) {
        let strangers = &mut self.strangers[collection.index()];
        if strangers.found.len() < STRANGERS_MAX.max(known / ENTRIES_PER_STRANGER) {
            strangers.found.push((id, version));
        } else {
            strangers.more += 1;
        }
    }

    /// A walk through the collection's rows is at its end. Its strangers are deleted, unless they are too many or the
    /// walk has met what tells against it (`spare`). Answers how many are left alone. Of a walk that was under way when
    /// the task began, nobody can say how many there are: the next one tells.
    pub fn walk_ended(&mut self, collection: CollectionId, spare: bool) -> usize {
        let Strangers { found, more, whole } = std::mem::take(&mut self.strangers[collection.index()]);
        if !whole {
            return 0;
        }
        if more > 0 || spare {
            return found.len() + more;
        }
        self.condemned.retain(|(condemned, _)| *condemned != collection);
        if !found.is_empty() {
            self.condemned.push((collection, found));
        }
        0
    }

    pub fn report(&self) -> ScrubReport {
        self.report.clone()
    }
}

#[cfg(test)]
mod tests;

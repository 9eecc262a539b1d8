//! Restoring a task: its versions changelog read to the end that it had when the restore began, greatest
//! version per key ([`image`]), and the progress record that says where each source goes on.
//!
//! A store that was kept is a warm start: only what the log says after its position is read. It is used if it can
//! be known to hold what the log held there ([`StoreOf`]) and if the log still has all that came since.

pub mod image;
pub mod meter;

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TaskId, TopicId, TopicPartition};
use crate::base::time::{Now, UnixMs};
use crate::port::log::{Bounds, LogReader};
use crate::record::collection::Collections;
use crate::store::progress::{Gap, SourceProgress};
use crate::store::{StoreOf, Stores};
use crate::stream::source_check::{Checked, Patience, check};
use crate::stream::tail::Tail;
use crate::task::settings::TaskTopics;
use crate::task::settlement::Mark;
use crate::task::stream_task::{Restored, SourceStart};
use image::{Finished, Image};
use meter::Meter;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What a restore is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub task: TaskId,
    pub life: u32,
    pub topics: TaskTopics,
    /// Own region first: the region and topic of each source.
    pub sources: Vec<(Region, Arc<str>)>,
    pub collections: Arc<Collections>,
    pub stores: Arc<dyn Stores>,
    /// How long a changelog remembers that a key was forgotten (its topic's `delete.retention.ms`).
    pub horizon: Duration,
    pub safety_window: Duration,
    /// Told how far it is.
    pub meter: Arc<Meter>,
    /// Set when nobody waits for it any more.
    pub cancelled: Arc<AtomicBool>,
}

/// A finished restore: the task's state, its partition count, and what an operator should know.
pub struct RestoreResult {
    pub restored: Restored,
    pub partitions: i32,
    pub warnings: Vec<String>,
    /// In this restore: what a standby had read before is not counted.
    pub entries_read: u64,
    /// All before this offset was there already: in a store that was kept, or read by a standby.
    pub warm_from: Option<i64>,
    pub from_standby: bool,
}

/// A restore under way: [`Restore::step`] reads one chunk.
pub struct Restore {
    pub request: RestoreRequest,
    /// What has been read before.
    ahead: Option<Ahead>,
    state: State,
}

/// What a restore need not read: it is built on only if the log still bears it out.
struct Ahead {
    tail: Tail,
    /// What is known of it already, if this restore has read some of it itself.
    begun: Option<Begun>,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it for each restore under way")]
enum State {
    Begin,
    Reading(Reading),
}

struct Reading {
    tail: Tail,
    end: i64,
    partitions: i32,
    begun: Begun,
}

/// How a restore began.
#[derive(Debug, Clone, Default)]
struct Begun {
    warm_from: Option<i64>,
    from_standby: bool,
    entries_before: u64,
    warnings: Vec<String>,
}

impl Begun {
    fn from_standby(tail: &Tail) -> Self {
        let (warm_from, entries_before) = (Some(tail.position()), tail.image.entries_read());
        Self { warm_from, from_standby: true, entries_before, warnings: Vec::new() }
    }
}

impl Restore {
    pub fn new(request: RestoreRequest) -> Self {
        Self { request, ahead: None, state: State::Begin }
    }

    /// It is reading, and holds the reader's position.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// It has nothing to go on from.
    pub fn is_cold(&self) -> bool {
        !self.has_begun() && self.ahead.is_none()
    }

    /// Hands over what a standby has read.
    pub fn go_on_from(&mut self, tail: Tail) {
        self.ahead = Some(Ahead { tail, begun: None });
    }

    /// What has been read so far.
    pub fn into_tail(self) -> Option<Tail> {
        match self.state {
            State::Begin => self.ahead.map(|ahead| ahead.tail),
            State::Reading(reading) => Some(reading.tail),
        }
    }

    /// The same after the log could not be reached: what has been read is not read again, unless that took so long that
    /// the log no longer leads on from there.
    pub fn begin_again(mut self) -> Self {
        if let State::Reading(reading) = std::mem::replace(&mut self.state, State::Begin) {
            self.ahead = Some(Ahead { tail: reading.tail, begun: Some(reading.begun) });
        }
        self
    }

    /// One step; `None` while there is more to do. After a retryable error it is to [begin again](Self::begin_again).
    pub fn step(&mut self, reader: &mut dyn LogReader, now: Now) -> Result<Option<RestoreResult>> {
        let State::Reading(reading) = &mut self.state else {
            self.begin(reader, now)?;
            return Ok(None);
        };
        if reading.tail.position() < reading.end {
            reading.tail.read(reader, reading.end)?;
            let entries = reading.tail.image.entries_read() - reading.begun.entries_before;
            self.request.meter.reach(reading.tail.position(), entries);
            return Ok(None);
        }
        reader.close();
        let around = look_around(&self.request, reader, &reading.tail.image, reading.partitions)?;
        match std::mem::replace(&mut self.state, State::Begin) {
            State::Reading(reading) => Ok(Some(self.finish(reading, around))),
            State::Begin => Err(Error::fatal("a restore ended in a state that it was not in")),
        }
    }

    /// The end is asked for now that the partition is ours: a former owner may have written until a moment ago.
    fn begin(&mut self, reader: &mut dyn LogReader, now: Now) -> Result<()> {
        let (partitions, topic_id) = self.check_topics(reader)?;
        let changelog = self.request.topics.versions_changelog.clone();
        let bounds = reader.bounds(&changelog)?;
        let RestoreRequest { task, collections, stores, horizon, .. } = self.request.clone();
        let of = StoreOf { task, changelog, topic_id, collections, horizon };
        let tail = match self.ahead.as_ref().map(|ahead| &ahead.tail) {
            Some(tail) => match tail.why_not(reader, &of, bounds, now)? {
                None => None,
                Some(why) => {
                    self.ahead = None;
                    let warning = format!("what was read of this task's changelog before is of no use: {why}; it is read anew");
                    Some(Tail::begin_anew(&of, stores.as_ref(), bounds, now, warning)?)
                }
            },
            None => Some(Tail::begin(&of, stores.as_ref(), reader, bounds, now)?),
        };
        if let Some(mut tail) = tail {
            let warnings = tail.warning.take().into_iter().collect();
            let begun = Begun { warm_from: tail.warm_from(), warnings, ..Begun::default() };
            self.ahead = Some(Ahead { tail, begun: Some(begun) });
        }
        if let Some(ahead) = &self.ahead {
            ahead.tail.open(reader)?;
        }
        if let Some(Ahead { tail, begun }) = self.ahead.take() {
            let begun = begun.unwrap_or_else(|| Begun::from_standby(&tail));
            self.request.meter.begin(tail.position(), bounds.end);
            self.state = State::Reading(Reading { tail, end: bounds.end, partitions, begun });
        }
        Ok(())
    }

    /// The local topic's partition count, which the changelogs must have too, and the versions changelog's id.
    fn check_topics(&self, reader: &mut dyn LogReader) -> Result<(i32, Option<TopicId>)> {
        let topics = &self.request.topics;
        let describe = |reader: &mut dyn LogReader, topic: &Arc<str>| {
            let missing = || Error::refuse(format_args!("topic {topic} is not there; `driftless topics create` makes it"));
            reader.describe(topic)?.ok_or_else(missing)
        };
        let partitions = describe(reader, &topics.local.topic)?.partitions;
        let versions = describe(reader, &topics.versions_changelog.topic)?;
        let vectors = describe(reader, &topics.vectors_changelog.topic)?;
        for (changelog, found) in [(&topics.versions_changelog, &versions), (&topics.vectors_changelog, &vectors)] {
            if found.partitions != partitions {
                return Err(Error::refuse(format_args!(
                    "topic {} has {} partitions and {} has {partitions}: they must be equal",
                    changelog.topic, found.partitions, topics.local.topic
                )));
            }
        }
        Ok((partitions, versions.id))
    }

    fn finish(&self, reading: Reading, around: Around) -> RestoreResult {
        let Reading { tail, end, partitions, begun } = reading;
        let Begun { warm_from, from_standby, entries_before, mut warnings } = begun;
        warnings.extend(around.warnings);
        let Finished { mut store, progress, misplaced, forgotten, held_back, entries_read, unreadable } = tail.image.finish();
        if unreadable > 0 {
            warnings.push(format!(
                "{} records of {} can't be read and are passed over",
                unreadable, self.request.topics.versions_changelog
            ));
        }
        store.activate();
        let progress = progress.as_ref();
        let restored = Restored {
            sources: around.sources,
            incomplete: around.incomplete,
            resync_from: progress.and_then(|progress| progress.resync_from.clone()),
            floor: progress.and_then(|progress| progress.floor),
            epoch: progress.map_or(0, |progress| progress.epoch) + 1,
            written_at: progress.map_or(0, |progress| progress.written_at),
            versions_end: end,
            vectors_next: store.vectors_end().clamp(around.vectors.first, around.vectors.end),
            reassert_from: around.reassert_from,
            misplaced,
            forgotten,
            held_back,
            store,
        };
        let entries_read = entries_read - entries_before;
        RestoreResult { restored, partitions, warnings, entries_read, warm_from, from_standby }
    }
}

/// What the other topics have to say once the versions changelog is read.
struct Around {
    sources: Vec<SourceStart>,
    /// What the progress record told of, and what has been deleted since.
    incomplete: Vec<Gap>,
    vectors: Bounds,
    reassert_from: Option<i64>,
    warnings: Vec<String>,
}

fn look_around(request: &RestoreRequest, reader: &mut dyn LogReader, image: &Image, partitions: i32) -> Result<Around> {
    let progress = image.progress();
    let (mut sources, mut warnings) = (Vec::new(), Vec::new());
    let mut incomplete = progress.map_or(Vec::new(), |progress| progress.incomplete.clone());
    for (region, topic) in &request.sources {
        let known = progress.and_then(|progress| progress.sources.iter().find(|source| *source.topic == **topic));
        let checked = check_start(reader, start_of(region, topic, known), known, request.task.partition, partitions)?;
        warnings.extend(checked.warning);
        let settled = known.map_or(0, |known| known.next_offset);
        if checked.start.mark.is_some() && checked.start.next_offset > settled {
            incomplete.push(Gap { topic: topic.to_string(), from: settled, until: checked.start.next_offset });
        }
        sources.push(checked.start);
    }
    let changelog = &request.topics.vectors_changelog;
    let vectors = reader.bounds(changelog)?;
    let is_new = progress.is_none() && image.entries_read() == 0 && image.store().is_empty();
    let reassert_from = match progress.is_some_and(|progress| progress.closed) || is_new {
        true => None,
        false => {
            let tail = tail_begin(reader, changelog, vectors.first, vectors.end, request.safety_window)?;
            let handed_on = progress.and_then(|progress| progress.suspect_from);
            Some(handed_on.map_or(tail, |from| from.min(tail)))
        }
    };
    Ok(Around { sources, incomplete, vectors, reassert_from, warnings })
}

/// Both places that progress remembers are looked at. A topic that was made anew and read past before anybody saw
/// it bears out the later one by itself.
fn check_start(
    reader: &mut dyn LogReader,
    start: SourceStart,
    known: Option<&SourceProgress>,
    partition: i32,
    partitions: i32,
) -> Result<Checked> {
    let confirmed = known.and_then(|source| source.confirmed).filter(|place| place.next_offset != start.next_offset);
    if let Some(place) = confirmed {
        let mark = Some(Mark { appended_at: UnixMs(place.appended_at), fingerprint: place.fingerprint });
        let older = SourceStart { next_offset: place.next_offset, mark, ..start.clone() };
        let checked = check(reader, older, partition, partitions)?;
        if checked.replay {
            return Ok(checked);
        }
    }
    check(reader, start, partition, partitions)
}

fn start_of(region: &Region, topic: &Arc<str>, known: Option<&SourceProgress>) -> SourceStart {
    let mark = known.and_then(|source| {
        let (appended_at, fingerprint) = (source.last_appended_at?, source.last_fingerprint?);
        Some(Mark { appended_at, fingerprint })
    });
    SourceStart {
        region: region.clone(),
        topic: topic.clone(),
        topic_id: known.and_then(|source| source.topic_id.clone()),
        next_offset: known.map_or(0, |source| source.next_offset),
        mark,
        frontier: known.and_then(|source| source.frontier),
        since: known.and_then(|source| source.since),
        present: false,
    }
}

/// Where the vectors changelog's last safety window begins, counted from its last record: by the log's own
/// times, so that no clock of ours decides. An empty one has its whole future there: what is under way from the
/// former owner may land after our own first writes.
fn tail_begin(reader: &mut dyn LogReader, vectors: &TopicPartition, first: i64, end: i64, window: Duration) -> Result<i64> {
    let mut back = 1;
    while end - back >= first {
        reader.open(vectors, end - back)?;
        let mut records = Vec::new();
        let mut patience = Patience::default();
        while reader.read(&mut records)? < end {
            patience.spend(vectors)?;
        }
        reader.close();
        if let Some(last) = records.last() {
            let since = UnixMs(last.appended_at.0).minus(window);
            return Ok(reader.offset_at(vectors, since)?.min(end));
        }
        // Only control records or compacted ones there: look further back, twice as far each time.
        back *= 2;
    }
    Ok(first)
}

//! Restoring a task: its versions changelog read to the end that it had when the restore began, greatest
//! version per key ([`image`]), and the progress record that says where each source goes on.
//!
//! A store that was kept is a warm start: only what the log says after its position is read. It is used if it can
//! be known to hold what the log held there ([`StoreOf`]) and if the log still has all that came since.

pub mod image;
pub mod meter;

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TaskId, TopicPartition};
use crate::base::time::UnixMs;
use crate::port::log::{Bounds, LogReader};
use crate::record::collection::Collections;
use crate::store::progress::SourceProgress;
use crate::store::{Opened, Position, StoreOf, Stores};
use crate::stream::source_check::{Checked, Patience, check};
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
    /// When it was asked for.
    pub now: UnixMs,
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
    pub entries_read: u64,
    /// A store that was kept had all before this offset.
    pub warm_from: Option<i64>,
}

/// A restore under way: [`Restore::step`] reads one chunk.
pub struct Restore {
    pub request: RestoreRequest,
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it for each restore under way")]
enum State {
    Begin,
    Reading(Reading),
}

struct Reading {
    image: Image,
    position: i64,
    end: i64,
    partitions: i32,
    warm_from: Option<i64>,
    warnings: Vec<String>,
}

impl Restore {
    pub fn new(request: RestoreRequest) -> Self {
        Self { request, state: State::Begin }
    }

    /// It is reading, and holds the reader's position.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// One step; `None` while there is more to do. A retryable error may simply be stepped again.
    pub fn step(&mut self, reader: &mut dyn LogReader) -> Result<Option<RestoreResult>> {
        match &mut self.state {
            State::Begin => {
                self.state = State::Reading(self.begin(reader)?);
                Ok(None)
            }
            State::Reading(reading) if reading.position < reading.end => {
                let mut records = Vec::new();
                let next = reader.read(&mut records)?.min(reading.end);
                for record in records.iter().filter(|record| record.offset < reading.end) {
                    reading.image.apply(record)?;
                }
                reading.image.passed(next);
                reading.image.commit()?;
                reading.position = next;
                self.request.meter.reach(next, reading.image.entries_read());
                Ok(None)
            }
            State::Reading(_) => {
                reader.close();
                let State::Reading(reading) = std::mem::replace(&mut self.state, State::Begin) else {
                    return Err(Error::fatal("a restore ended in a state that it was not in"));
                };
                self.finish(reader, reading).map(Some)
            }
        }
    }

    fn begin(&self, reader: &mut dyn LogReader) -> Result<Reading> {
        let changelog = &self.request.topics.versions_changelog;
        let partitions = self.check_topics(reader)?;
        let bounds = reader.bounds(changelog)?;
        let mut warnings = Vec::new();
        let opened = self.open_store(reader, bounds, &mut warnings)?;
        let warm_from = opened.applied.as_ref().map(|applied| applied.position.next_offset);
        let position = warm_from.unwrap_or(bounds.first);
        reader.open(changelog, position)?;
        self.request.meter.begin(position, bounds.end);
        let image = Image::new(self.request.collections.clone(), opened);
        Ok(Reading { image, position, end: bounds.end, partitions, warm_from, warnings })
    }

    /// What was kept, unless the log does not lead on from there.
    fn open_store(&self, reader: &mut dyn LogReader, bounds: Bounds, warnings: &mut Vec<String>) -> Result<Opened> {
        let RestoreRequest { task, topics, collections, stores, horizon, .. } = &self.request;
        let changelog = topics.versions_changelog.clone();
        let topic_id = reader.describe(&changelog.topic)?.and_then(|topic| topic.id);
        let of = StoreOf { task: *task, changelog, topic_id, collections: collections.clone(), horizon: *horizon };
        let mut opened = stores.open(&of)?;
        warnings.extend(opened.warning.take());
        let Some(position) = opened.applied.as_ref().map(|applied| applied.position) else { return Ok(opened) };
        let Some(reason) = self.cannot_go_on(reader, position, bounds)? else { return Ok(opened) };
        warnings.push(format!("the store kept for this task is dropped, and restored from the beginning: {reason}"));
        drop(opened);
        stores.open_empty(&of)
    }

    /// Why reading on from a kept store's position would not lead to what the log means.
    ///
    /// The horizon is measured by the log's own times and by our clock: a log that nobody has written to since is
    /// compacted all the same. A quarter of it is left for the reading.
    fn cannot_go_on(&self, reader: &mut dyn LogReader, position: Position, bounds: Bounds) -> Result<Option<String>> {
        let Position { next_offset, at } = position;
        let changelog = &self.request.topics.versions_changelog;
        if next_offset < bounds.first {
            return Ok(Some(format!("it ends at offset {next_offset}, and {changelog} begins at {} now", bounds.first)));
        }
        if next_offset > bounds.end {
            return Ok(Some(format!("it ends at offset {next_offset}, and {changelog} at {} already", bounds.end)));
        }
        if next_offset == bounds.end {
            return Ok(None);
        }
        let usable = self.request.horizon * 3 / 4;
        let by_clock = self.request.now.since_ms(at) > usable.as_millis() as i64;
        if by_clock || reader.offset_at(changelog, at.plus(usable))? < bounds.end {
            return Ok(Some(format!(
                "it is older than {} s, and {changelog} may have let go of deletes that it has not seen",
                usable.as_secs()
            )));
        }
        Ok(None)
    }

    /// The local topic's partition count; the changelogs must have as many.
    fn check_topics(&self, reader: &mut dyn LogReader) -> Result<i32> {
        let topics = &self.request.topics;
        let count = |reader: &mut dyn LogReader, topic: &Arc<str>| {
            let missing = || Error::refuse(format_args!("topic {topic} is not there; `driftless topics create` makes it"));
            reader.partition_count(topic)?.ok_or_else(missing)
        };
        let partitions = count(reader, &topics.local.topic)?;
        for changelog in [&topics.versions_changelog.topic, &topics.vectors_changelog.topic] {
            let found = count(reader, changelog)?;
            if found != partitions {
                return Err(Error::refuse(format_args!(
                    "topic {changelog} has {found} partitions and {} has {partitions}: they must be equal",
                    topics.local.topic
                )));
            }
        }
        Ok(partitions)
    }

    fn finish(&self, reader: &mut dyn LogReader, reading: Reading) -> Result<RestoreResult> {
        let Reading { image, end, partitions, warm_from, mut warnings, .. } = reading;
        let Finished { mut store, progress, misplaced, forgotten, held_back, entries_read, unreadable } = image.finish();
        let progress = progress.as_ref();
        let mut sources = Vec::new();
        for (region, topic) in &self.request.sources {
            let known = progress.and_then(|progress| progress.sources.iter().find(|source| *source.topic == **topic));
            let checked = check_start(reader, start_of(region, topic, known), known, self.request.task.partition, partitions)?;
            warnings.extend(checked.warning);
            sources.push(checked.start);
        }
        let vectors = &self.request.topics.vectors_changelog;
        let vectors_bounds = reader.bounds(vectors)?;
        let clean =
            progress.is_some_and(|progress| progress.closed) || (progress.is_none() && entries_read == 0 && store.is_empty());
        let reassert_from = match clean {
            true => None,
            false => {
                let tail = tail_begin(reader, vectors, vectors_bounds.first, vectors_bounds.end, self.request.safety_window)?;
                let handed_on = progress.and_then(|progress| progress.suspect_from);
                Some(handed_on.map_or(tail, |from| from.min(tail)))
            }
        };
        if unreadable > 0 {
            warnings.push(format!(
                "{} records of {} can't be read and are passed over",
                unreadable, self.request.topics.versions_changelog
            ));
        }
        store.activate();
        let restored = Restored {
            sources,
            floor: progress.and_then(|progress| progress.floor),
            epoch: progress.map_or(0, |progress| progress.epoch) + 1,
            written_at: progress.map_or(0, |progress| progress.written_at),
            versions_end: end,
            vectors_next: store.vectors_end().clamp(vectors_bounds.first, vectors_bounds.end),
            reassert_from,
            misplaced,
            forgotten,
            held_back,
            store,
        };
        Ok(RestoreResult { restored, partitions, warnings, entries_read, warm_from })
    }
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

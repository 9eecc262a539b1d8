//! Restoring a task: its versions changelog read to the end that it had when the restore began, greatest
//! version per key, and the progress record that says where each source goes on.
//!
//! What the log may hold: entries out of version order (a former owner wrote after it had lost the task),
//! nulls that forget up to a version, several owners' progress records. None of them may be believed just for
//! being the last.

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, RowKey, TaskId, TopicId, TopicPartition};
use crate::base::time::{Now, UnixMs};
use crate::merge::version::Version;
use crate::port::log::{Bounds, LogReader};
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::store::VersionStore;
use crate::store::entry::{Entry, EntryError, FORGOTTEN_HEADER, parse_version_text};
use crate::store::memory::MemoryStore;
use crate::store::progress::{PROGRESS_KEY, Progress, ProgressError, SourceProgress};
use crate::store::row_key;
use crate::stream::source_check::{Checked, Patience, check};
use crate::stream::tail::Tail;
use crate::task::settings::TaskTopics;
use crate::task::settlement::Mark;
use crate::task::stream_task::{Restored, SourceStart};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// So long a null is known: as the changelog keeps it at least (`delete.retention.ms`).
const NULLS_KNOWN: Duration = Duration::from_secs(24 * 3600);
/// Of a restore that goes on from what it has read: each takes half a minute at most, so this is well below a day.
const ATTEMPTS_MAX: u32 = 1_000;
/// Fewer of them are not worth a look.
const FORGOTTEN_MIN: usize = 10_000;

/// What a restore is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub task: TaskId,
    pub life: u32,
    pub topics: TaskTopics,
    /// Own region first: the region and topic of each source.
    pub sources: Vec<(Region, Arc<str>)>,
    pub collections: Arc<Collections>,
    pub safety_window: Duration,
    pub asked_at: Now,
    /// How long the changelog keeps a null: what was read before, and stood still for longer, is read anew.
    pub delete_retention: Duration,
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
    /// It went on from what a standby had read.
    pub warm: bool,
}

/// A restore under way: [`Restore::step`] reads one chunk.
pub struct Restore {
    pub request: RestoreRequest,
    /// What was read before: by a standby, or by this restore until something went wrong.
    warm: Option<Tail>,
    entries_before: u64,
    attempts: u32,
    warnings: Vec<String>,
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it for each restore under way")]
enum State {
    Begin,
    Reading { tail: Tail, end: i64, partitions: i32 },
}

impl Restore {
    pub fn new(request: RestoreRequest) -> Self {
        Self { request, warm: None, entries_before: 0, attempts: 0, warnings: Vec::new(), state: State::Begin }
    }

    /// It has nothing to go on from.
    pub fn is_cold(&self) -> bool {
        !self.has_begun() && self.warm.is_none()
    }

    /// What a standby has read: it is built on only if the log still bears it out.
    pub fn go_on_from(&mut self, tail: Tail) {
        self.entries_before = tail.image.entries_read;
        self.warm = Some(tail);
    }

    /// It is reading, and holds the reader's position.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Reading { .. })
    }

    /// What has been read so far.
    pub fn into_tail(self) -> Option<Tail> {
        match self.state {
            State::Begin => self.warm,
            State::Reading { tail, .. } => Some(tail),
        }
    }

    /// The same after the log could not be reached: what has been read is not read again, but for a log that has been
    /// out of reach for so long that it may have let go of nulls.
    pub fn begin_again(mut self) -> Self {
        self.attempts += 1;
        if let State::Reading { tail, .. } = std::mem::replace(&mut self.state, State::Begin) {
            self.warm = Some(tail);
        }
        if self.attempts.is_multiple_of(ATTEMPTS_MAX) {
            (self.warm, self.entries_before) = (None, 0);
        }
        self
    }

    /// One step; `None` while there is more to do. After a retryable error it is to [begin again](Self::begin_again).
    pub fn step(&mut self, reader: &mut dyn LogReader) -> Result<Option<RestoreResult>> {
        let State::Reading { tail, end, partitions } = &mut self.state else {
            self.begin(reader)?;
            return Ok(None);
        };
        if tail.position() < *end {
            tail.read(reader, *end)?;
            return Ok(None);
        }
        reader.close();
        let ends = look_around(&self.request, reader, &tail.image, *partitions)?;
        let (end, partitions) = (*end, *partitions);
        match std::mem::replace(&mut self.state, State::Begin) {
            State::Reading { tail, .. } => Ok(Some(self.result(tail.image, ends, end, partitions))),
            State::Begin => Err(Error::fatal("a restore ended in a state that it was not in")),
        }
    }

    /// The end is asked for now, with the partition ours: a former owner may have written until a moment ago.
    fn begin(&mut self, reader: &mut dyn LogReader) -> Result<()> {
        let (partitions, topic_id) = self.check_topics(reader)?;
        let changelog = self.request.topics.versions_changelog.clone();
        let bounds = reader.bounds(&changelog)?;
        let doubt = match &self.warm {
            None => None,
            Some(tail) => match tail.doubt(topic_id.as_ref(), bounds, self.request.asked_at, self.request.delete_retention) {
                None => tail.has_lost_its_place(reader, bounds)?,
                doubt => doubt,
            },
        };
        if let Some(why) = doubt {
            self.warnings.push(format!("what a standby had read is of no use: {why}; the changelog is read from its beginning"));
            (self.warm, self.entries_before) = (None, 0);
        }
        if let Some(tail) = &self.warm {
            tail.open(reader)?;
        } else {
            reader.open(&changelog, bounds.first)?;
        }
        let tail = self.warm.take().unwrap_or_else(|| {
            let image = Image::new(self.request.collections.clone());
            Tail::begin(changelog, image, topic_id, bounds.first, self.request.asked_at)
        });
        self.state = State::Reading { tail, end: bounds.end, partitions };
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

    fn result(&mut self, image: Image, ends: Ends, end: i64, partitions: i32) -> RestoreResult {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(ends.warnings);
        let progress = image.progress.as_ref().map(|(progress, _)| progress);
        let restored = Restored {
            sources: ends.sources,
            floor: progress.and_then(|progress| progress.floor),
            epoch: progress.map_or(0, |progress| progress.epoch) + 1,
            written_at: progress.map_or(0, |progress| progress.written_at),
            versions_end: end,
            vectors_next: image.vectors_next.clamp(ends.vectors.first, ends.vectors.end),
            reassert_from: ends.reassert_from,
            misplaced: image.misplaced.into_iter().collect(),
            forgotten: image.put_again.into_iter().collect(),
            store: Box::new(image.store),
        };
        let entries_read = image.entries_read - self.entries_before;
        RestoreResult { restored, partitions, warnings, entries_read, warm: self.entries_before > 0 }
    }
}

/// What the other topics have to say once the versions changelog is read.
struct Ends {
    sources: Vec<SourceStart>,
    vectors: Bounds,
    reassert_from: Option<i64>,
    warnings: Vec<String>,
}

fn look_around(request: &RestoreRequest, reader: &mut dyn LogReader, image: &Image, partitions: i32) -> Result<Ends> {
    let mut warnings = Vec::new();
    let progress = image.progress.as_ref().map(|(progress, _)| progress);
    let mut sources = Vec::new();
    for (region, topic) in &request.sources {
        let known = progress.and_then(|progress| progress.sources.iter().find(|source| *source.topic == **topic));
        let checked = check_start(reader, start_of(region, topic, known), known, request.task.partition, partitions)?;
        warnings.extend(checked.warning);
        sources.push(checked.start);
    }
    let changelog = &request.topics.vectors_changelog;
    let vectors = reader.bounds(changelog)?;
    let clean = progress.is_some_and(|progress| progress.closed) || (progress.is_none() && image.entries_read == 0);
    let reassert_from = match clean {
        true => None,
        false => {
            let tail = tail_begin(reader, changelog, vectors.first, vectors.end, request.safety_window)?;
            let handed_on = progress.and_then(|progress| progress.suspect_from);
            Some(handed_on.map_or(tail, |from| from.min(tail)))
        }
    };
    if image.unreadable > 0 {
        warnings.push(format!(
            "{} records of {} can't be read and are passed over",
            image.unreadable, request.topics.versions_changelog
        ));
    }
    Ok(Ends { sources, vectors, reassert_from, warnings })
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

/// The store as the log tells it, and what the log has in the wrong place.
pub(super) struct Image {
    collections: Arc<Collections>,
    pub(super) store: MemoryStore,
    /// By epoch, then by position.
    progress: Option<(Progress, i64)>,
    /// Up to which version a key was forgotten, as long as nothing newer was put, and when the null was appended: one
    /// that goes on for ever would hold ever more of them, and one that begins finds none that are older.
    forgotten: HashMap<RowKey, (Version, UnixMs)>,
    forgotten_max: usize,
    misplaced: HashSet<RowKey>,
    /// Keys that something older was put for after they had been forgotten, with what was forgotten.
    put_again: HashMap<RowKey, Version>,
    /// The offset after the last vector that an entry names.
    vectors_next: i64,
    pub(super) entries_read: u64,
    unreadable: u64,
}

impl Image {
    pub(super) fn new(collections: Arc<Collections>) -> Self {
        Self {
            store: MemoryStore::new(&collections),
            collections,
            progress: None,
            forgotten: HashMap::new(),
            forgotten_max: FORGOTTEN_MIN,
            misplaced: HashSet::new(),
            put_again: HashMap::new(),
            vectors_next: 0,
            entries_read: 0,
            unreadable: 0,
        }
    }

    pub(super) fn apply(&mut self, record: &RawRecord) -> Result<()> {
        if record.key.as_deref() == Some(PROGRESS_KEY.as_bytes()) {
            return self.apply_progress(record);
        }
        let key = record.key.as_deref().and_then(|key| row_key::parse(key, &self.collections).ok());
        let Some(key) = key else {
            self.unreadable += 1;
            return Ok(());
        };
        self.entries_read += 1;
        match &record.value {
            Some(value) => match Entry::decode(value) {
                Ok(entry) => self.put(key, entry),
                // Without it an older change would win: better no task than a wrong one.
                Err(error @ EntryError::UnknownFormat(_)) => return Err(Error::refuse(error)),
                Err(error) => {
                    tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, %error, "an entry of the versions changelog can't be read");
                    self.unreadable += 1;
                }
            },
            None => {
                if let Some(version) = record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text) {
                    self.forget(key, version, record.appended_at);
                }
            }
        }
        Ok(())
    }

    fn apply_progress(&mut self, record: &RawRecord) -> Result<()> {
        match record.value.as_deref().map(Progress::decode) {
            Some(Ok(progress)) => {
                let newer = self.progress.as_ref().is_none_or(|(held, _)| progress.epoch >= held.epoch);
                if newer {
                    self.progress = Some((progress, record.offset));
                }
            }
            Some(Err(error @ ProgressError::UnknownFormat(_))) => return Err(Error::refuse(error)),
            Some(Err(error)) => {
                tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, %error, "a progress record can't be read");
                self.unreadable += 1;
            }
            None => {}
        }
        Ok(())
    }

    fn put(&mut self, key: RowKey, entry: Entry) {
        if let Some((forgotten, _)) = self.forgotten.get(&key).filter(|(forgotten, _)| entry.version <= *forgotten) {
            self.put_again.insert(key, forgotten.clone());
            return;
        }
        let stamp = |entry: &Entry| (entry.version.clone(), entry.content_hash);
        match self.store.get(&key) {
            Some(held) if stamp(&entry) < stamp(&held) => {
                self.misplaced.insert(key);
            }
            _ => {
                self.misplaced.remove(&key);
                self.forgotten.remove(&key);
                self.vectors_next = self.vectors_next.max(entry.vector_offset + 1);
                self.put_again.remove(&key);
                self.store.put(&key, entry);
            }
        }
    }

    /// A null resets only what is not newer than what it forgets.
    fn forget(&mut self, key: RowKey, version: Version, at: UnixMs) {
        match self.store.get(&key) {
            Some(held) if held.version > version => {
                self.misplaced.insert(key);
            }
            _ => {
                self.misplaced.remove(&key);
                self.put_again.remove(&key);
                self.store.remove(&key);
                let (up_to, last_at) = self.forgotten.entry(key).or_insert_with(|| (version.clone(), at));
                *up_to = version.max(up_to.clone());
                *last_at = at;
                self.let_go_of_old_nulls(at);
            }
        }
    }

    /// By the log's own times, each time that there are twice as many.
    fn let_go_of_old_nulls(&mut self, now: UnixMs) {
        if self.forgotten.len() > self.forgotten_max {
            let kept_from = now.minus(NULLS_KNOWN);
            self.forgotten.retain(|_, (_, at)| *at >= kept_from);
            self.forgotten_max = FORGOTTEN_MIN.max(self.forgotten.len() * 2);
        }
    }
}

//! Restoring a task: its versions changelog read to the end that it had when the restore began, greatest
//! version per key, and the progress record that says where each source goes on.
//!
//! What the log may hold: entries out of version order (a former owner wrote after it had lost the task),
//! nulls that forget up to a version, several owners' progress records. None of them may be believed just for
//! being the last.

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, RowKey, TaskId, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use crate::port::log::LogReader;
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::store::VersionStore;
use crate::store::entry::{Entry, EntryError, FORGOTTEN_HEADER, parse_version_text};
use crate::store::memory::MemoryStore;
use crate::store::progress::{Gap, PROGRESS_KEY, Progress, ProgressError, SourceProgress};
use crate::store::row_key;
use crate::stream::source_check::{Checked, Patience, check};
use crate::task::settings::TaskTopics;
use crate::task::settlement::Mark;
use crate::task::stream_task::{Restored, SourceStart};
use std::collections::{HashMap, HashSet};
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
    pub safety_window: Duration,
    /// Set when nobody waits for it any more.
    pub cancelled: Arc<AtomicBool>,
}

/// A finished restore: the task's state, its partition count, and what an operator should know.
pub struct RestoreResult {
    pub restored: Restored,
    pub partitions: i32,
    pub warnings: Vec<String>,
    pub entries_read: u64,
}

/// A restore under way: [`Restore::step`] reads one chunk.
pub struct Restore {
    pub request: RestoreRequest,
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it for each restore under way")]
enum State {
    Begin,
    Reading { image: Image, position: i64, end: i64, partitions: i32 },
}

impl Restore {
    pub fn new(request: RestoreRequest) -> Self {
        Self { request, state: State::Begin }
    }

    /// It is reading, and holds the reader's position.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Reading { .. })
    }

    /// One step; `None` while there is more to do. A retryable error may simply be stepped again.
    pub fn step(&mut self, reader: &mut dyn LogReader) -> Result<Option<RestoreResult>> {
        let changelog = self.request.topics.versions_changelog.clone();
        match &mut self.state {
            State::Begin => {
                let partitions = self.check_topics(reader)?;
                let bounds = reader.bounds(&changelog)?;
                reader.open(&changelog, bounds.first)?;
                let image = Image::new(self.request.collections.clone());
                self.state = State::Reading { image, position: bounds.first, end: bounds.end, partitions };
                Ok(None)
            }
            State::Reading { image, position, end, .. } if *position < *end => {
                let mut records = Vec::new();
                let next = reader.read(&mut records)?;
                for record in records.iter().filter(|record| record.offset < *end) {
                    image.apply(record)?;
                }
                *position = next;
                Ok(None)
            }
            State::Reading { .. } => {
                reader.close();
                let State::Reading { image, end, partitions, .. } = std::mem::replace(&mut self.state, State::Begin) else {
                    return Err(Error::fatal("a restore ended in a state that it was not in"));
                };
                self.finish(reader, image, end, partitions).map(Some)
            }
        }
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

    fn finish(&self, reader: &mut dyn LogReader, image: Image, end: i64, partitions: i32) -> Result<RestoreResult> {
        let mut warnings = Vec::new();
        let progress = image.progress.as_ref().map(|(progress, _)| progress);
        let mut sources = Vec::new();
        let mut incomplete = progress.map_or(Vec::new(), |progress| progress.incomplete.clone());
        for (region, topic) in &self.request.sources {
            let known = progress.and_then(|progress| progress.sources.iter().find(|source| *source.topic == **topic));
            let checked = check_start(reader, start_of(region, topic, known), known, self.request.task.partition, partitions)?;
            warnings.extend(checked.warning);
            let settled = known.map_or(0, |known| known.next_offset);
            if checked.start.mark.is_some() && checked.start.next_offset > settled {
                incomplete.push(Gap { topic: topic.to_string(), from: settled, until: checked.start.next_offset });
            }
            sources.push(checked.start);
        }
        let vectors = &self.request.topics.vectors_changelog;
        let vectors_bounds = reader.bounds(vectors)?;
        let clean = progress.is_some_and(|progress| progress.closed) || (progress.is_none() && image.entries_read == 0);
        let reassert_from = match clean {
            true => None,
            false => {
                let tail = tail_begin(reader, vectors, vectors_bounds.first, vectors_bounds.end, self.request.safety_window)?;
                let handed_on = progress.and_then(|progress| progress.suspect_from);
                Some(handed_on.map_or(tail, |from| from.min(tail)))
            }
        };
        if image.unreadable > 0 {
            warnings.push(format!(
                "{} records of {} can't be read and are passed over",
                image.unreadable, self.request.topics.versions_changelog
            ));
        }
        let entries_read = image.entries_read;
        let restored = Restored {
            sources,
            incomplete,
            resync_from: progress.and_then(|progress| progress.resync_from.clone()),
            floor: progress.and_then(|progress| progress.floor),
            epoch: progress.map_or(0, |progress| progress.epoch) + 1,
            written_at: progress.map_or(0, |progress| progress.written_at),
            versions_end: end,
            vectors_next: image.vectors_next.clamp(vectors_bounds.first, vectors_bounds.end),
            reassert_from,
            misplaced: image.misplaced.into_iter().collect(),
            forgotten: image.put_again.into_iter().collect(),
            store: Box::new(image.store),
        };
        Ok(RestoreResult { restored, partitions, warnings, entries_read })
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

/// The store as the log tells it, and what the log has in the wrong place.
pub struct Image {
    collections: Arc<Collections>,
    store: MemoryStore,
    /// By epoch, then by position.
    progress: Option<(Progress, i64)>,
    /// Up to which version a key was forgotten, as long as nothing newer was put.
    forgotten: HashMap<RowKey, Version>,
    misplaced: HashSet<RowKey>,
    /// Keys that something older was put for after they had been forgotten, with what was forgotten.
    put_again: HashMap<RowKey, Version>,
    /// The offset after the last vector that an entry names.
    vectors_next: i64,
    entries_read: u64,
    unreadable: u64,
}

impl Image {
    pub fn new(collections: Arc<Collections>) -> Self {
        Self {
            store: MemoryStore::new(&collections),
            collections,
            progress: None,
            forgotten: HashMap::new(),
            misplaced: HashSet::new(),
            put_again: HashMap::new(),
            vectors_next: 0,
            entries_read: 0,
            unreadable: 0,
        }
    }

    pub fn store(&self) -> &dyn VersionStore {
        &self.store
    }

    /// The newest progress record, of the newest owner.
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref().map(|(progress, _)| progress)
    }

    /// Takes the next record of the versions changelog.
    pub fn apply(&mut self, record: &RawRecord) -> Result<()> {
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
                    self.forget(key, version);
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
        if let Some(forgotten) = self.forgotten.get(&key).filter(|forgotten| entry.version <= **forgotten) {
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
    fn forget(&mut self, key: RowKey, version: Version) {
        match self.store.get(&key) {
            Some(held) if held.version > version => {
                self.misplaced.insert(key);
            }
            _ => {
                self.misplaced.remove(&key);
                self.put_again.remove(&key);
                self.store.remove(&key);
                let up_to = self.forgotten.entry(key).or_insert_with(|| version.clone());
                *up_to = version.max(up_to.clone());
            }
        }
    }
}

//! A task's state as its versions changelog tells it, record by record: what a restore reads to the captured end, and
//! what whoever follows the log reads on and on.
//!
//! What the log may hold: entries out of version order (a former owner wrote after it had lost the task), nulls that
//! forget up to a version, several owners' progress records. None of them may be believed just for being the last.
//!
//! What somebody has put in the wrong place must be answered before the log is compacted. Until a task has done that,
//! the store's position stays before it: whoever opens the store next finds it again. That the store holds more than
//! its position says does no harm, since records that were applied before change nothing when they are read again in
//! their order.

use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, Region, RowKey};
use crate::merge::version::Version;
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::store::entry::{Entry, EntryError, FORGOTTEN_HEADER, parse_version_text};
use crate::store::progress::{PROGRESS_KEY, Progress, ProgressError};
use crate::store::{Applied, Opened, Position, Put, VersionStore, row_key};
use std::collections::HashMap;
use std::sync::Arc;

pub struct Image {
    collections: Arc<Collections>,
    store: Box<dyn VersionStore>,
    /// The one of the greatest epoch, and of these the last.
    progress: Option<Progress>,
    /// Keys of which the last record in the log is not what holds them.
    unanswered: HashMap<RowKey, Unanswered>,
    /// None before the first record.
    position: Option<Position>,
    entries_read: u64,
    unreadable: u64,
    /// Of the record before: the next one's are nearly always the same.
    last_collection: Option<CollectionId>,
    last_origin: Region,
}

struct Unanswered {
    position: Position,
    /// The key holds nothing, and was forgotten up to this version; else its entry belongs behind the record.
    forgotten: Option<Version>,
}

/// What is left when the log has been read to its end.
pub struct Finished {
    pub store: Box<dyn VersionStore>,
    pub progress: Option<Progress>,
    /// Keys whose last record is not their greatest: to be appended again.
    pub misplaced: Vec<RowKey>,
    /// Forgotten keys for which something older was put since, with what was forgotten.
    pub forgotten: Vec<(RowKey, Version)>,
    /// Before the first of both.
    pub held_back: Option<Position>,
    pub entries_read: u64,
    pub unreadable: u64,
}

impl Image {
    /// Goes on where the store has got to.
    pub fn new(collections: Arc<Collections>, opened: Opened) -> Self {
        let (position, progress) = match opened.applied {
            Some(applied) => (Some(applied.position), applied.progress),
            None => (None, None),
        };
        Self {
            collections,
            store: opened.store,
            progress,
            unanswered: HashMap::new(),
            position,
            entries_read: 0,
            unreadable: 0,
            last_collection: None,
            last_origin: Region::new(""),
        }
    }

    pub fn store(&self) -> &dyn VersionStore {
        self.store.as_ref()
    }

    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Row keys' records applied so far.
    pub fn entries_read(&self) -> u64 {
        self.entries_read
    }

    pub fn apply(&mut self, record: &RawRecord) -> Result<()> {
        if record.key.as_deref() == Some(PROGRESS_KEY.as_bytes()) {
            self.apply_progress(record)?;
        } else {
            self.apply_entry(record)?;
        }
        self.position = Some(Position { next_offset: record.offset + 1, at: record.appended_at });
        Ok(())
    }

    /// The log has been read up to here: past holes, too, which compaction leaves.
    pub fn passed(&mut self, next_offset: i64) {
        if let Some(position) = &mut self.position {
            position.next_offset = position.next_offset.max(next_offset);
        }
    }

    /// Makes the store keep what was applied, and that it was.
    pub fn commit(&mut self) -> Result<()> {
        let Some(reached) = self.position else { return Ok(()) };
        let position = self.held_back().unwrap_or(reached);
        self.store.commit(&Applied { position, progress: self.progress.clone() })?;
        self.store.check()
    }

    /// All that the log held has been applied.
    pub fn caught_up(&mut self) {
        self.store.caught_up();
    }

    pub fn finish(self) -> Finished {
        let held_back = self.held_back();
        let (mut misplaced, mut forgotten) = (Vec::new(), Vec::new());
        for (key, unanswered) in self.unanswered {
            match unanswered.forgotten {
                Some(up_to) => forgotten.push((key, up_to)),
                None => misplaced.push(key),
            }
        }
        Finished {
            store: self.store,
            progress: self.progress,
            misplaced,
            forgotten,
            held_back,
            entries_read: self.entries_read,
            unreadable: self.unreadable,
        }
    }

    fn held_back(&self) -> Option<Position> {
        self.unanswered.values().map(|unanswered| unanswered.position).min_by_key(|position| position.next_offset)
    }

    fn apply_entry(&mut self, record: &RawRecord) -> Result<()> {
        let near = self.last_collection;
        let key = record.key.as_deref().and_then(|key| row_key::parse_near(key, &self.collections, near).ok());
        let Some(key) = key else {
            self.unreadable += 1;
            return Ok(());
        };
        self.last_collection = Some(key.collection);
        self.entries_read += 1;
        match &record.value {
            Some(value) => match self.decode(value) {
                Ok(entry) => self.put(key, entry, record),
                // Without it an older change would win: better no task than a wrong one.
                Err(error @ EntryError::UnknownFormat(_)) => return Err(Error::refuse(error)),
                Err(error) => {
                    tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, %error, "an entry of the versions changelog can't be read");
                    self.unreadable += 1;
                }
            },
            None => {
                if let Some(version) = record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text) {
                    self.forget(key, &version, record);
                }
            }
        }
        Ok(())
    }

    fn decode(&mut self, value: &[u8]) -> std::result::Result<Entry, EntryError> {
        let last = &self.last_origin;
        let origin = |name: &str| if name == last.as_str() { last.clone() } else { Region::new(name) };
        let entry = Entry::decode_with(value, origin)?;
        if entry.version.origin != *last {
            self.last_origin = entry.version.origin.clone();
        }
        Ok(entry)
    }

    fn apply_progress(&mut self, record: &RawRecord) -> Result<()> {
        match record.value.as_deref().map(Progress::decode) {
            Some(Ok(progress)) if self.progress.as_ref().is_some_and(|held| progress.epoch < held.epoch) => {}
            Some(Ok(progress)) => self.progress = Some(progress),
            Some(Err(error @ ProgressError::UnknownFormat(_))) => return Err(Error::refuse(error)),
            Some(Err(error)) => {
                tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, %error, "a progress record can't be read");
                self.unreadable += 1;
            }
            None => {}
        }
        Ok(())
    }

    fn put(&mut self, key: RowKey, entry: Entry, record: &RawRecord) {
        match self.store.put_newer(&key, entry) {
            Put::Taken => self.answered(&key),
            Put::Older => self.unanswered(key, None, record),
            Put::Forgotten(up_to) => self.unanswered(key, Some(up_to), record),
        }
    }

    /// A null resets only what is not newer than what it forgets.
    fn forget(&mut self, key: RowKey, version: &Version, record: &RawRecord) {
        if self.store.get(&key).is_some_and(|held| held.version > *version) {
            self.unanswered(key, None, record);
        } else {
            self.answered(&key);
            self.store.forget(&key, version);
        }
    }

    /// The key's last record is the one that holds it, or that forgot it.
    fn answered(&mut self, key: &RowKey) {
        if !self.unanswered.is_empty() {
            self.unanswered.remove(key);
        }
    }

    fn unanswered(&mut self, key: RowKey, forgotten: Option<Version>, record: &RawRecord) {
        let position = Position { next_offset: record.offset, at: record.appended_at };
        let unanswered = self.unanswered.entry(key).or_insert(Unanswered { position, forgotten: None });
        unanswered.forgotten = forgotten;
    }
}

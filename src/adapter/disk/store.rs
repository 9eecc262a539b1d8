//! A task's store on disk: what is not written yet lies over the tables, in up to two layers.
//!
//! ```text
//!  put ► pending ──(commit, writer idle)──► in flight ──(written)──► tables
//! ```
//!
//! A new store is filled from its changelog first. Until it has caught up, batches are large and become tables at once,
//! without a journal and a memtable: several times faster, since what is lost with the process is read again.

use super::bytes::{ENTRIES, Known, Mark, State, decode_key, encode_key};
use super::tables::{ENGINE_BYTES, Tables};
use super::writer::{Batch, Work, Writer};
use super::written::Written;
use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, RowKey, TaskId, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::collection::Collections;
use crate::store::entry::Entry;
use crate::store::{Applied, Cursor, Put, StoreOf, VersionStore};
use std::cell::OnceCell;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// Keys that may wait for the writer: past these, a put waits for it.
const PENDING_MAX: usize = 50_000;
/// The same while the store is filled: every batch is a run of tables more that a key is looked for in.
const FILLING_MAX: usize = if cfg!(test) { 1_000 } else { 200_000 };
/// Of one key in `pending` or in flight: key and entry in a hash map that is seven eighths full at best.
const PENDING_BYTES: usize = 192;

/// A key's newest state that is not on disk, and the mark in the index that it leaves behind there.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub known: Known,
    pub stale: Option<Mark>,
}

pub(super) struct DiskStore {
    task: TaskId,
    tables: Tables,
    writer: Writer,
    collections: Arc<Collections>,
    horizon: Duration,
    pending: Batch,
    in_flight: Arc<Batch>,
    /// As it will be with the next batch.
    state: State,
    /// A position was told that is not in a batch yet.
    told: bool,
    /// It was new, and has not caught up: nothing has gone through the journal, which is older than every table made
    /// since and would be read as if it were newer. The keys are those of all batches so far and of what is pending.
    filling: Option<Written>,
    /// Why it can't be used any more. The first one stays.
    fault: OnceCell<String>,
}

impl DiskStore {
    /// `state` is what the tables hold; of empty ones, what there is to say of them.
    pub fn start(tables: Tables, of: &StoreOf, state: State) -> Result<Self> {
        let writer = Writer::start(tables.clone(), of.task)?;
        Ok(Self::with(writer, tables, of, state))
    }

    /// Of empty tables.
    pub fn start_filling(tables: Tables, of: &StoreOf, state: State) -> Result<Self> {
        let mut store = Self::start(tables, of, state)?;
        store.filling = Some(Written::new());
        Ok(store)
    }

    pub fn with(writer: Writer, tables: Tables, of: &StoreOf, state: State) -> Self {
        Self {
            task: of.task,
            tables,
            writer,
            collections: of.collections.clone(),
            horizon: of.horizon,
            pending: Batch::new(),
            in_flight: Arc::default(),
            state,
            told: false,
            filling: None,
            fault: OnceCell::new(),
        }
    }

    fn look(&self, key: &RowKey) -> Option<Known> {
        let not_written = self.pending.get(key).or_else(|| self.in_flight.get(key));
        match not_written {
            Some(pending) => Some(pending.known.clone()),
            None if self.filling.as_ref().is_some_and(|written| !written.may_hold(key)) => None,
            None => self.read(&encode_key(key)),
        }
    }

    fn read(&self, key: &[u8]) -> Option<Known> {
        let read = self.tables.get(key);
        match read.and_then(|bytes| bytes.map(|bytes| Known::decode(&bytes)).transpose()) {
            Ok(known) => known,
            Err(reason) => {
                self.condemn(reason);
                None
            }
        }
    }

    fn set(&mut self, key: &RowKey, known: Known, before: Option<Known>) {
        let held = matches!(before, Some(Known::Entry(_)));
        match (&known, held) {
            (Known::Entry(_), false) => self.state.entries += 1,
            (Known::Forgotten { .. }, true) => self.state.entries -= 1,
            _ => {}
        }
        if let Some(pending) = self.pending.get_mut(key) {
            // The mark on disk is still the one that was there before both.
            pending.known = known;
            return;
        }
        let stale = before.as_ref().and_then(Known::mark);
        self.pending.insert(key.clone(), Pending { known, stale });
        let max = match &mut self.filling {
            Some(written) => {
                written.add(key);
                FILLING_MAX
            }
            None => PENDING_MAX,
        };
        if self.pending.len() >= max && self.is_placed() {
            self.wait_for_writer();
            self.write();
        }
    }

    /// A position is known that what is pending goes with.
    fn is_placed(&self) -> bool {
        self.told || self.state.next_offset > 0
    }

    /// Before the first position nobody knew how late it was.
    fn date_what_was_forgotten(&mut self, now: UnixMs) {
        for pending in self.pending.values_mut() {
            if let Known::Forgotten { at, .. } = &mut pending.known {
                *at = now;
            }
        }
    }

    fn wait_for_writer(&mut self) {
        if let Err(reason) = self.writer.wait() {
            self.fail(reason);
        }
        self.in_flight = Arc::default();
    }

    /// Nothing is written behind a batch that went wrong.
    fn write(&mut self) {
        if self.fault.get().is_some() {
            return;
        }
        self.in_flight = Arc::new(std::mem::take(&mut self.pending));
        self.told = false;
        let expired = UnixMs(self.state.at_ms).minus(self.horizon);
        self.writer.write(Work {
            batch: self.in_flight.clone(),
            state: self.state.clone(),
            expired,
            bulk: self.filling.is_some(),
        });
    }

    /// A write went wrong: the tables are as they were some batches ago, which is a state to start from.
    fn fail(&self, reason: String) {
        self.fault.set(reason).ok();
    }

    /// What was read is not what was written: the tables are to be dropped.
    fn condemn(&self, reason: String) {
        if let Err(error) = fs::write(&*self.tables.unusable, &reason) {
            tracing::error!(task = %self.task, %error, "{} cannot be written: the store will be read again", self.tables.unusable.display());
        }
        self.fail(reason);
    }

    /// Something newer lies in memory over what the tables say.
    fn is_overlaid(&self, key: &RowKey) -> bool {
        self.pending.contains_key(key) || self.in_flight.contains_key(key)
    }

    /// Keys with marks on tombstones below the floor, in the order of their stamps, but for those that are overlaid.
    fn marked_below(&self, floor: Hlc, max: usize) -> std::result::Result<Vec<RowKey>, String> {
        let end = Mark::Tombstone(floor).key(&[]);
        let mut keys = Vec::new();
        let mut damage = None;
        self.tables.scan(&Mark::Tombstone(Hlc(0)).key(&[]), |mark, _| {
            if mark >= end.as_slice() || keys.len() == max {
                return false;
            }
            match decode_key(&Mark::entry_key(mark), &self.collections) {
                Ok(key) if self.is_overlaid(&key) => {}
                Ok(key) => keys.push(key),
                Err(reason) => damage = Some(reason),
            }
            damage.is_none()
        })?;
        damage.map_or(Ok(keys), Err)
    }

    fn visit_written(&self, visit: &mut dyn FnMut(RowKey, Entry)) -> std::result::Result<(), String> {
        let mut damage = None;
        self.tables.scan(ENTRIES, |bytes, value| {
            if !bytes.starts_with(ENTRIES) {
                return false;
            }
            match decode_key(bytes, &self.collections).and_then(|key| Ok((key, Known::decode(value)?))) {
                Ok((key, Known::Entry(entry))) if !self.is_overlaid(&key) => visit(key, entry),
                Ok(_) => {}
                Err(reason) => damage = Some(reason),
            }
            damage.is_none()
        })?;
        damage.map_or(Ok(()), Err)
    }

    /// Entries that are not written yet.
    fn not_written(&self) -> impl Iterator<Item = (&RowKey, &Entry)> {
        let in_flight = self.in_flight.iter().filter(|(key, _)| !self.pending.contains_key(*key));
        self.pending.iter().chain(in_flight).filter_map(|(key, pending)| match &pending.known {
            Known::Entry(entry) => Some((key, entry)),
            Known::Forgotten { .. } => None,
        })
    }
}

impl VersionStore for DiskStore {
    fn get(&self, key: &RowKey) -> Option<Entry> {
        self.look(key).and_then(Known::entry)
    }

    fn put(&mut self, key: &RowKey, entry: Entry) {
        self.state.vectors_end = self.state.vectors_end.max(entry.vector_offset + 1);
        let before = self.look(key);
        self.set(key, Known::Entry(entry), before);
    }

    fn put_newer(&mut self, key: &RowKey, entry: Entry) -> Put {
        let before = self.look(key);
        match &before {
            Some(Known::Forgotten { up_to, .. }) if entry.version <= *up_to => return Put::Forgotten(up_to.clone()),
            Some(Known::Entry(held)) if entry.is_older_than(held) => return Put::Older,
            _ => {}
        }
        self.state.vectors_end = self.state.vectors_end.max(entry.vector_offset + 1);
        self.set(key, Known::Entry(entry), before);
        Put::Taken
    }

    fn forget(&mut self, key: &RowKey, up_to: &Version) -> Option<Entry> {
        let before = self.look(key);
        let up_to = match &before {
            Some(Known::Forgotten { up_to: known, .. }) if known > up_to => known,
            _ => up_to,
        };
        let known = Known::Forgotten { up_to: up_to.clone(), at: UnixMs(self.state.at_ms) };
        self.set(key, known, before.clone());
        before.and_then(Known::entry)
    }

    fn forgotten(&self, key: &RowKey) -> Option<Version> {
        match self.look(key)? {
            Known::Forgotten { up_to, .. } => Some(up_to),
            Known::Entry(_) => None,
        }
    }

    fn len(&self) -> usize {
        self.state.entries as usize
    }

    fn vectors_end(&self) -> i64 {
        self.state.vectors_end
    }

    fn tombstones_below(&self, floor: Hlc, max: usize) -> Vec<(RowKey, Entry)> {
        let below = |entry: &Entry| entry.tombstone && entry.version.hlc < floor;
        let mut found: Vec<(RowKey, Entry)> =
            self.not_written().filter(|(_, entry)| below(entry)).map(|(key, entry)| (key.clone(), entry.clone())).collect();
        match self.marked_below(floor, max) {
            Ok(keys) => {
                let entries = keys.into_iter().filter_map(|key| Some((self.get(&key)?, key)));
                found.extend(entries.filter(|(entry, _)| below(entry)).map(|(entry, key)| (key, entry)));
            }
            Err(reason) => self.condemn(reason),
        }
        found.sort_by_key(|(_, entry)| entry.version.hlc);
        found.truncate(max);
        found
    }

    fn memory_bytes(&self) -> usize {
        let filter_bytes = self.filling.as_ref().map_or(0, Written::memory_bytes);
        ENGINE_BYTES + filter_bytes + (self.pending.len() + self.in_flight.len()) * PENDING_BYTES
    }

    fn disk_bytes(&self) -> u64 {
        self.writer.disk_bytes()
    }

    fn for_each(&self, visit: &mut dyn FnMut(RowKey, Entry)) {
        if let Err(reason) = self.visit_written(visit) {
            self.condemn(reason);
        }
        for (key, entry) in self.not_written() {
            visit(key.clone(), entry.clone());
        }
    }

    /// Goes by the keys' bytes. What lies in memory over a row of the tables is taken in its place; keys that are in memory
    /// alone are younger than the walk.
    fn page(
        &self,
        collection: CollectionId,
        from: Option<&Cursor>,
        max: usize,
        entries: &mut Vec<(VectorId, Entry)>,
    ) -> Option<Cursor> {
        let of_collection = [ENTRIES, &collection.0.to_be_bytes()].concat();
        let start = from.map_or(of_collection.as_slice(), |place| place.0.as_slice());
        let (mut taken, mut next, mut damage) = (0, None, None);
        let scanned = self.tables.scan(start, |bytes, value| {
            if !bytes.starts_with(&of_collection) {
                return false;
            }
            if taken == max {
                next = Some(Cursor(bytes.to_vec()));
                return false;
            }
            taken += 1;
            let read = decode_key(bytes, &self.collections).and_then(|key| {
                let over = self.pending.get(&key).or_else(|| self.in_flight.get(&key));
                let known = over.map_or_else(|| Known::decode(value), |pending| Ok(pending.known.clone()))?;
                Ok((key.id, known))
            });
            match read {
                Ok((id, known)) => entries.extend(known.entry().map(|entry| (id, entry))),
                Err(reason) => damage = Some(reason),
            }
            damage.is_none()
        });
        if let Some(reason) = scanned.err().or(damage) {
            self.condemn(reason);
        }
        next
    }

    /// Where the writer is busy, the position goes with its next batch.
    fn commit(&mut self, applied: &Applied) -> Result<()> {
        if !self.is_placed() {
            self.date_what_was_forgotten(applied.position.at);
        }
        self.state.next_offset = applied.position.next_offset;
        self.state.at_ms = applied.position.at.0;
        self.state.set_progress(applied.progress.as_ref());
        self.told = true;
        match self.writer.poll() {
            Some(Ok(())) => self.in_flight = Arc::default(),
            Some(Err(reason)) => self.fail(reason),
            None => {}
        }
        if !self.writer.is_busy() && self.filling.is_none() {
            self.write();
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        match self.fault.get() {
            None => Ok(()),
            Some(reason) => Err(Error::restore(format_args!("the store of task {} can't be used any more: {reason}", self.task))),
        }
    }

    fn caught_up(&mut self) {
        if self.filling.is_none() {
            return;
        }
        if self.told {
            self.wait_for_writer();
            self.write();
        }
        self.filling = None;
    }

    fn activate(&mut self) {
        self.caught_up();
    }
}

impl Drop for DiskStore {
    /// The last position told is written too. Nobody waits for it.
    fn drop(&mut self) {
        if self.told {
            self.write();
        }
    }
}

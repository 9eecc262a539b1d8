//! A lane: the way of one collection's rows to the vector store. One batch is in flight at most (INV-2), so
//! rows of one key arrive in version order; behind it the next batch fills up and is coalesced by key. A row whose key
//! was sent a moment ago is [held](hold) back, and coalesced for so long.
//!
//! ```text
//!            rows + linger                 acknowledged
//!   Idle ───────────────────► InFlight ───────────────────► Idle
//!                              ▲    │ throttled, unavailable, no reply
//!                     due      │    ▼
//!                              └─ Waiting          refused: halved, both halves queued; one row: refused for good
//! ```

mod hold;

use crate::base::ids::{CollectionId, RowKey};
use crate::base::time::Now;
use crate::port::vector::{RowBatch, StoreError};
use crate::task::items::{Item, ItemId, Items, Write};
use crate::task::reassert::SuspicionId;
use crate::task::settings::TaskSettings;
use hashbrown::HashMap;
use hold::Hold;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The least that a throttled lane shrinks its batches to.
const BATCH_BYTES_MIN: usize = 64 << 10;
/// What an acknowledged batch adds to the size of the next.
const BATCH_BYTES_STEP: usize = 64 << 10;
/// After so many refusals of single rows with none accepted in between, rows are kept and tried again instead.
const REFUSED_IN_A_ROW_MAX: u32 = 32;
/// Tries of a single row then.
const REFUSED_ATTEMPTS_MAX: u32 = 8;
/// A batch that has had no answer for so long holds its lane up.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Batch {
    items: Vec<ItemId>,
    rows: Arc<RowBatch>,
    attempts: u32,
    /// Its keys are among the suspects, under this number.
    suspected: Option<SuspicionId>,
}

#[derive(Debug)]
enum State {
    Idle,
    InFlight { batch: Batch, since: Now },
    Waiting { batch: Batch, until: Duration },
}

/// What became of a batch, for the task to act on.
#[derive(Debug, PartialEq)]
pub enum Settled {
    /// These items are in the vector store.
    Acknowledged { items: Vec<ItemId>, took: Duration },
    /// The vector store refuses this one, in its own words.
    Refused { item: ItemId, words: String },
    /// It will be sent again; if `suspects` it may also still land late.
    Retrying { suspects: bool },
    /// Halved; the halves go out next.
    Halved,
}

#[derive(Debug)]
pub struct Lane {
    pub collection: CollectionId,
    open: Vec<ItemId>,
    open_by_key: HashMap<RowKey, ItemId>,
    open_bytes: usize,
    open_since: Duration,
    hold: Hold,
    held_bytes: usize,
    /// Halves of a refused batch: before anything else.
    halves: VecDeque<Vec<ItemId>>,
    /// Halves of a throttled batch wait until then.
    halves_from: Duration,
    refused_in_a_row: u32,
    state: State,
    batch_bytes: usize,
    batch_bytes_max: usize,
    linger: Duration,
    retry_min: Duration,
    retry_max: Duration,
}

impl Lane {
    pub fn new(collection: CollectionId, settings: &TaskSettings) -> Self {
        Self {
            collection,
            open: Vec::new(),
            open_by_key: HashMap::new(),
            open_bytes: 0,
            open_since: Duration::ZERO,
            hold: Hold::new(settings.hold),
            held_bytes: 0,
            halves: VecDeque::new(),
            halves_from: Duration::ZERO,
            refused_in_a_row: 0,
            state: State::Idle,
            batch_bytes: settings.batch_bytes_max,
            batch_bytes_max: settings.batch_bytes_max,
            linger: settings.linger,
            retry_min: settings.retry_min,
            retry_max: settings.retry_max,
        }
    }

    /// Takes a row. Answers which item carries it, and what it has taken the place of: an older row of the same
    /// key that still waited.
    pub fn push(&mut self, item: Item, items: &mut Items, now: Now) -> (ItemId, Option<Item>) {
        let held = self.hold.held(&item.key);
        if let Some(waiting) = held.or_else(|| self.open_by_key.get(&item.key).copied()) {
            let bytes = if held.is_some() { &mut self.held_bytes } else { &mut self.open_bytes };
            *bytes = *bytes + item.write_bytes() - items.get(waiting).write_bytes();
            let older = items.replace(waiting, item);
            return (waiting, Some(older));
        }
        let (key, bytes) = (item.key.clone(), item.write_bytes());
        let id = items.insert(item);
        if self.hold.take(&key, id, now) {
            self.held_bytes += bytes;
        } else {
            self.open_from(key, id, bytes, now.monotonic);
        }
        (id, None)
    }

    fn open_from(&mut self, key: RowKey, id: ItemId, bytes: usize, since: Duration) {
        if self.open.is_empty() {
            self.open_since = since;
        }
        self.open_bytes += bytes;
        self.open.push(id);
        self.open_by_key.insert(key, id);
    }

    /// Is a row of that key waiting to be sent?
    pub fn waits(&self, key: &RowKey) -> bool {
        self.open_by_key.contains_key(key) || self.hold.held(key).is_some()
    }

    /// The batch to send now, if there is one and none is in flight.
    pub fn next_batch(&mut self, items: &Items, now: Now, draining: bool) -> Option<Arc<RowBatch>> {
        let batch = match std::mem::replace(&mut self.state, State::Idle) {
            State::Waiting { mut batch, until } if now.monotonic >= until => {
                batch.attempts += 1;
                batch
            }
            State::Idle => self.seal(items, now, draining)?,
            busy => {
                self.state = busy;
                return None;
            }
        };
        let rows = batch.rows.clone();
        self.state = State::InFlight { batch, since: now };
        Some(rows)
    }

    fn seal(&mut self, items: &Items, now: Now, draining: bool) -> Option<Batch> {
        if !self.halves.is_empty() && now.monotonic < self.halves_from {
            return None;
        }
        let sealed = match self.halves.pop_front() {
            Some(half) => half,
            None => {
                self.release(items, now, draining);
                if self.open.is_empty() {
                    return None;
                }
                let waited = now.monotonic.saturating_sub(self.open_since);
                if waited < self.linger && self.open_bytes < self.batch_bytes && !draining {
                    return None;
                }
                self.take_open(items, now)
            }
        };
        let rows = Arc::new(columns(&sealed, items));
        Some(Batch { items: sealed, rows, attempts: 0, suspected: None })
    }

    /// Nothing is held on when all of it must go, or when no more is taken in for it: a hold saves writes and may not cost
    /// throughput.
    fn release(&mut self, items: &Items, now: Now, draining: bool) {
        let all = draining || self.is_full();
        loop {
            let released = self.hold.release_due(now);
            let Some((key, id)) = (if all { released.or_else(|| self.hold.release_any()) } else { released }) else { return };
            let bytes = items.get(id).write_bytes();
            self.held_bytes -= bytes;
            // It has waited long enough for company.
            self.open_from(key, id, bytes, now.monotonic.saturating_sub(self.linger));
        }
    }

    /// Takes as many of the waiting rows, oldest first, as one batch may hold (always at least one).
    fn take_open(&mut self, items: &Items, now: Now) -> Vec<ItemId> {
        let mut bytes = 0;
        let mut count = 0;
        for id in &self.open {
            bytes += items.get(*id).write_bytes();
            if count > 0 && bytes > self.batch_bytes {
                break;
            }
            count += 1;
        }
        let rest = self.open.split_off(count);
        let sealed = std::mem::replace(&mut self.open, rest);
        for id in &sealed {
            let item = items.get(*id);
            self.open_bytes -= item.write_bytes();
            if let Some((key, _)) = self.open_by_key.remove_entry(&item.key) {
                self.hold.sent(key, now);
            }
        }
        self.open_since = now.monotonic;
        sealed
    }

    /// Takes the answer to the batch in flight.
    pub fn settle(&mut self, outcome: Result<(), StoreError>, now: Now) -> Option<Settled> {
        if !matches!(self.state, State::InFlight { .. }) {
            return None;
        }
        let State::InFlight { batch, since } = std::mem::replace(&mut self.state, State::Idle) else { return None };
        let error = match outcome {
            Ok(()) => {
                self.batch_bytes = (self.batch_bytes + BATCH_BYTES_STEP).min(self.batch_bytes_max);
                self.refused_in_a_row = 0;
                return Some(Settled::Acknowledged { items: batch.items, took: now.since(since) });
            }
            Err(error) => error,
        };
        match error {
            // A store that refuses one row after the other may have something against the collection, not the
            // rows: each is tried for a while before it is given up. Good ones among them end the suspicion.
            StoreError::Refused(_)
                if batch.items.len() == 1
                    && self.refused_in_a_row >= REFUSED_IN_A_ROW_MAX
                    && batch.attempts < REFUSED_ATTEMPTS_MAX =>
            {
                self.wait(batch, now);
                Some(Settled::Retrying { suspects: false })
            }
            StoreError::Refused(words) if batch.items.len() == 1 => {
                self.refused_in_a_row += 1;
                Some(Settled::Refused { item: batch.items[0], words })
            }
            StoreError::Refused(_) => {
                self.halve(batch);
                Some(Settled::Halved)
            }
            StoreError::Throttled(_) => {
                self.batch_bytes = (self.batch_bytes / 2).max(BATCH_BYTES_MIN);
                // Sent again as large as it is, it might be over the limit for ever.
                if batch.items.len() > 1 && batch.rows.bytes() > self.batch_bytes {
                    self.halves_from = now.monotonic + self.backoff(batch.attempts);
                    self.halve(batch);
                } else {
                    self.wait(batch, now);
                }
                Some(Settled::Retrying { suspects: false })
            }
            StoreError::Unavailable(_) => {
                self.wait(batch, now);
                Some(Settled::Retrying { suspects: false })
            }
            StoreError::Ambiguous(_) => {
                self.wait(batch, now);
                Some(Settled::Retrying { suspects: true })
            }
        }
    }

    fn wait(&mut self, batch: Batch, now: Now) {
        let until = now.monotonic + self.backoff(batch.attempts);
        self.state = State::Waiting { batch, until };
    }

    /// The wait doubles with each attempt: no hot retry.
    fn backoff(&self, attempts: u32) -> Duration {
        self.retry_min.saturating_mul(1 << attempts.min(16)).min(self.retry_max)
    }

    fn halve(&mut self, batch: Batch) {
        let mut first = batch.items;
        let second = first.split_off(first.len() / 2);
        self.halves.push_front(second);
        self.halves.push_front(first);
    }

    /// Where the batch in flight, or waiting to be sent again, notes its suspicion.
    pub fn suspicion(&mut self) -> Option<&mut Option<SuspicionId>> {
        match &mut self.state {
            State::InFlight { batch, .. } | State::Waiting { batch, .. } => Some(&mut batch.suspected),
            State::Idle => None,
        }
    }

    /// Items of the batch that is in flight or waits to be sent again.
    pub fn sealed_items(&self) -> &[ItemId] {
        match &self.state {
            State::InFlight { batch, .. } | State::Waiting { batch, .. } => &batch.items,
            State::Idle => &[],
        }
    }

    /// Everything in it, if its batch was turned down and waits to be sent again: let go by a task that ends, so that
    /// its drain does not wait for the vector store to change its mind.
    pub fn let_go(&mut self) -> Vec<ItemId> {
        let State::Waiting { batch, .. } = &mut self.state else { return Vec::new() };
        let mut items = std::mem::take(&mut batch.items);
        items.extend(self.halves.drain(..).flatten());
        items.append(&mut self.open);
        items.extend(std::iter::from_fn(|| self.hold.release_any()).map(|(_, id)| id));
        self.open_by_key.clear();
        (self.open_bytes, self.held_bytes, self.state) = (0, 0, State::Idle);
        items
    }

    /// As much waits behind the batch in flight as may: nothing more is to be taken in (INV-8).
    pub fn is_full(&self) -> bool {
        self.open_bytes + self.held_bytes >= self.batch_bytes_max
    }

    /// Rows in it, sent or not.
    pub fn rows(&self) -> usize {
        let halves: usize = self.halves.iter().map(Vec::len).sum();
        self.open.len() + self.hold.len() + halves + self.sealed_items().len()
    }

    /// The vector store does not take this collection's rows: it has turned a batch down, or owes an answer for long.
    pub fn is_held_up(&self, now: Now) -> bool {
        match &self.state {
            State::Idle => !self.halves.is_empty(),
            State::InFlight { batch, since } => batch.attempts > 0 || now.since(*since) >= ANSWER_WAIT,
            State::Waiting { .. } => true,
        }
    }

    /// When something will be due, if nothing else happens before.
    pub fn due(&self) -> Option<Duration> {
        match &self.state {
            State::Idle if !self.halves.is_empty() => Some(self.halves_from),
            State::Idle => {
                let open = (!self.open.is_empty()).then_some(self.open_since + self.linger);
                open.into_iter().chain(self.hold.due()).min()
            }
            State::InFlight { .. } => None,
            State::Waiting { until, .. } => Some(*until),
        }
    }
}

/// The rows as the vector store takes them: upserts in columns with one slab of floats, deletes beside.
fn columns(sealed: &[ItemId], items: &Items) -> RowBatch {
    let floats = |id: &ItemId| if let Write::Upsert(row) = &items.get(*id).write { row.vector.len() } else { 0 };
    let vectors = Vec::with_capacity(sealed.iter().map(floats).sum());
    let mut batch = RowBatch { vectors, ..RowBatch::default() };
    for id in sealed {
        let item = items.get(*id);
        match &item.write {
            Write::Nothing => {}
            Write::Delete => batch.deletes.push(item.key.id.clone()),
            Write::Upsert(row) => {
                batch.ids.push(item.key.id.clone());
                batch.vectors.extend_from_slice(&row.vector);
                batch.versions.push(item.version().clone());
                batch.metadata.push(row.metadata.clone());
            }
        }
    }
    batch
}

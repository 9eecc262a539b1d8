//! Writes batches, on a thread of its own: one at a time, in the order in which they are given.

use super::bytes::{Known, Mark, STATE_KEY, State, encode_key};
use super::store::Pending;
use super::tables::{Change, Tables};
use crate::base::error::{Error, Result};
use crate::base::ids::{RowKey, TaskId};
use crate::base::time::UnixMs;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long a batch may take before the store is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Marks of forgotten keys that are looked at with one batch.
const EXPIRE_MAX: usize = 1_024;

pub(super) type Batch = HashMap<RowKey, Pending>;

/// A batch, and the state that becomes true with it.
pub(super) struct Work {
    pub batch: Arc<Batch>,
    pub state: State,
    /// What was forgotten before this time is not remembered any more.
    pub expired: UnixMs,
    /// As tables of its own. Nothing may have been written otherwise before.
    pub bulk: bool,
}

/// The store's end. Dropped, it lets the thread finish what it was given.
pub(super) struct Writer {
    work: Sender<Work>,
    done: Receiver<std::result::Result<(), String>>,
    busy: bool,
    disk_bytes: Arc<AtomicU64>,
}

impl Writer {
    pub fn start(tables: Tables, task: TaskId) -> Result<Self> {
        let disk_bytes = Arc::new(AtomicU64::new(tables.disk_bytes()));
        let measured = disk_bytes.clone();
        let carry_out = move |work: &Work| {
            let outcome = write(&tables, work);
            measured.store(tables.disk_bytes(), Ordering::Relaxed);
            outcome
        };
        Ok(Self { disk_bytes, ..Self::spawn(task, carry_out)? })
    }

    /// Gives each batch to `carry_out`, on the thread.
    pub fn spawn(
        task: TaskId,
        mut carry_out: impl FnMut(&Work) -> std::result::Result<(), String> + Send + 'static,
    ) -> Result<Self> {
        // One that is being written, and the last one of a store that is dropped.
        let (work, to_do) = bounded::<Work>(2);
        let (finished, done) = bounded(2);
        let run = move || {
            for work in to_do {
                let outcome = carry_out(&work);
                let failed = outcome.is_err();
                // Where the store is gone, what is left in the queue is written all the same.
                finished.send(outcome).ok();
                if failed {
                    // A batch behind it would leave a hole.
                    return;
                }
            }
        };
        thread::Builder::new()
            .name(format!("store-{task}"))
            .spawn(run)
            .map_err(|error| Error::fatal(format_args!("no thread for the store of task {task}: {error}")))?;
        Ok(Self { work, done, busy: false, disk_bytes: Arc::default() })
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// To be called when it is not busy, or once more before it is dropped.
    pub fn write(&mut self, work: Work) {
        // The thread ends with this end, so it is there; the queue has room for what is said above.
        self.busy = self.work.try_send(work).is_ok();
    }

    /// The fate of the batch being written, if it is known by now.
    pub fn poll(&mut self) -> Option<std::result::Result<(), String>> {
        match self.done.try_recv() {
            Ok(outcome) => self.ended(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.ended(Err("the thread that writes it has ended".to_owned())),
        }
    }

    /// Waits for the batch being written.
    pub fn wait(&mut self) -> std::result::Result<(), String> {
        if !self.busy {
            return Ok(());
        }
        let outcome = match self.done.recv_timeout(PATIENCE) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(format!("the disk has not taken a batch for {} s", PATIENCE.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Err("the thread that writes it has ended".to_owned()),
        };
        self.busy = false;
        outcome
    }

    fn ended(&mut self, outcome: std::result::Result<(), String>) -> Option<std::result::Result<(), String>> {
        std::mem::replace(&mut self.busy, false).then_some(outcome)
    }
}

pub(super) fn write(tables: &Tables, work: &Work) -> std::result::Result<(), String> {
    let mut changes = Vec::with_capacity(work.batch.len() * 2 + 1);
    expire(tables, work, &mut changes)?;
    for (key, pending) in work.batch.iter() {
        let key = encode_key(key);
        let mark = pending.known.mark();
        if let Some(stale) = pending.stale.filter(|stale| Some(*stale) != mark) {
            changes.push(Change { key: stale.key(&key), value: None });
        }
        if let Some(mark) = mark {
            changes.push(Change { key: mark.key(&key), value: Some(Vec::new()) });
        }
        changes.push(Change { key, value: Some(pending.known.encode()) });
    }
    changes.push(Change { key: STATE_KEY.to_vec(), value: Some(work.state.encode()) });
    if work.bulk { tables.ingest(changes) } else { tables.write(changes) }
}

/// Some of what is not to be remembered any more. Keys of this batch are left to it.
fn expire(tables: &Tables, work: &Work, changes: &mut Vec<Change>) -> std::result::Result<(), String> {
    let end = Mark::Forgotten(work.expired).key(&[]);
    let mut marks = Vec::new();
    tables.scan(&Mark::Forgotten(UnixMs(0)).key(&[]), |mark, _| {
        let old = mark < end.as_slice() && marks.len() < EXPIRE_MAX;
        if old {
            marks.push(mark.to_vec());
        }
        old
    })?;
    if marks.is_empty() {
        return Ok(());
    }
    let written: HashSet<Vec<u8>> = work.batch.keys().map(encode_key).collect();
    for mark in marks {
        let key = Mark::entry_key(&mark);
        if !written.contains(&key) {
            let is_forgotten = |bytes: &Vec<u8>| matches!(Known::decode(bytes), Ok(Known::Forgotten { .. }));
            if tables.get(&key)?.as_ref().is_some_and(is_forgotten) {
                changes.push(Change { key, value: None });
            }
            changes.push(Change { key: mark, value: None });
        }
    }
    Ok(())
}

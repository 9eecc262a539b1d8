//! Standby tasks: versions changelogs of other workers' tasks, read on and on, so that a task which fails over to this
//! process needs no more than the last moment of it.
//!
//! ```text
//!   the group's members ─► placement ─► wanted ─► StandbyKeeper reads, in turns ─► Tail
//!                                                                                   │ the task is assigned here
//!                                                       Restore, which reads the rest ◄ claim
//! ```
//!
//! A process has one [`StandbyKeeper`], on a thread of its own with a reader of its own, and all its stream threads
//! share one [`Standbys`]. A standby acts on nothing: it reads, and what it has read is believed only after the restore
//! has compared it with the log. So the view of the group may be old, and a standby missing or too many; that costs
//! time or memory, nothing else.

mod keeper;
pub mod placement;

pub use keeper::{StandbyKeeper, StandbySettings};

use crate::base::ids::TaskId;
use crate::base::metric;
use crate::stream::tail::Tail;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The standbys of a process. A cheap handle.
#[derive(Clone, Default)]
pub struct Standbys(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    /// What the last placement gave this process.
    wanted: BTreeSet<TaskId>,
    kept: BTreeMap<TaskId, Kept>,
    /// By stream thread.
    threads: BTreeMap<u64, InHand>,
    next_thread: u64,
    /// Tasks have come or gone: the group is to be looked at again.
    rebalanced: bool,
    /// The process ends.
    ended: bool,
}

/// What a stream thread has in hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InHand {
    pub held: BTreeSet<TaskId>,
    /// Those of them whose state is still to come, from a standby if there is one.
    pub pending: BTreeSet<TaskId>,
    /// A changelog is being read for one of those.
    pub restoring: bool,
}

struct Kept {
    standby: Arc<Mutex<Standby>>,
    /// When to look at its log again.
    due: Duration,
    report: StandbyReport,
}

/// One standby. Whoever reads it on holds its lock for the length of a chunk.
#[derive(Default)]
struct Standby {
    /// None before the log has first been reached.
    tail: Option<Tail>,
    /// It has been handed over: nobody reads it on.
    claimed: bool,
}

/// A standby task, for `/tasks` and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandbyReport {
    pub task: String,
    pub partition: i32,
    /// following (it was at the end of its log when that was last looked at) or reading.
    pub state: &'static str,
    /// The next offset of the versions changelog to be read.
    pub position: i64,
    /// Offsets between there and the end as it was last seen.
    pub lag_records: i64,
    pub entries: usize,
    pub store_bytes: usize,
}

impl Standbys {
    pub fn reports(&self) -> Vec<StandbyReport> {
        self.lock().kept.values().map(|kept| kept.report.clone()).collect()
    }

    /// Sets the gauges, which stand for the process.
    pub fn publish_gauges(&self) {
        let reports = self.reports();
        metrics::gauge!(metric::STANDBY_TASKS).set(reports.len() as f64);
        let lag = reports.iter().map(|report| report.lag_records).max().unwrap_or(0);
        metrics::gauge!(metric::STANDBY_LAG_RECORDS).set(lag as f64);
        let bytes: usize = reports.iter().map(|report| report.store_bytes).sum();
        metrics::gauge!(metric::STANDBY_BYTES).set(bytes as f64);
    }

    /// Ends the keeper after the chunk that it is reading.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    /// Closes the standbys' stores, which stay where they outlive the process.
    pub fn let_go(&self) {
        self.lock().kept.clear();
    }

    /// What has been read of a task that is this process' own from now on. Waits for the chunk that is being read; where
    /// the keeper has panicked in the middle of one, there is nothing to be had.
    pub(super) fn claim(&self, task: TaskId) -> Option<Tail> {
        let kept = self.lock().kept.remove(&task)?;
        let mut standby = kept.standby.lock().ok()?;
        standby.claimed = true;
        standby.tail.take()
    }

    /// The restore was called off; the task may yet stay, as a standby.
    pub(super) fn give_back(&self, task: TaskId, tail: Tail) {
        let kept = Kept::of(task, Standby { tail: Some(tail), claimed: false });
        self.lock().kept.entry(task).or_insert(kept);
    }

    pub(super) fn join(&self) -> StandbyHandle {
        let mut shared = self.lock();
        let thread = shared.next_thread;
        shared.next_thread += 1;
        shared.threads.insert(thread, InHand::default());
        drop(shared);
        StandbyHandle { standbys: self.clone(), thread, told: InHand::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream thread's end: says what the thread has, so that nobody keeps a standby of it here.
pub(super) struct StandbyHandle {
    standbys: Standbys,
    thread: u64,
    told: InHand,
}

impl StandbyHandle {
    pub fn tell(&mut self, in_hand: InHand) {
        if self.told == in_hand {
            return;
        }
        let mut shared = self.standbys.lock();
        shared.rebalanced |= in_hand.held != self.told.held;
        shared.threads.insert(self.thread, in_hand.clone());
        shared.settle();
        self.told = in_hand;
    }
}

impl Drop for StandbyHandle {
    fn drop(&mut self) {
        self.standbys.lock().threads.remove(&self.thread);
    }
}

impl Shared {
    fn is_held(&self, task: TaskId) -> bool {
        self.threads.values().any(|thread| thread.held.contains(&task))
    }

    /// A restore goes first: whoever reads beside it takes the brokers' and the machine's time from it.
    fn is_restoring(&self) -> bool {
        self.threads.values().any(|thread| thread.restoring)
    }

    /// Keeps what is wanted, and what is about to be claimed.
    fn settle(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        for (task, standby) in kept {
            let is_pending = self.threads.values().any(|thread| thread.pending.contains(&task));
            if is_pending || (self.wanted.contains(&task) && !self.is_held(task)) {
                self.kept.insert(task, standby);
            } else {
                tracing::info!(%task, "standby let go");
            }
        }
        for task in self.wanted.clone() {
            if !self.is_held(task) && !self.kept.contains_key(&task) {
                tracing::info!(%task, "standby placed here");
                self.kept.insert(task, Kept::of(task, Standby::default()));
            }
        }
    }
}

impl Kept {
    fn of(task: TaskId, standby: Standby) -> Self {
        let report = standby.report(task, None);
        Self { standby: Arc::new(Mutex::new(standby)), due: Duration::ZERO, report }
    }
}

impl Standby {
    /// `end`: of its log, if that was looked at.
    fn report(&self, task: TaskId, end: Option<i64>) -> StandbyReport {
        let position = self.tail.as_ref().map_or(0, Tail::position);
        let follows = end.is_some_and(|end| position >= end);
        let store = self.tail.as_ref().map(|tail| tail.image.store());
        StandbyReport {
            task: task.to_string(),
            partition: task.partition,
            state: if follows { "following" } else { "reading" },
            position,
            lag_records: end.map_or(0, |end| (end - position).max(0)),
            entries: store.map_or(0, |store| store.len()),
            store_bytes: store.map_or(0, |store| store.memory_bytes()),
        }
    }
}

//! The restorer: reads changelogs and looks at topics for the stream threads, on a thread of its own, so that
//! no processing waits for a round trip. In a simulation the same object is stepped by hand.

mod described;

use crate::base::error::{Error, Remedy, Result};
use crate::base::ids::{TaskId, TopicPartition};
use crate::base::time::Now;
use crate::port::log::{Bounds, LogReader, Wake};
use crate::record::raw::RawRecord;
use crate::stream::restore::{Restore, RestoreRequest, RestoreResult};
use crate::stream::source_check::{Checked, Patience, check};
use crate::stream::standby::{InHand, StandbyHandle, Standbys};
use crate::task::command::{Part, Reading};
use crate::task::stream_task::SourceStart;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use described::{Described, OncePerTopic};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// Bytes of one answer to a [`Request::Read`]: what is left of its range is asked for again.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What a stream thread asks for. `task` and `life` come back with the answer.
#[derive(Debug)]
pub enum Request {
    Restore(RestoreRequest),
    Read { task: TaskId, life: u32, partition: TopicPartition, from: i64, until: i64, reading: Reading },
    CheckSource { task: TaskId, life: u32, index: usize, start: SourceStart, partitions: i32 },
}

pub enum Reply {
    Restored {
        task: TaskId,
        life: u32,
        result: Box<RestoreResult>,
    },
    /// The restore can't be done as things are; it is tried again by whoever asked.
    RestoreFailed {
        task: TaskId,
        life: u32,
        error: Error,
    },
    Read {
        task: TaskId,
        life: u32,
        part: Part,
    },
    SourceChecked {
        task: TaskId,
        life: u32,
        index: usize,
        checked: Box<Checked>,
    },
}

/// A stream thread's end: requests out, replies in. The number of requests under way is bounded by the tasks:
/// each has one restore, or a few reads, of parked changes one for each source and collection.
pub struct RestorerHandle {
    requests: Sender<Request>,
    replies: Receiver<Reply>,
    standbys: Option<StandbyHandle>,
}

impl RestorerHandle {
    pub fn ask(&self, request: Request) -> Result<()> {
        self.requests.send(request).map_err(|_| Error::fatal("the restore thread has ended: tasks can't be restored any more"))
    }

    pub fn poll(&self) -> Option<Reply> {
        self.replies.try_recv().ok()
    }

    /// For the standbys of the process, if it keeps any.
    pub(super) fn tell(&mut self, in_hand: impl FnOnce() -> InHand) {
        if let Some(standbys) = &mut self.standbys {
            standbys.tell(in_hand());
        }
    }
}

enum Job {
    Restore(Box<Restore>),
    Other(Box<Request>),
}

/// What a step of the restorer did.
#[derive(Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something; step again.
    Worked,
    /// The log can't be reached: step again after a moment.
    Failing,
    /// Nothing to do until the next request.
    Idle,
    /// No stream thread is left.
    Ended,
}

pub struct Restorer {
    requests: Receiver<Request>,
    replies: Sender<Reply>,
    wake: Wake,
    /// Restores go on from what these have read.
    standbys: Option<Standbys>,
    jobs: VecDeque<Job>,
    described: Described,
}

impl Restorer {
    /// `wake` is called when a reply is there.
    pub fn new(wake: Wake) -> (Self, RestorerHandle) {
        Self::with_standbys(wake, None)
    }

    /// In a process that keeps standbys.
    pub fn with_standbys(wake: Wake, standbys: Option<Standbys>) -> (Self, RestorerHandle) {
        let (requests_in, requests) = unbounded();
        let (replies, replies_out) = unbounded();
        let handle =
            RestorerHandle { requests: requests_in, replies: replies_out, standbys: standbys.as_ref().map(Standbys::join) };
        (Self { requests, replies, wake, standbys, jobs: VecDeque::new(), described: Described::default() }, handle)
    }

    /// Takes new requests in, then does one step of the job in front. Restores that go on from what a standby has read
    /// come first; then reads and checks, which are short too, so that running tasks don't wait for one that starts from
    /// nothing.
    pub fn run_once(&mut self, reader: &mut dyn LogReader, now: Now) -> Stepped {
        loop {
            match self.requests.try_recv() {
                Ok(request) => self.accept(request),
                Err(TryRecvError::Empty) => break,
                // Nobody waits for what is left.
                Err(TryRecvError::Disconnected) => return Stepped::Ended,
            }
        }
        let Some(job) = self.jobs.pop_front() else { return Stepped::Idle };
        let mut described = std::mem::take(&mut self.described);
        let stepped = self.step(job, &mut OncePerTopic::new(reader, &mut described, now.monotonic), now);
        self.described = described;
        stepped
    }

    fn step(&mut self, job: Job, reader: &mut dyn LogReader, now: Now) -> Stepped {
        match job {
            Job::Restore(restore) => self.step_restore(restore, reader, now),
            Job::Other(request) => match answer(&request, reader) {
                Ok(reply) => {
                    self.reply(reply);
                    Stepped::Worked
                }
                Err(error) => {
                    tracing::warn!(%error, "a read for a task failed; it is tried again");
                    reader.close();
                    self.jobs.push_back(Job::Other(request));
                    Stepped::Failing
                }
            },
        }
    }

    /// Waits for the next request. False when no stream thread is left.
    pub fn wait(&mut self) -> bool {
        match self.requests.recv() {
            Ok(request) => {
                self.accept(request);
                true
            }
            Err(_) => false,
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Restore(request) => {
                let mut restore = Restore::new(request);
                self.claim_for(&mut restore);
                let at = match restore.is_cold() {
                    true => None,
                    // What a task that was restored a moment ago has to read again is longer than what is left of this.
                    false => self.jobs.iter().position(|job| !matches!(job, Job::Restore(other) if !other.is_cold())),
                };
                self.jobs.insert(at.unwrap_or(self.jobs.len()), Job::Restore(Box::new(restore)));
            }
            other => {
                // Behind a restore in mid-read, which holds the reader, and short ones; before those that begin from nothing.
                let at = self.jobs.iter().position(|job| matches!(job, Job::Restore(restore) if restore.is_cold()));
                self.jobs.insert(at.unwrap_or(self.jobs.len()), Job::Other(Box::new(other)));
            }
        }
    }

    fn step_restore(&mut self, mut restore: Box<Restore>, reader: &mut dyn LogReader, now: Now) -> Stepped {
        let (task, life) = (restore.request.task, restore.request.life);
        if restore.request.cancelled.load(Ordering::Acquire) {
            reader.close();
            self.give_back(*restore);
            return Stepped::Worked;
        }
        // From one that was called off after this was asked for.
        self.claim_for(&mut restore);
        match restore.step(reader, now) {
            Ok(None) => {
                self.jobs.push_front(Job::Restore(restore));
                Stepped::Worked
            }
            Ok(Some(result)) => {
                self.reply(Reply::Restored { task, life, result: Box::new(result) });
                Stepped::Worked
            }
            Err(error) if error.remedy == Remedy::Retry => {
                tracing::warn!(%task, %error, "a restore can't go on; it is tried again");
                reader.close();
                self.jobs.push_back(Job::Restore(Box::new(restore.begin_again())));
                Stepped::Failing
            }
            Err(error) => {
                reader.close();
                if !restore.has_begun() {
                    // Not for what was read.
                    self.give_back(*restore);
                }
                self.reply(Reply::RestoreFailed { task, life, error });
                Stepped::Worked
            }
        }
    }

    fn claim_for(&self, restore: &mut Restore) {
        let standbys = self.standbys.as_ref().filter(|_| restore.is_cold());
        if let Some(tail) = standbys.and_then(|standbys| standbys.claim(restore.request.task)) {
            restore.go_on_from(tail);
        }
    }

    fn give_back(&self, restore: Restore) {
        let task = restore.request.task;
        if let Some((standbys, tail)) = self.standbys.as_ref().zip(restore.into_tail()) {
            standbys.give_back(task, tail);
        }
    }

    fn reply(&self, reply: Reply) {
        // A thread that has ended needs no answer.
        if self.replies.send(reply).is_ok() {
            (self.wake)();
        }
    }
}

fn answer(request: &Request, reader: &mut dyn LogReader) -> Result<Reply> {
    match request {
        Request::Restore(request) => Err(Error::fatal(format_args!("the restore of {} is not a read", request.task))),
        Request::Read { task, life, partition, from, until, reading } => {
            let bounds = reader.bounds(partition)?;
            let (records, next) = read_range(reader, partition, bounds, *from, *until)?;
            let part = Part { reading: *reading, records, next, until: *until, bounds };
            Ok(Reply::Read { task: *task, life: *life, part })
        }
        Request::CheckSource { task, life, index, start, partitions } => {
            let checked = check(reader, start.clone(), task.partition, *partitions)?;
            Ok(Reply::SourceChecked { task: *task, life: *life, index: *index, checked: Box::new(checked) })
        }
    }
}

/// Records in `[from, until)`, as many as one answer holds, and the offset to go on from.
fn read_range(
    reader: &mut dyn LogReader,
    partition: &TopicPartition,
    bounds: Bounds,
    from: i64,
    until: i64,
) -> Result<(Vec<RawRecord>, i64)> {
    let (mut next, until) = (from.max(bounds.first), until.min(bounds.end));
    let mut records: Vec<RawRecord> = Vec::new();
    if next >= until {
        // Deleted or compacted away since it was asked for: there is nothing left to read.
        return Ok((records, i64::MAX));
    }
    reader.open(partition, next)?;
    let mut bytes = 0;
    let mut taken = 0;
    let mut patience = Patience::default();
    while next < until && bytes < CHUNK_BYTES_MAX {
        next = reader.read(&mut records)?;
        patience.spend(partition)?;
        bytes += records[taken..].iter().map(RawRecord::bytes).sum::<usize>();
        taken = records.len();
    }
    reader.close();
    records.retain(|record| record.offset < until);
    Ok((records, if next >= until { i64::MAX } else { next }))
}

//! Kills a worker between two of its steps: every call of a port that has an effect outside is a step, and from the
//! one at which the fuse blows none takes place any more. What the steps before had handed over stays with the line
//! that leads outside, which outlives the worker.
//!
//! The lines lead to the embedded adapters, one record and one request at a time.

use crate::adapter::embedded::broker::Broker;
use crate::adapter::embedded::vector::{Database, EmbeddedStore};
use crate::adapter::embedded::{EmbeddedAppender, EmbeddedConsumer};
use crate::base::error::Result;
use crate::base::ids::{CollectionId, TopicPartition};
use crate::port::log::{Ack, Append, AppendRefused, Appender, GroupConsumer, LogEvent};
use crate::port::vector::{StoreRequest, StoreResponse, VectorStore};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Appends that may wait for their acknowledgement.
const APPENDS_MAX: usize = 10_000;

/// What becomes of the appends and writes that a killed worker had handed over and that had not arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They never arrive.
    Lost,
    /// They arrive before the next worker begins.
    Landed,
}

#[derive(Clone)]
pub(super) struct Fuse {
    burnt: Arc<AtomicU64>,
    length: Arc<AtomicU64>,
}

impl Fuse {
    pub fn endless() -> Self {
        Self { burnt: Arc::default(), length: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// So many more steps take place, then none.
    pub fn cut(&self, steps: u64) {
        self.length.store(self.burnt().saturating_add(steps), Ordering::Relaxed);
    }

    pub fn burnt(&self) -> u64 {
        self.burnt.load(Ordering::Relaxed)
    }

    pub fn has_blown(&self) -> bool {
        self.burnt() >= self.length.load(Ordering::Relaxed)
    }

    /// Takes one step with an effect outside. False: the process is dead.
    fn step(&self) -> bool {
        if self.has_blown() {
            return false;
        }
        self.burnt.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// A line that the worker and the driver both hold.
pub(super) type Shared<T> = Arc<Mutex<T>>;

/// A panic elsewhere leaves a line whole: each call changes it in one go.
pub(super) fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker's end of its group membership.
pub(super) struct FusedConsumer {
    pub inner: Shared<EmbeddedConsumer>,
    pub fuse: Fuse,
}

impl GroupConsumer for FusedConsumer {
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        if self.fuse.has_blown() {
            return;
        }
        let before = events.len();
        lock(&self.inner).poll(max, events);
        if events.len() > before {
            self.fuse.step();
        }
    }

    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        if self.fuse.has_blown() { Ok(()) } else { lock(&self.inner).fetch_from(partition, offset) }
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        lock(&self.inner).stop_fetching(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if self.fuse.step() { lock(&self.inner).release(partitions) } else { Ok(()) }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        lock(&self.inner).pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        lock(&self.inner).resume(partitions)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        if self.fuse.step() {
            lock(&self.inner).commit(offsets);
        }
    }

    fn leave(&mut self) {
        if self.fuse.step() {
            lock(&self.inner).leave();
        }
    }
}

/// Appends on their way to the log, and their acknowledgements on their way back.
pub(super) struct AppendLine {
    appender: EmbeddedAppender,
    fuse: Fuse,
    queued: VecDeque<(Append, u64)>,
    acks: VecDeque<Ack>,
}

impl AppendLine {
    pub fn new(broker: Arc<Broker>, fuse: Fuse) -> Self {
        let appender = EmbeddedAppender::new(broker, APPENDS_MAX, Arc::new(|| {}));
        Self { appender, fuse, queued: VecDeque::new(), acks: VecDeque::new() }
    }

    pub fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.acks.is_empty()
    }

    /// Everything handed over and not written is written now.
    pub fn land_all(&mut self) {
        while let Some((append, token)) = self.queued.pop_front() {
            self.land(append, token);
        }
    }

    fn land(&mut self, append: Append, token: u64) {
        match self.appender.append(append, token) {
            Ok(()) => {
                let mut acks = Vec::new();
                // Written by the first, acknowledged by the second.
                self.appender.poll_acks(&mut acks);
                self.appender.poll_acks(&mut acks);
                self.acks.extend(acks);
            }
            Err(AppendRefused::QueueFull(append)) => self.queued.push_front((*append, token)),
            Err(AppendRefused::Failed(error)) => self.acks.push_back(Ack { token, outcome: Err(error) }),
        }
    }
}

pub(super) struct FusedAppender(pub Shared<AppendLine>);

impl Appender for FusedAppender {
    fn append(&mut self, append: Append, token: u64) -> std::result::Result<(), AppendRefused> {
        let mut line = lock(&self.0);
        if line.queued.len() + line.acks.len() >= APPENDS_MAX {
            return Err(AppendRefused::QueueFull(append.into()));
        }
        if line.fuse.step() {
            line.queued.push_back((append, token));
        }
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        let mut line = lock(&self.0);
        while !line.acks.is_empty() && line.fuse.step() {
            acks.extend(line.acks.pop_front());
        }
        while !line.queued.is_empty() && line.fuse.step() {
            if let Some((append, token)) = line.queued.pop_front() {
                line.land(append, token);
            }
        }
    }
}

/// Requests on their way to the vector store, and the answers on their way back.
pub(super) struct StoreLine {
    store: EmbeddedStore,
    fuse: Fuse,
    sent: VecDeque<(CollectionId, StoreRequest, u64)>,
    answers: VecDeque<StoreResponse>,
}

impl StoreLine {
    pub fn new(database: Arc<Database>, fuse: Fuse) -> Self {
        let store = EmbeddedStore::new(database, Duration::ZERO, Arc::new(|| {}));
        Self { store, fuse, sent: VecDeque::new(), answers: VecDeque::new() }
    }

    pub fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.answers.is_empty()
    }

    /// Everything sent and not carried out is carried out now.
    pub fn land_all(&mut self) {
        while let Some((collection, request, token)) = self.sent.pop_front() {
            self.land(collection, request, token);
        }
    }

    fn land(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut answers = Vec::new();
        self.store.submit(collection, request, token);
        self.store.poll(&mut answers);
        self.answers.extend(answers);
    }
}

pub(super) struct FusedStore(pub Shared<StoreLine>);

impl VectorStore for FusedStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut line = lock(&self.0);
        if line.fuse.step() {
            line.sent.push_back((collection, request, token));
        }
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        let mut line = lock(&self.0);
        while !line.answers.is_empty() && line.fuse.step() {
            responses.extend(line.answers.pop_front());
        }
        while !line.sent.is_empty() && line.fuse.step() {
            if let Some((collection, request, token)) = line.sent.pop_front() {
                line.land(collection, request, token);
            }
        }
    }
}

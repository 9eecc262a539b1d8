//! The log's ports with faults: appends that are slow to land, acks that are slow to come, a consumer that is
//! watched and can be made to deliver what it should not.

use crate::fuse::Fuse;
use driftless::adapter::embedded::EmbeddedConsumer;
use driftless::adapter::embedded::broker::{Broker, Message};
use driftless::base::error::{Error, Result};
use driftless::base::ids::TopicPartition;
use driftless::port::log::{Ack, Append, AppendRefused, Appender, GroupConsumer, LogEvent};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// What a worker has handed over to the log: it outlives the worker.
pub struct AppendLine {
    broker: Arc<Broker>,
    fuse: Fuse,
    queued: VecDeque<(Append, u64)>,
    written: VecDeque<(Arc<str>, Ack)>,
    pub queue_max: usize,
    /// Topics whose appends do not land, and topics whose acks do not come back.
    pub unlanded: BTreeSet<Arc<str>>,
    pub unacked: BTreeSet<Arc<str>>,
    /// The next append to this topic fails.
    pub fail_next: Option<Arc<str>>,
}

impl AppendLine {
    pub fn new(broker: Arc<Broker>, fuse: Fuse) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            broker,
            fuse,
            queued: VecDeque::new(),
            written: VecDeque::new(),
            queue_max: 10_000,
            unlanded: BTreeSet::new(),
            unacked: BTreeSet::new(),
            fail_next: None,
        }))
    }

    /// Everything handed over and not landed lands now, whoever still waits for it.
    pub fn land_all(&mut self) {
        while let Some((append, _)) = self.queued.pop_front() {
            self.land(append).expect("the topics are there");
        }
    }

    fn land(&self, append: Append) -> Result<i64> {
        let message = Message { key: append.key, value: append.value, headers: append.headers.into_vec(), timestamp: None };
        self.broker.append(&append.to, message).map_err(Error::from)
    }

    fn deliver(&mut self, acks: &mut Vec<Ack>) {
        let mut kept = VecDeque::new();
        while let Some((topic, ack)) = self.written.pop_front() {
            if self.unacked.contains(&topic) || !self.fuse.step() {
                kept.push_back((topic, ack));
            } else {
                acks.push(ack);
            }
        }
        self.written = kept;
    }

    fn write(&mut self) {
        let mut kept = VecDeque::new();
        while let Some((append, token)) = self.queued.pop_front() {
            let topic = append.to.topic.clone();
            if self.unlanded.contains(&topic) || !self.fuse.step() {
                kept.push_back((append, token));
            } else if self.fail_next.as_ref() == Some(&topic) {
                self.fail_next = None;
                let outcome = Err(Error::retry("the leader is gone"));
                self.written.push_back((topic, Ack { token, outcome }));
            } else {
                let outcome = self.land(append);
                self.written.push_back((topic, Ack { token, outcome }));
            }
        }
        self.queued = kept;
    }
}

pub struct FaultyAppender(pub Arc<Mutex<AppendLine>>);

impl Appender for FaultyAppender {
    fn append(&mut self, append: Append, token: u64) -> Result<(), AppendRefused> {
        let mut line = self.0.lock().unwrap();
        if line.queued.len() + line.written.len() >= line.queue_max {
            return Err(AppendRefused::QueueFull(append.into()));
        }
        if line.fuse.step() {
            line.queued.push_back((append, token));
        }
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        let mut line = self.0.lock().unwrap();
        line.deliver(acks);
        line.write();
    }
}

/// What a consumer was told, and what it is to deliver besides.
#[derive(Default)]
pub struct ConsumerLine {
    pub pauses: usize,
    pub resumes: usize,
    pub released: Vec<TopicPartition>,
    pub commits: Vec<(TopicPartition, i64)>,
    /// Delivered with the next poll.
    pub inject: Vec<LogEvent>,
}

pub struct FaultyConsumer {
    pub inner: EmbeddedConsumer,
    pub line: Arc<Mutex<ConsumerLine>>,
    pub fuse: Fuse,
}

impl GroupConsumer for FaultyConsumer {
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        if self.fuse.has_blown() {
            return;
        }
        let before = events.len();
        self.inner.poll(max, events);
        events.append(&mut self.line.lock().unwrap().inject);
        if events.len() > before {
            self.fuse.step();
        }
    }

    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        if self.fuse.has_blown() { Ok(()) } else { self.inner.fetch_from(partition, offset) }
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.stop_fetching(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if !self.fuse.step() {
            return Ok(());
        }
        self.line.lock().unwrap().released.extend_from_slice(partitions);
        self.inner.release(partitions)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.line.lock().unwrap().pauses += 1;
        self.inner.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.line.lock().unwrap().resumes += 1;
        self.inner.resume(partitions)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        if self.fuse.step() {
            self.line.lock().unwrap().commits.extend_from_slice(offsets);
            self.inner.commit(offsets);
        }
    }

    fn leave(&mut self) {
        if self.fuse.step() {
            self.inner.leave();
        }
    }
}

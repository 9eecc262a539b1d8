//! One worker's producer. It outlives the worker: what it has sent may be written although nobody waits for it.

use super::check::RegionChecks;
use super::clock::Timeline;
use super::interrupt::Interrupt;
use super::trace::Trace;
use crate::adapter::embedded::broker::{Broker, Message};
use crate::base::error::Error;
use crate::base::ids::TopicPartition;
use crate::port::log::{Ack, Append, AppendRefused, Appender};
use crate::testing::random::SplitMix64;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is wrong with a region's Kafka now.
#[derive(Debug, Clone, Default)]
pub(super) struct LogWeather {
    /// It answers nobody.
    pub down: bool,
    pub slow_ms: u64,
    /// So many of the next appends fail.
    pub fails: u32,
}

struct Pending {
    append: Append,
    token: u64,
}

pub(super) struct LogLine {
    parts: LogParts,
    /// Sent and not written yet, by when it is. Of one partition in the order in which they were sent.
    pending: BTreeMap<(Duration, u64), Pending>,
    acks: BTreeMap<(Duration, u64), Ack>,
    last_of: HashMap<TopicPartition, Duration>,
    last_ack_of: HashMap<TopicPartition, Duration>,
    next: u64,
    /// The connection is cut: what is queued waits.
    pub cut: bool,
    /// The consumer has not caught up yet with what happened while its process stood still.
    pub deaf_until: Duration,
}

pub(super) struct LogParts {
    pub broker: Arc<Broker>,
    pub weather: Arc<Mutex<LogWeather>>,
    pub checks: Arc<Mutex<RegionChecks>>,
    pub interrupt: Interrupt,
    pub trace: Trace,
    pub random: SplitMix64,
    pub queue_max: usize,
    pub worker: u64,
}

impl LogLine {
    pub fn new(parts: LogParts) -> Self {
        let (pending, acks, last_of, last_ack_of) = Default::default();
        Self { parts, pending, acks, last_of, last_ack_of, next: 0, cut: false, deaf_until: Duration::ZERO }
    }

    pub fn is_cut(&self) -> bool {
        self.cut || self.parts.weather.lock().unwrap_or_else(PoisonError::into_inner).down
    }

    /// When something is to be written next; of what waits for the connection, nothing.
    pub fn due(&self) -> Option<Duration> {
        let pending = self.pending.keys().next().filter(|_| !self.is_cut());
        pending.into_iter().chain(self.acks.keys().next()).map(|(at, _)| *at).min()
    }

    pub fn has_acks(&self, now: Duration) -> bool {
        self.acks.keys().next().is_some_and(|(at, _)| *at <= now)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Its worker is dead: of each partition's appends a last part is lost, the rest is on the wire.
    pub fn orphan(&mut self, lost_percent: usize) {
        self.acks.clear();
        self.cut = false;
        let mut lost: HashMap<TopicPartition, bool> = HashMap::new();
        let random = &mut self.parts.random;
        self.pending.retain(|_, pending| {
            let lost = lost.entry(pending.append.to.clone()).or_default();
            *lost = *lost || random.percent(lost_percent);
            !*lost
        });
    }

    /// Writes what is due.
    pub fn advance(&mut self, now: Duration) {
        if self.is_cut() {
            return;
        }
        while let Some(entry) = self.pending.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((at, id), pending) = entry.remove_entry();
            let partition = pending.append.to.clone();
            let outcome = self.write(now, pending.append);
            let ack_at = at.max(now) + Duration::from_millis(self.parts.random.between(0, 2));
            // Acks of one partition come in the order of its appends.
            let last = self.last_ack_of.entry(partition).or_default();
            *last = (*last).max(ack_at);
            self.acks.insert((*last, id), Ack { token: pending.token, outcome });
        }
    }

    fn write(&mut self, now: Duration, append: Append) -> crate::base::error::Result<i64> {
        let fails = {
            let mut weather = self.parts.weather.lock().unwrap_or_else(PoisonError::into_inner);
            let fails = weather.fails > 0;
            weather.fails = weather.fails.saturating_sub(1);
            fails
        };
        if fails {
            self.parts.trace.count("append failed", 1);
            if self.parts.random.percent(50) {
                return Err(Error::retry("the append failed: the leader is gone"));
            }
        }
        let message =
            Message { key: append.key.clone(), value: append.value.clone(), headers: append.headers.to_vec(), timestamp: None };
        let offset = self.parts.broker.append(&append.to, message).map_err(Error::from)?;
        let worker = self.parts.worker;
        self.parts.trace.note(now, "appended", &[worker, append.to.partition as u64, offset as u64], || {
            let key = append.key.as_deref().map_or("no key".into(), String::from_utf8_lossy).replace('\0', "/");
            format!("worker {worker}: {} at {offset}: {key}", append.to)
        });
        self.parts.checks.lock().unwrap_or_else(PoisonError::into_inner).appended(now, &append, offset);
        if fails { Err(Error::retry("the append's ack was lost: the leader is gone")) } else { Ok(offset) }
    }

    fn send(&mut self, append: Append, token: u64, now: Duration) {
        let slow_ms = self.parts.weather.lock().unwrap_or_else(PoisonError::into_inner).slow_ms;
        let latency = Duration::from_millis(self.parts.random.between(1, 4.max(slow_ms)));
        let last = self.last_of.entry(append.to.clone()).or_default();
        *last = (*last).max(now + latency);
        self.next += 1;
        self.pending.insert((*last, self.next), Pending { append, token });
    }
}

/// The port; the line is shared with the world, which moves it on.
pub(super) struct SimAppender {
    pub line: Arc<Mutex<LogLine>>,
    pub now: Timeline,
}

impl Appender for SimAppender {
    fn append(&mut self, append: Append, token: u64) -> Result<(), AppendRefused> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.pending.len() + line.acks.len() >= line.parts.queue_max {
            line.parts.trace.count("append queue full", 1);
            return Err(AppendRefused::QueueFull(append.into()));
        }
        if line.parts.interrupt.allows() {
            let now = self.now.now() + line.parts.interrupt.delay();
            line.send(append, token, now);
        }
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now.now();
        while let Some(entry) = line.acks.first_entry() {
            if entry.key().0 > now {
                return;
            }
            acks.push(entry.remove());
        }
    }
}

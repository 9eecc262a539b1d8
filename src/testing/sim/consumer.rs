//! One worker's group membership and fetching, over a connection that can be cut. The client finds out by itself
//! when its session must be over, as librdkafka does, and gives its partitions up without having been told.

use super::check::RegionChecks;
use super::clock::Timeline;
use super::interrupt::Interrupt;
use super::log_line::LogLine;
use super::trace::Trace;
use crate::adapter::embedded::{EmbeddedConsumer, EmbeddedGroupView};
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::port::group::{GroupMember, GroupView};
use crate::port::log::{GroupConsumer, LogEvent};
use crate::testing::random::SplitMix64;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) struct SimConsumer {
    pub inner: EmbeddedConsumer,
    pub line: Arc<Mutex<LogLine>>,
    pub checks: Arc<Mutex<RegionChecks>>,
    pub interrupt: Interrupt,
    pub now: Timeline,
    pub trace: Trace,
    pub worker: u64,
    pub session_timeout: Duration,
    pub last_contact: Duration,
    /// What the group has assigned and not taken back.
    pub held: BTreeSet<TopicPartition>,
    /// The session was found to be over while the connection was cut.
    pub given_up: bool,
}

impl SimConsumer {
    fn is_cut(&self) -> bool {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).is_cut()
    }

    fn poll_while_cut(&mut self, now: Duration, events: &mut Vec<LogEvent>) {
        if self.given_up || now.saturating_sub(self.last_contact) <= self.session_timeout {
            return;
        }
        self.given_up = true;
        if !self.held.is_empty() {
            self.trace.count("session found over by the client", 1);
            events.push(LogEvent::Lost(std::mem::take(&mut self.held).into_iter().collect()));
        }
    }
}

impl GroupConsumer for SimConsumer {
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        let now = self.now.now();
        if now < self.line.lock().unwrap_or_else(PoisonError::into_inner).deaf_until {
            return;
        }
        if self.is_cut() {
            return self.poll_while_cut(now, events);
        }
        self.last_contact = now;
        self.given_up = false;
        let before = events.len();
        self.inner.poll(max, events);
        for event in &events[before..] {
            let (kind, partitions) = match event {
                LogEvent::Assigned(partitions) => {
                    self.held.extend(partitions.iter().cloned());
                    ("assigned", partitions)
                }
                LogEvent::Revoked(partitions) => {
                    self.held.retain(|held| !partitions.contains(held));
                    ("revoked", partitions)
                }
                LogEvent::Lost(partitions) => {
                    self.held.retain(|held| !partitions.contains(held));
                    ("lost", partitions)
                }
                _ => continue,
            };
            self.trace.count(kind, 1);
            let numbers: Vec<u64> = partitions.iter().map(|partition| partition.partition as u64).collect();
            self.trace.note(now, kind, &numbers, || format!("worker {}: {partitions:?}", self.worker));
        }
    }

    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.inner.fetch_from(partition, offset)
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.stop_fetching(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if self.interrupt.allows() { self.inner.release(partitions) } else { Ok(()) }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.trace.count("source paused", 1);
        self.inner.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.resume(partitions)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        if self.is_cut() || !self.interrupt.allows() {
            return;
        }
        let now = self.now.now();
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).offsets_committed(now, offsets);
        self.inner.commit(offsets);
    }

    fn leave(&mut self) {
        if self.interrupt.allows() {
            self.inner.leave();
        }
    }
}

/// Reads by offset over the same connection.
pub(super) struct SimReader {
    pub inner: crate::adapter::embedded::EmbeddedReader,
    pub line: Arc<Mutex<LogLine>>,
    /// Where ends may be old: by the time that they are read to, the log has gone on.
    pub old_ends: Option<OldEnds>,
}

/// Answers with the end that was told before, now and then.
pub(super) struct OldEnds {
    pub random: SplitMix64,
    pub told: HashMap<TopicPartition, i64>,
}

impl OldEnds {
    fn tell(&mut self, partition: &TopicPartition, end: i64) -> i64 {
        let told = self.told.entry(partition.clone()).or_insert(end);
        if !self.random.percent(OLD_PERCENT) {
            *told = end;
        }
        *told
    }
}

impl SimReader {
    fn reach(&mut self) -> Result<&mut crate::adapter::embedded::EmbeddedReader> {
        if self.line.lock().unwrap_or_else(PoisonError::into_inner).is_cut() {
            return Err(Error::retry("the log is not reached"));
        }
        Ok(&mut self.inner)
    }
}

impl crate::port::log::LogReader for SimReader {
    fn describe(&mut self, topic: &str) -> Result<Option<crate::port::log::TopicDescription>> {
        self.reach()?.describe(topic)
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<crate::port::log::Bounds> {
        let mut bounds = self.reach()?.bounds(partition)?;
        if let Some(old) = &mut self.old_ends {
            bounds.end = old.tell(partition, bounds.end);
        }
        Ok(bounds)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: crate::base::time::UnixMs) -> Result<i64> {
        self.reach()?.offset_at(partition, at)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.reach()?.open(partition, offset)
    }

    fn read(&mut self, records: &mut Vec<crate::record::raw::RawRecord>) -> Result<i64> {
        self.reach()?.read(records)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// A look at the group over the same connection. Now and then what it answers is old.
pub(super) struct SimGroupView {
    pub inner: EmbeddedGroupView,
    pub line: Arc<Mutex<LogLine>>,
    pub random: SplitMix64,
    pub last: Option<Vec<GroupMember>>,
}

/// How often the answer is the one before, in percent.
const OLD_PERCENT: usize = 30;

impl GroupView for SimGroupView {
    fn members(&mut self) -> Result<Option<Vec<GroupMember>>> {
        if self.line.lock().unwrap_or_else(PoisonError::into_inner).is_cut() {
            return Err(Error::retry("the log is not reached"));
        }
        let members = self.inner.members()?;
        if self.random.percent(OLD_PERCENT) && self.last.is_some() {
            return Ok(self.last.clone());
        }
        self.last.clone_from(&members);
        Ok(members)
    }
}

//! MirrorMaker between two embedded brokers: copies a region's own change topics to the other's mirror
//! topics, keeping partition, key, value, headers and timestamp; at-least-once, over a link with a delay.
//!
//! Nothing travels but positions: a link notes when the source had grown to which offset, and copies up to
//! there when the delay is over. A cut forgets what is under way; it is read again after the healing.

use super::broker::{Broker, BrokerError, Message, TimestampType};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::Now;
use crate::region::topics::{self, CHANGE_TOPIC};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The most copied of one partition in one step.
const RECORDS_PER_STEP_MAX: usize = 1000;

#[derive(Default)]
struct Stream {
    /// The next offset to copy.
    position: i64,
    /// Where a restarted link begins again.
    committed: i64,
    /// `(when it arrives, source offset up to which)`, growing.
    under_way: VecDeque<(Duration, i64)>,
}

impl Stream {
    /// The source offset up to which all is copied or under way.
    fn sent(&self) -> i64 {
        self.under_way.back().map_or(self.position, |(_, end)| *end)
    }

    /// The source offset up to which all has arrived at `at`.
    fn arrived(&mut self, at: Duration) -> i64 {
        let count = self.under_way.partition_point(|(due, _)| *due <= at);
        self.under_way.drain(..count).next_back().map_or(self.position, |(_, end)| end)
    }
}

pub struct MirrorLink {
    from: Arc<Broker>,
    to: Arc<Broker>,
    alias: Region,
    delay: Duration,
    commit_interval: Duration,
    last_commit: Duration,
    up: bool,
    streams: BTreeMap<TopicPartition, Stream>,
}

impl MirrorLink {
    /// `alias` names the source region; `delay` is one-way; positions are committed every
    /// `commit_interval`, and what was copied since is copied again after a [`restart`](Self::restart).
    pub fn new(from: Arc<Broker>, to: Arc<Broker>, alias: Region, delay: Duration, commit_interval: Duration) -> Self {
        let streams = BTreeMap::new();
        Self { from, to, alias, delay, commit_interval, last_commit: Duration::ZERO, up: true, streams }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn cut(&mut self) {
        self.up = false;
        for stream in self.streams.values_mut() {
            stream.under_way.clear();
        }
    }

    pub fn heal(&mut self) {
        self.up = true;
    }

    /// How long what is sent from now on takes.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Forgets what was ever copied: all of the source is copied again.
    pub fn begin_again(&mut self) {
        self.streams.clear();
    }

    /// The process is killed and started again: it goes on from what it committed last.
    pub fn restart(&mut self) {
        for stream in self.streams.values_mut() {
            stream.under_way.clear();
            stream.position = stream.committed;
        }
    }

    /// Sends what the source has got, and copies what arrives by `now`. Returns how many records it copied.
    pub fn step(&mut self, now: Now) -> Result<usize, BrokerError> {
        if !self.up {
            return Ok(0);
        }
        let mut copied = 0;
        for (topic, partitions) in self.from.topics() {
            if !topic.starts_with(CHANGE_TOPIC) {
                continue;
            }
            let remote = topics::mirror_name(&self.alias, &topic);
            self.to.create_topic(&remote, partitions, TimestampType::CreateTime)?;
            for number in 0..partitions {
                copied += self.step_partition(&TopicPartition::new(topic.clone(), number), &remote, now)?;
            }
        }
        self.commit_when_due(now);
        Ok(copied)
    }

    /// The next offset of a source partition that is to be copied.
    pub fn position(&self, source: &TopicPartition) -> i64 {
        self.streams.get(source).map_or(0, |stream| stream.position)
    }

    /// Where a restarted link would begin again.
    pub fn committed(&self, source: &TopicPartition) -> i64 {
        self.streams.get(source).map_or(0, |stream| stream.committed)
    }

    /// Records of the source that have not been copied.
    pub fn outstanding(&self) -> Result<i64, BrokerError> {
        let mut outstanding = 0;
        for (topic, partitions) in self.from.topics().into_iter().filter(|(topic, _)| topic.starts_with(CHANGE_TOPIC)) {
            for number in 0..partitions {
                let source = TopicPartition::new(topic.clone(), number);
                outstanding += self.from.bounds(&source)?.end - self.position(&source);
            }
        }
        Ok(outstanding)
    }

    fn step_partition(&mut self, source: &TopicPartition, remote: &str, now: Now) -> Result<usize, BrokerError> {
        let stream = self.streams.entry(source.clone()).or_default();
        let bounds = self.from.bounds(source)?;
        // What retention has purged meanwhile is lost to the mirror; real MirrorMaker skips it as silently.
        stream.position = stream.position.max(bounds.first);
        let sendable = bounds.end.min(stream.position + RECORDS_PER_STEP_MAX as i64);
        if sendable > stream.sent() {
            stream.under_way.push_back((now.monotonic + self.delay, sendable));
        }
        let end = stream.arrived(now.monotonic);
        let mut batch = Vec::new();
        if end > stream.position {
            let max = (end - stream.position) as usize;
            self.from.read(source, stream.position, max, |record| batch.push(record))?;
        }
        batch.retain(|record| record.offset < end);
        let target = TopicPartition::new(remote, source.partition);
        let copied = batch.len();
        for record in batch {
            let timestamp = Some(record.appended_at);
            self.to.append(&target, Message { key: record.key, value: record.value, headers: record.headers, timestamp })?;
        }
        stream.position = end;
        Ok(copied)
    }

    fn commit_when_due(&mut self, now: Now) {
        if now.monotonic.saturating_sub(self.last_commit) < self.commit_interval {
            return;
        }
        self.last_commit = now.monotonic;
        for stream in self.streams.values_mut() {
            stream.committed = stream.position;
        }
    }
}

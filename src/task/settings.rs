//! What a task is told once: limits and intervals. Plain data; the configuration fills it.

use crate::base::ids::{TaskId, TopicPartition};
use crate::region::topics::TopicNames;
use crate::task::scrub::ScrubSettings;
use std::time::Duration;

/// How long a request to the vector store that nobody waits for any more may still be carried out.
pub const SAFETY_WINDOW: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSettings {
    /// Polled and not yet processed bytes of one task; reaching it pauses its sources. A collection whose rows are not
    /// taken may have a quarter of it more; what else waits of it stays in the log.
    pub buffer_bytes_max: usize,
    /// Bytes of a batch as it is sent at most; also what may wait behind the batch in flight.
    pub batch_bytes_max: usize,
    /// How long a lone row waits for company.
    pub linger: Duration,
    /// A key is sent again this long after the last time at the earliest, unless a batch is full.
    pub hold: Duration,
    /// Winners of one task that may be under way at once, whatever their size.
    pub items_max: usize,
    /// How often a progress record is written while there is progress.
    pub commit_interval: Duration,
    /// A partition that has had no heartbeat for this long gets one.
    pub heartbeat_interval: Duration,
    /// How long a write of a former owner, or a late reply, may still land.
    pub safety_window: Duration,
    /// First and greatest wait after a failed request to the vector store.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// How often the settled end of each source is checked against the log.
    pub source_check_interval: Duration,
    pub scrub: ScrubSettings,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            buffer_bytes_max: 4 << 20,
            batch_bytes_max: 2 << 20,
            linger: Duration::from_millis(5),
            hold: Duration::from_millis(100),
            items_max: 20_000,
            commit_interval: Duration::from_millis(100),
            heartbeat_interval: Duration::from_secs(1),
            safety_window: SAFETY_WINDOW,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            source_check_interval: Duration::from_secs(30),
            scrub: ScrubSettings::default(),
        }
    }
}

/// A task's topics beside the mirrors: its own partition number in each of these.
#[derive(Debug, Clone)]
pub struct TaskTopics {
    pub local: TopicPartition,
    /// Read, like the local topic and the mirrors.
    pub repair: TopicPartition,
    pub versions_changelog: TopicPartition,
    pub vectors_changelog: TopicPartition,
    pub dead_letter: TopicPartition,
    pub conflicts: TopicPartition,
}

impl TaskTopics {
    pub fn new(names: &TopicNames, task: TaskId) -> Self {
        let own = |topic| TopicPartition::new(topic, task.partition);
        Self {
            local: own(names.local(task.shard)),
            repair: own(names.repair(task.shard)),
            versions_changelog: own(names.versions_changelog(task.shard)),
            vectors_changelog: own(names.vectors_changelog(task.shard)),
            dead_letter: own(names.dead_letter()),
            conflicts: own(names.conflicts()),
        }
    }
}

//! Which topics a region needs, and with which settings (DESIGN 3).

use crate::base::ids::Region;
use crate::record::size::COPY_BYTES_MAX;
use crate::region::topics::TopicNames;
use std::sync::Arc;
use std::time::Duration;

/// How long a local change topic keeps a record: what a peer, or a worker, may be away.
pub const CHANGE_RETENTION: Duration = Duration::from_secs(72 * 3600);
/// A mirror keeps the timestamps of its origin: after a long cut, a backlog arrives old already.
const MIRROR_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the configuration says of topics.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    pub names: TopicNames,
    pub peers: Vec<Region>,
    pub partitions: i32,
    pub replication_factor: i32,
    /// For the commands that are recommended.
    pub bootstrap_servers: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Local,
    Mirror,
    Repair,
    Internal,
}

#[derive(Debug, Clone)]
pub struct WantedTopic {
    pub name: Arc<str>,
    pub role: Role,
    pub partitions: i32,
    pub settings: Vec<Setting>,
}

/// How a setting that was found is judged against the recommended value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Exactly,
    AtLeast,
    AtMost,
}

#[derive(Debug, Clone)]
pub struct Setting {
    pub key: &'static str,
    pub value: String,
    pub rule: Rule,
    /// Without it the worker would do wrong; otherwise it only does less well.
    pub required: bool,
    pub why: &'static str,
}

impl TopicPlan {
    /// Every topic, the mirrors before what they mirror elsewhere.
    pub fn topics(&self) -> Vec<WantedTopic> {
        let mut topics = Vec::new();
        for shard in 0..self.names.shards() {
            for peer in &self.peers {
                topics.push(self.topic(self.names.mirror(peer, shard), Role::Mirror, mirror()));
            }
            topics.push(self.topic(self.names.repair(shard), Role::Repair, repair()));
            topics.push(self.topic(self.names.versions_changelog(shard), Role::Internal, versions_changelog()));
            topics.push(self.topic(self.names.vectors_changelog(shard), Role::Internal, vectors_changelog()));
        }
        for name in [self.names.dead_letter(), self.names.conflicts()] {
            topics.push(self.topic(name, Role::Internal, kept_for_people()));
        }
        for shard in 0..self.names.shards() {
            topics.push(self.topic(self.names.local(shard), Role::Local, local()));
        }
        topics
    }

    /// The registry's subjects of the local change topics (Confluent's TopicNameStrategy).
    pub fn subjects(&self) -> Vec<String> {
        (0..self.names.shards()).map(|shard| format!("{}-value", self.names.local(shard))).collect()
    }

    fn topic(&self, name: Arc<str>, role: Role, mut settings: Vec<Setting>) -> WantedTopic {
        settings.push(Setting {
            key: "min.insync.replicas",
            // One below the factor, so that one broker may be down; two are enough.
            value: (self.replication_factor - 1).clamp(1, 2).to_string(),
            rule: Rule::AtLeast,
            required: false,
            why: "a change acknowledged by one broker alone is lost with it",
        });
        WantedTopic { name, role, partitions: self.partitions, settings }
    }
}

fn local() -> Vec<Setting> {
    vec![
        required("cleanup.policy", "delete", "compaction keeps the last offset of a key, which need not be its last writer's"),
        required(
            "message.timestamp.type",
            "LogAppendTime",
            "a change is admitted by the time at which the broker took it, not by its producer's clock",
        ),
        at_least("retention.ms", ms(CHANGE_RETENTION), "peers must be able to catch up after a long cut"),
        exactly("retention.bytes", "-1", "a limit in bytes deletes changes that a peer has not read"),
    ]
}

fn mirror() -> Vec<Setting> {
    vec![
        required("cleanup.policy", "delete", "compaction keeps the last offset of a key, which need not be its last writer's"),
        required(
            "message.timestamp.type",
            "CreateTime",
            "every region must judge a change by its origin's append time; LogAppendTime would replace that by the mirror's",
        ),
        at_least(
            "retention.ms",
            ms(MIRROR_RETENTION),
            "mirrored records bring their old timestamps and would be deleted before they are read",
        ),
        exactly("retention.bytes", "-1", "a limit in bytes deletes changes that no worker has read"),
    ]
}

fn versions_changelog() -> Vec<Setting> {
    let mut settings = compacted(HOUR);
    settings.extend([
        at_most("segment.bytes", 64 << 20, "only closed segments are compacted, and restore reads all of them"),
        at_most("segment.ms", ms(HOUR), "only closed segments are compacted, and restore reads all of them"),
        at_most("max.compaction.lag.ms", ms(7 * DAY), "restore reads every old version until it is compacted away"),
    ]);
    settings
}

fn vectors_changelog() -> Vec<Setting> {
    let mut settings = compacted(CHANGE_RETENTION);
    settings.push(room_for_copies());
    settings
}

fn repair() -> Vec<Setting> {
    vec![
        required("cleanup.policy", "delete", "compaction would drop what a task has not read"),
        at_least("retention.ms", ms(CHANGE_RETENTION), "what a resync has brought must be read before it is deleted"),
        exactly("retention.bytes", "-1", "a limit in bytes deletes what a resync has brought before it is read"),
        room_for_copies(),
    ]
}

/// Copies carry headers of ours and are not compressed, whatever their producers did.
fn room_for_copies() -> Setting {
    at_least(
        "max.message.bytes",
        COPY_BYTES_MAX as u128,
        "a change that its topic took must fit here too, or its partition stands still",
    )
}

fn compacted(min_lag: Duration) -> Vec<Setting> {
    vec![
        required("cleanup.policy", "compact", "it holds the newest of each row key for ever; deletion by age would forget rows"),
        at_least("min.compaction.lag.ms", ms(min_lag), "recent history must still be readable version by version"),
        at_least("delete.retention.ms", ms(DAY), "a worker away for less must still see that a key was forgotten"),
    ]
}

/// Dead letters and conflicts.
fn kept_for_people() -> Vec<Setting> {
    vec![
        required("cleanup.policy", "delete", "compaction would drop records that share a key"),
        at_least("retention.ms", ms(MIRROR_RETENTION), "somebody must have time to look at them and to replay them"),
        room_for_copies(),
    ]
}

fn required(key: &'static str, value: &str, why: &'static str) -> Setting {
    Setting { key, value: value.to_owned(), rule: Rule::Exactly, required: true, why }
}

fn exactly(key: &'static str, value: &str, why: &'static str) -> Setting {
    Setting { key, value: value.to_owned(), rule: Rule::Exactly, required: false, why }
}

fn at_least(key: &'static str, value: u128, why: &'static str) -> Setting {
    Setting { key, value: value.to_string(), rule: Rule::AtLeast, required: false, why }
}

fn at_most(key: &'static str, value: u128, why: &'static str) -> Setting {
    Setting { key, value: value.to_string(), rule: Rule::AtMost, required: false, why }
}

fn ms(duration: Duration) -> u128 {
    duration.as_millis()
}

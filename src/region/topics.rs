//! Topic names. Nothing else builds or takes apart a topic's name.

use crate::base::ids::Region;
use std::sync::Arc;

/// The base name of the change topics.
pub const CHANGE_TOPIC: &str = "vector-cdc";

/// Stands where a source's region is named, for the repair topic, whose records name their origins themselves. No
/// region is called so.
pub const REPAIR: &str = "repair";

/// A mirror's name by MirrorMaker's DefaultReplicationPolicy: `us.vector-cdc`.
pub fn mirror_name(source: &Region, topic: &str) -> String {
    format!("{source}.{topic}")
}

/// The topic that a mirror copies (`us.vector-cdc` → `vector-cdc`); any other topic is its own.
pub fn copied_topic(topic: &str) -> &str {
    topic.rsplit_once('.').map_or(topic, |(_, copied)| copied)
}

/// Does partition *i* of the topic go with partition *i* of this local change topic: its mirror, or its shard's repair
/// topic?
pub fn goes_with(topic: &str, local: &str) -> bool {
    let repair = || topic.rsplit_once("-repair").is_some_and(|(_, suffix)| local.strip_prefix(CHANGE_TOPIC) == Some(suffix));
    copied_topic(topic) == local || repair()
}

/// Names of every topic that one application in one region uses.
#[derive(Debug, Clone)]
pub struct TopicNames {
    application_id: String,
    shards: u16,
}

impl TopicNames {
    pub fn new(application_id: impl Into<String>, shards: u16) -> Self {
        Self { application_id: application_id.into(), shards: shards.max(1) }
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The region's own change topic of a shard: `vector-cdc`, or `vector-cdc-3` where there are several.
    pub fn local(&self, shard: u16) -> Arc<str> {
        Arc::from(format!("{CHANGE_TOPIC}{}", self.suffix(shard)))
    }

    /// A peer's change topic here.
    pub fn mirror(&self, peer: &Region, shard: u16) -> Arc<str> {
        Arc::from(mirror_name(peer, &self.local(shard)))
    }

    /// The shard of a local change topic, if it is one.
    pub fn shard_of_local(&self, topic: &str) -> Option<u16> {
        (0..self.shards).find(|shard| &*self.local(*shard) == topic)
    }

    pub fn versions_changelog(&self, shard: u16) -> Arc<str> {
        Arc::from(format!("{}-versions-changelog{}", self.application_id, self.suffix(shard)))
    }

    pub fn vectors_changelog(&self, shard: u16) -> Arc<str> {
        Arc::from(format!("{}-vectors-changelog{}", self.application_id, self.suffix(shard)))
    }

    /// What `resync` brings from a peer. Local: never mirrored.
    pub fn repair(&self, shard: u16) -> Arc<str> {
        Arc::from(format!("{}-repair{}", self.application_id, self.suffix(shard)))
    }

    pub fn dead_letter(&self) -> Arc<str> {
        Arc::from(format!("{}-dead-letter", self.application_id))
    }

    pub fn conflicts(&self) -> Arc<str> {
        Arc::from(format!("{}-conflicts", self.application_id))
    }

    fn suffix(&self, shard: u16) -> String {
        if self.shards == 1 { String::new() } else { format!("-{shard}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_mirrormaker_and_the_design_have_them() {
        let one = TopicNames::new("app", 1);
        assert_eq!(&*one.local(0), "vector-cdc");
        assert_eq!(&*one.mirror(&Region::new("us"), 0), "us.vector-cdc");
        assert_eq!(&*one.versions_changelog(0), "app-versions-changelog");
        let many = TopicNames::new("app", 3);
        assert_eq!(&*many.mirror(&Region::new("eu"), 2), "eu.vector-cdc-2");
        assert_eq!(many.shard_of_local("vector-cdc-1"), Some(1));
        assert_eq!(many.shard_of_local("vector-cdc"), None);
        assert_eq!(&*one.repair(0), "app-repair");
        assert!(goes_with(&one.repair(0), "vector-cdc") && goes_with(&many.repair(2), "vector-cdc-2"));
        assert!(goes_with("us.vector-cdc-2", "vector-cdc-2") && !goes_with(&many.repair(2), "vector-cdc-1"));
    }
}

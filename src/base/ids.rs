//! Names and positions: each is a type of its own, so that none can be taken for another.

use std::fmt;
use std::sync::Arc;

/// A region's name, as in the configuration: it is the origin of the changes accepted there and the
/// alias MirrorMaker gives its Kafka. Compared by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Arc<str>);

impl Region {
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A collection's place in the configured list. The list is the same for the life of a process;
/// what is written down carries the collection's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u16);

impl CollectionId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A vector's id in the form that its collection says. Only the canonical text form of each is
/// accepted (see `record::id`), so equal ids have equal text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VectorId {
    Uuid(u128),
    Int(i64),
    Text(Box<str>),
}

impl fmt::Display for VectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VectorId::Uuid(bits) => uuid::Uuid::from_u128(*bits).as_hyphenated().fmt(f),
            VectorId::Int(number) => number.fmt(f),
            VectorId::Text(text) => f.write_str(text),
        }
    }
}

/// What a version belongs to: one vector of one collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub collection: CollectionId,
    pub id: VectorId,
}

/// One partition of one Kafka topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition of the topology: everything that is keyed alike is handled by one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub shard: u16,
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.shard, self.partition)
    }
}

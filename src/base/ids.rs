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

impl serde::Serialize for Region {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What tells a topic from another one of the same name that was created after it was deleted (KIP-516). As the
/// log writes it; it says nothing beyond being equal or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicId(Arc<str>);

impl TopicId {
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicId {
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
        f.write_str(self.text(&mut [0; ID_TEXT_BYTES]))
    }
}

/// Room for the text of an id that is kept as a number.
pub type IdBuffer = [u8; ID_TEXT_BYTES];

/// A UUID's text; the longest of an int64 is shorter.
pub const ID_TEXT_BYTES: usize = 36;

impl VectorId {
    /// The canonical text, which is also the key of the id's records. Allocates nothing.
    pub fn text<'a>(&'a self, buffer: &'a mut IdBuffer) -> &'a str {
        match self {
            VectorId::Uuid(bits) => uuid::Uuid::from_u128(*bits).as_hyphenated().encode_lower(buffer),
            VectorId::Int(number) => decimal(*number, buffer),
            VectorId::Text(text) => text,
        }
    }
}

fn decimal(number: i64, buffer: &mut IdBuffer) -> &str {
    let mut at = buffer.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    std::str::from_utf8(&buffer[at..]).expect("digits and a sign are ASCII")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_text_that_their_records_are_keyed_by() {
        for number in [0, 7, -1, 1_000, i64::MAX, i64::MIN] {
            assert_eq!(VectorId::Int(number).to_string(), number.to_string());
        }
        assert_eq!(VectorId::Uuid(0xab).to_string(), "00000000-0000-0000-0000-0000000000ab");
        assert_eq!(VectorId::Text("ä b".into()).to_string(), "ä b");
    }
}

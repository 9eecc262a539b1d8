//! A message as the log gave it.

use crate::base::time::UnixMs;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// One message header; `None` is Kafka's null value.
pub type RawHeader = (Arc<str>, Option<Bytes>);

/// What a record is appended with; up to two are kept in place.
pub type Headers = SmallVec<[RawHeader; 2]>;

/// A message with its coordinates. Cloning copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// The message's timestamp: on a change topic **A**, the append time at the origin's broker.
    pub appended_at: UnixMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RawHeader>,
}

impl RawRecord {
    /// Bytes that this record holds in memory, headers included; what buffers are bounded by.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len)).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    /// The last header of that name, as text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| &**header == name)?;
        std::str::from_utf8(value.as_ref()?).ok()
    }
}

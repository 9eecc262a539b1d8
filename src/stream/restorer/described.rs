//! Topics' descriptions, kept for a moment: the tasks that are assigned at once all ask for the same ones, and each
//! question is two round trips.
//!
//! One that is old by that moment does no harm. It may give a topic's former id to what is read of the one that has just
//! taken its place; then the next check of the source, or whoever opens the store next, finds that the ids differ, as with
//! a topic that is created anew between question and reading.

use crate::base::error::Result;
use crate::base::ids::TopicPartition;
use crate::base::time::UnixMs;
use crate::port::log::{Bounds, LogReader, TopicDescription};
use crate::record::raw::RawRecord;
use std::collections::HashMap;
use std::time::Duration;

const KEPT: Duration = Duration::from_secs(1);

/// By topic, with when it was asked for (monotonic).
pub(super) type Described = HashMap<String, (Duration, TopicDescription)>;

/// A reader that asks for a topic once in a while only.
pub(super) struct OncePerTopic<'a> {
    reader: &'a mut dyn LogReader,
    described: &'a mut Described,
    now: Duration,
}

impl<'a> OncePerTopic<'a> {
    pub fn new(reader: &'a mut dyn LogReader, described: &'a mut Described, now: Duration) -> Self {
        described.retain(|_, (at, _)| now < *at + KEPT);
        Self { reader, described, now }
    }
}

impl LogReader for OncePerTopic<'_> {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        if let Some((_, description)) = self.described.get(topic) {
            return Ok(Some(description.clone()));
        }
        let found = self.reader.describe(topic)?;
        if let Some(description) = &found {
            self.described.insert(topic.to_owned(), (self.now, description.clone()));
        }
        Ok(found)
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        self.reader.bounds(partition)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        self.reader.offset_at(partition, at)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.reader.open(partition, offset)
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        self.reader.read(records)
    }

    fn close(&mut self) {
        self.reader.close();
    }
}

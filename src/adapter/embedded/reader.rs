//! Reads an embedded broker's partitions by offset.

use super::broker::Broker;
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::base::time::UnixMs;
use crate::port::log::{Bounds, LogReader, TopicDescription};
use crate::record::raw::RawRecord;
use std::sync::Arc;

const RECORDS_PER_READ_MAX: usize = 1000;

pub struct EmbeddedReader {
    broker: Arc<Broker>,
    open: Option<(TopicPartition, i64)>,
}

impl EmbeddedReader {
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker, open: None }
    }
}

impl LogReader for EmbeddedReader {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        Ok(self.broker.describe(topic))
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        Ok(self.broker.bounds(partition)?)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        Ok(self.broker.offset_at(partition, at)?)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.open = Some((partition.clone(), offset));
        Ok(())
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        let Some((partition, position)) = &mut self.open else {
            return Err(Error::fatal("read without an opened partition: call open first"));
        };
        *position = self.broker.read(partition, *position, RECORDS_PER_READ_MAX, |record| records.push(record))?;
        Ok(*position)
    }

    fn close(&mut self) {
        self.open = None;
    }
}

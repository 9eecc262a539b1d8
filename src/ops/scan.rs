//! Reading a partition from an offset to the end that it had when the read began.

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::port::log::LogReader;
use crate::record::raw::RawRecord;

/// Reads that may bring nothing in a row before the log counts as unreachable; each waits a short moment.
const EMPTY_READS_MAX: usize = 1_000;

/// Visits every record between `from` and the present end.
pub fn scan(reader: &mut dyn LogReader, partition: &TopicPartition, from: i64, visit: &mut dyn FnMut(RawRecord)) -> Result<()> {
    let bounds = reader.bounds(partition)?;
    let mut position = from.max(bounds.first);
    if position >= bounds.end {
        return Ok(());
    }
    reader.open(partition, position)?;
    let read = read_to(reader, partition, &mut position, bounds.end, visit);
    reader.close();
    read
}

fn read_to(
    reader: &mut dyn LogReader,
    partition: &TopicPartition,
    position: &mut i64,
    end: i64,
    visit: &mut dyn FnMut(RawRecord),
) -> Result<()> {
    let mut records = Vec::new();
    let mut empty_reads = 0;
    while *position < end {
        let next = reader.read(&mut records)?;
        empty_reads = if next > *position { 0 } else { empty_reads + 1 };
        if empty_reads > EMPTY_READS_MAX {
            return Err(Error::retry(format!("{partition} gives nothing at offset {position} of {end}; is its leader up?")));
        }
        *position = next;
        for record in records.drain(..).filter(|record| record.offset < end) {
            visit(record);
        }
    }
    Ok(())
}

/// A log in memory, for the tests of this layer.
#[cfg(test)]
pub(crate) mod memory {
    use super::*;
    use crate::base::time::UnixMs;
    use crate::port::log::{Bounds, TopicDescription};

    #[derive(Default)]
    pub struct MemoryReader {
        pub records: Vec<RawRecord>,
        pub partitions: i32,
        pub opened: Option<(TopicPartition, i64)>,
    }

    impl MemoryReader {
        fn of(&self, partition: &TopicPartition) -> impl Iterator<Item = &RawRecord> {
            let partition = partition.clone();
            self.records.iter().filter(move |record| record.topic == partition.topic && record.partition == partition.partition)
        }
    }

    impl LogReader for MemoryReader {
        fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
            let found = self.records.iter().any(|record| &*record.topic == topic);
            Ok(found.then_some(TopicDescription { partitions: self.partitions, id: None }))
        }

        fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
            let end = self.of(partition).map(|record| record.offset + 1).max().unwrap_or(0);
            Ok(Bounds { first: 0, end })
        }

        fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
            let end = self.bounds(partition)?.end;
            Ok(self.of(partition).find(|record| record.appended_at >= at).map_or(end, |record| record.offset))
        }

        fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
            self.opened = Some((partition.clone(), offset));
            Ok(())
        }

        fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
            let (partition, position) = self.opened.clone().expect("opened before it is read");
            records.extend(self.of(&partition).find(|record| record.offset >= position).cloned());
            let next = records.last().map_or(position, |record| record.offset + 1);
            self.opened = Some((partition, next));
            Ok(next)
        }

        fn close(&mut self) {
            self.opened = None;
        }
    }
}

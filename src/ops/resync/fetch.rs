//! The wanted records of a peer's vectors changelog, by their offsets.

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::ops::replica::Place;
use crate::record::raw::RawRecord;

/// What lies between two wanted records is read over if it is likely smaller than this: a new beginning costs a round
/// trip, and what was under way already.
const HOLE_BYTES_MAX: i64 = 256 << 10;
/// Of a record, until some have been read.
const RECORD_BYTES: i64 = 4 << 10;
/// Reads that may bring nothing in a row before the log counts as unreachable; each waits a short moment.
const EMPTY_READS_MAX: usize = 3_000;

pub struct Fetch {
    partition: TopicPartition,
    /// Ascending.
    wanted: Vec<i64>,
    next_wanted: usize,
    position: Option<i64>,
    records: i64,
    bytes: i64,
}

impl Fetch {
    pub fn new(partition: TopicPartition, wanted: Vec<i64>) -> Self {
        Self { partition, wanted, next_wanted: 0, position: None, records: 0, bytes: 0 }
    }

    /// Some of the wanted records; none: there are no more. One that is not there any more is passed over.
    pub fn next(&mut self, place: &mut Place<'_>) -> Result<Vec<RawRecord>> {
        let mut found = Vec::new();
        let mut empty_reads = 0;
        while found.is_empty() {
            let Some(wanted) = self.wanted.get(self.next_wanted).copied() else {
                place.reader.close();
                return Ok(found);
            };
            let position = self.move_to(wanted, place)?;
            let mut records = Vec::new();
            let next = place.reader.read(&mut records)?;
            empty_reads = if next > position { 0 } else { empty_reads + 1 };
            if empty_reads > EMPTY_READS_MAX {
                return Err(Error::retry(format!("{} gives nothing at offset {position}; is its leader up?", self.partition)));
            }
            self.position = Some(next);
            self.take(records, next, place, &mut found);
        }
        Ok(found)
    }

    /// Where to read on, so that the wanted record comes soon.
    fn move_to(&mut self, wanted: i64, place: &mut Place<'_>) -> Result<i64> {
        let record_bytes = if self.records == 0 { RECORD_BYTES } else { (self.bytes / self.records).max(1) };
        let near = |position: i64| wanted >= position && (wanted - position) * record_bytes <= HOLE_BYTES_MAX;
        if let Some(position) = self.position.filter(|position| near(*position)) {
            return Ok(position);
        }
        place.reader.open(&self.partition, wanted)?;
        self.position = Some(wanted);
        Ok(wanted)
    }

    fn take(&mut self, records: Vec<RawRecord>, next: i64, place: &mut Place<'_>, found: &mut Vec<RawRecord>) {
        for record in records {
            let bytes = record.bytes() as u64;
            place.bytes += bytes;
            self.records += 1;
            self.bytes += bytes as i64;
            while self.wanted.get(self.next_wanted).is_some_and(|wanted| *wanted < record.offset) {
                self.next_wanted += 1;
            }
            if self.wanted.get(self.next_wanted) == Some(&record.offset) {
                self.next_wanted += 1;
                found.push(record);
            }
        }
        while self.wanted.get(self.next_wanted).is_some_and(|wanted| *wanted < next) {
            self.next_wanted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::base::time::UnixMs;
    use crate::ops::scan::memory::MemoryReader;
    use crate::region::topics::TopicNames;

    #[test]
    fn wanted_records_come_in_order_and_what_is_gone_or_far_away_is_passed_over() {
        let partition = TopicPartition::new("vectors", 0);
        let record = |offset| RawRecord {
            topic: partition.topic.clone(),
            partition: 0,
            offset,
            appended_at: UnixMs(offset),
            key: Some("key".into()),
            value: Some(vec![0; 10_000].into()),
            headers: Vec::new(),
        };
        // 7 is compacted away.
        let records = (0..1_000).filter(|offset| *offset != 7).map(record).collect();
        let mut reader = MemoryReader { records, partitions: 1, ..MemoryReader::default() };
        let mut place = Place::new(Region::new("us"), TopicNames::new("app", 1), &mut reader);
        let mut fetch = Fetch::new(partition.clone(), vec![3, 7, 9, 900, 901]);
        let mut found = Vec::new();
        loop {
            let records = fetch.next(&mut place).unwrap();
            if records.is_empty() {
                break;
            }
            found.extend(records.iter().map(|record| record.offset));
        }
        assert_eq!(found, [3, 9, 900, 901]);
        // 3 to 9, and 900 and 901: not what lies between.
        assert_eq!(place.bytes, 8 * 10_003);
    }
}

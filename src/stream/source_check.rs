//! Where a source's reading begins, and whether its topic still is the one that was read before.
//!
//! An offset alone cannot tell: a topic that was deleted, created again and has grown past the offset looks
//! the same. So the record just before it is compared with what progress remembers of it.

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::port::log::LogReader;
use crate::record::raw::RawRecord;
use crate::task::settlement::fingerprint;
use crate::task::stream_task::SourceStart;

/// What the log says about a source.
#[derive(Debug, Clone)]
pub struct Checked {
    pub start: SourceStart,
    /// The topic is another one than before: everything is read again from its beginning.
    pub replay: bool,
    /// What an operator should know, if anything.
    pub warning: Option<String>,
}

/// Checks one source. `partitions`: what its local topic has, and every mirror must have too.
pub fn check(reader: &mut dyn LogReader, mut start: SourceStart, partition: i32, partitions: i32) -> Result<Checked> {
    match reader.partition_count(&start.topic)? {
        None => {
            start.present = false;
            let warning = format!(
                "topic {} is not there; it is taken up when it appears (`driftless topics create` makes it)",
                start.topic
            );
            return Ok(Checked { start, replay: false, warning: Some(warning) });
        }
        Some(count) if count != partitions => {
            start.present = false;
            let warning = format!(
                "topic {} has {count} partitions and the region's own topic has {partitions}: it is not read, since equal keys would lie in different partitions; create it anew with {partitions}",
                start.topic
            );
            return Ok(Checked { start, replay: false, warning: Some(warning) });
        }
        Some(_) => start.present = true,
    }
    let source = TopicPartition::new(start.topic.clone(), partition);
    let bounds = reader.bounds(&source)?;
    let Some(mark) = start.mark else {
        start.next_offset = bounds.first.max(start.next_offset.min(bounds.end));
        return Ok(Checked { start, replay: false, warning: None });
    };
    if start.next_offset < bounds.first {
        let warning = format!(
            "{source}: records {} to {} were deleted before they were read; this partition is incomplete",
            start.next_offset,
            bounds.first - 1
        );
        start.next_offset = bounds.first;
        return Ok(Checked { start, replay: false, warning: Some(warning) });
    }
    let known = start.next_offset <= bounds.end
        && match record_at(reader, &source, start.next_offset - 1, bounds.first)? {
            Some(record) => record.appended_at == mark.appended_at && fingerprint(&record) == mark.fingerprint,
            // The record before our position is gone by retention: nothing to compare with.
            None => true,
        };
    if known {
        return Ok(Checked { start, replay: false, warning: None });
    }
    let warning = format!(
        "{source}: the record before offset {} is not the one that was settled: the topic was created again; it is read from its beginning",
        start.next_offset
    );
    start.next_offset = bounds.first;
    start.mark = None;
    Ok(Checked { start, replay: true, warning: Some(warning) })
}

/// Bounds a loop of reads that should end soon: a log out of reach gives nothing, and says nothing.
#[derive(Debug, Default)]
pub(super) struct Patience {
    reads: u32,
}

impl Patience {
    /// Reads that wait a moment each; minutes in all.
    const READS_MAX: u32 = 1_000;

    pub fn spend(&mut self, partition: &TopicPartition) -> Result<()> {
        self.reads += 1;
        if self.reads > Self::READS_MAX {
            return Err(Error::retry(format_args!("{partition} gives no records; is its leader there?")));
        }
        Ok(())
    }
}

fn record_at(reader: &mut dyn LogReader, source: &TopicPartition, offset: i64, first: i64) -> Result<Option<RawRecord>> {
    if offset < first {
        return Ok(None);
    }
    reader.open(source, offset)?;
    let mut records = Vec::new();
    let mut patience = Patience::default();
    let found = loop {
        let next = reader.read(&mut records)?;
        patience.spend(source)?;
        if let Some(record) = records.first() {
            break Ok((record.offset == offset).then(|| record.clone()));
        }
        if next > offset {
            break Ok(None);
        }
    };
    reader.close();
    found
}

//! Where a source's reading begins, and whether its topic still is the one that was read before.
//!
//! An offset alone cannot tell: a topic that was deleted, created again and has grown past the offset looks
//! the same. The topic's id tells, where the log gives one. The record just before the offset is compared too with
//! what progress remembers of it: of a topic whose id is not known it is all there is, and a log may lose its end
//! and keep its id.

use crate::base::error::{Error, Result};
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::metric;
use crate::port::log::{Bounds, LogReader};
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
    // Asked for first: of a topic that is created again in the middle of this, the next check finds another id.
    let Some(found) = reader.describe(&start.topic)? else {
        start.present = false;
        let warning =
            format!("topic {} is not there; it is taken up when it appears (`driftless topics create` makes it)", start.topic);
        return Ok(Checked { start, replay: false, warning: Some(warning) });
    };
    if found.partitions != partitions {
        start.present = false;
        let warning = format!(
            "topic {} has {} partitions and the region's own topic has {partitions}: it is not read, since equal keys would lie in different partitions; create it anew with {partitions}",
            start.topic, found.partitions
        );
        return Ok(Checked { start, replay: false, warning: Some(warning) });
    }
    start.present = true;
    let source = TopicPartition::new(start.topic.clone(), partition);
    let bounds = reader.bounds(&source)?;
    if let (Some(known), Some(now)) = (&start.topic_id, &found.id)
        && known != now
    {
        let warning =
            format!("{source}: the topic was created again (its id was {known} and is {now}); it is read from its beginning");
        return Ok(replay(start, found.id, bounds, warning));
    }
    check_place(reader, start, found.id, &source, bounds)
}

/// Is the log, by what its place in it is told again by, the one that the start is meant of?
fn check_place(
    reader: &mut dyn LogReader,
    mut start: SourceStart,
    topic_id: Option<TopicId>,
    source: &TopicPartition,
    bounds: Bounds,
) -> Result<Checked> {
    let Some(mark) = start.mark else {
        start.next_offset = bounds.first.max(start.next_offset.min(bounds.end));
        if start.next_offset == bounds.first {
            // It will be read whole: whichever topic it is, it is the one that is meant.
            start.topic_id = topic_id.or(start.topic_id);
        }
        return Ok(Checked { start, replay: false, warning: None });
    };
    if start.next_offset < bounds.first {
        let warning = format!(
            "{source}: records {} to {} were deleted before they were read; this partition is incomplete",
            start.next_offset,
            bounds.first - 1
        );
        metrics::counter!(metric::REPLICATION_GAPS, "source" => start.region.to_string()).increment(1);
        start.next_offset = bounds.first;
        return Ok(Checked { start, replay: false, warning: Some(warning) });
    }
    if start.next_offset <= bounds.end {
        match record_at(reader, source, start.next_offset - 1, bounds.first)? {
            Some(record) if record.appended_at == mark.appended_at && fingerprint(&record) == mark.fingerprint => {
                // Only now is an id that was not known taken for the one that was meant.
                start.topic_id = topic_id.or(start.topic_id);
                return Ok(Checked { start, replay: false, warning: None });
            }
            Some(_) => {}
            // The record before our position is gone by retention: nothing to compare with.
            None => return Ok(Checked { start, replay: false, warning: None }),
        }
    }
    let why = match &start.topic_id {
        Some(id) if topic_id.as_ref() == Some(id) => "the topic has lost its end",
        _ => "the topic was created again",
    };
    let warning = format!(
        "{source}: the record before offset {} is not the one that was settled: {why}; it is read from its beginning",
        start.next_offset
    );
    Ok(replay(start, topic_id, bounds, warning))
}

/// It is another log: counted, since the warning is easily overlooked.
fn replay(mut start: SourceStart, topic_id: Option<TopicId>, bounds: Bounds, warning: String) -> Checked {
    metrics::counter!(metric::SOURCE_REPLAYS, "source" => start.region.to_string()).increment(1);
    start.topic_id = topic_id;
    start.next_offset = bounds.first;
    start.mark = None;
    Checked { start, replay: true, warning: Some(warning) }
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

/// The record at an offset, if it is still there.
pub(super) fn record_at(
    reader: &mut dyn LogReader,
    source: &TopicPartition,
    offset: i64,
    first: i64,
) -> Result<Option<RawRecord>> {
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

//! A versions changelog as far as it has been read: its image, and the position that the image stands for. A restore
//! reads one to its end and is done; a standby goes on reading, and hands it to the restore of its successor.
//!
//! What a tail holds is what the log says below its position, no more: it takes nothing from a task that ran here. But
//! the log may change behind its back. It may be another log by now, have lost its end, or have compacted away nulls
//! that were not read yet; all of that is [doubted](Tail::doubt) before anybody builds on it.

use crate::base::error::Result;
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::time::{Now, UnixMs};
use crate::port::log::{Bounds, LogReader};
use crate::record::raw::RawRecord;
use crate::stream::restore::Image;
use crate::stream::source_check::record_at;
use crate::task::settlement::fingerprint;
use std::time::Duration;

pub struct Tail {
    changelog: TopicPartition,
    pub(super) image: Image,
    /// Everything below it is in the image, and nothing at or above it.
    position: i64,
    topic_id: Option<TopicId>,
    /// The last record read: where it lies, and what it is told again by.
    last: Option<(i64, UnixMs, u64)>,
    /// Everything that was in the log then has been read, or is being read since then from the log's beginning.
    whole_at: Now,
}

impl Tail {
    pub(super) fn begin(changelog: TopicPartition, image: Image, topic_id: Option<TopicId>, first: i64, now: Now) -> Self {
        Self { changelog, image, position: first, topic_id, last: None, whole_at: now }
    }

    pub fn position(&self) -> i64 {
        self.position
    }

    pub(super) fn open(&self, reader: &mut dyn LogReader) -> Result<()> {
        reader.open(&self.changelog, self.position)
    }

    /// One read from the opened partition, as far as `end`. Answers how many bytes it was.
    pub(super) fn read(&mut self, reader: &mut dyn LogReader, end: i64) -> Result<usize> {
        let mut records = Vec::new();
        let next = reader.read(&mut records)?;
        let below = records.iter().take_while(|record| record.offset < end);
        for record in below.clone() {
            self.image.apply(record)?;
        }
        if let Some(record) = below.last() {
            self.last = Some((record.offset, record.appended_at, fingerprint(record)));
        }
        // What lies beyond has been read and not applied: it is there to be read again.
        self.position = next.min(end);
        Ok(records.iter().map(RawRecord::bytes).sum())
    }

    /// The end that has been reached was asked for at this time.
    pub(super) fn is_whole_as_of(&mut self, now: Now) {
        self.whole_at = now;
    }

    /// Why it can't be gone on from: it may hold what the log does not. A look at the bounds is enough to go on reading;
    /// whoever is to act on it looks at [the record](Self::has_lost_its_place) too.
    ///
    /// A null that was appended after the tail was last whole is there for `horizon` at least; later it may be gone with
    /// all before it, and the tail would hold for ever what it had forgotten.
    pub(super) fn doubt(&self, topic_id: Option<&TopicId>, bounds: Bounds, now: Now, horizon: Duration) -> Option<String> {
        let (changelog, position, end) = (&self.changelog, self.position, bounds.end);
        if let (Some(known), Some(found)) = (&self.topic_id, topic_id)
            && known != found
        {
            return Some(format!("{changelog} was created again: its id was {known} and is {found}"));
        }
        if position < bounds.first {
            return Some(format!("{changelog} begins at {} by now: records were deleted before they were read", bounds.first));
        }
        if position > end {
            return Some(format!("{changelog} has lost its end: it was read up to {position} and ends at {end}"));
        }
        let wall_ms = now.wall.since_ms(self.whole_at.wall);
        let away = now.since(self.whole_at).max(Duration::from_millis(wall_ms.max(0).unsigned_abs()));
        if away > horizon {
            return Some(format!(
                "it was {} behind {changelog}, longer than deletes are kept there",
                humantime::format_duration(Duration::from_secs(away.as_secs()))
            ));
        }
        None
    }

    /// Is there another record now where the last one was read? A log that loses its end grows again, past our position.
    pub(super) fn has_lost_its_place(&self, reader: &mut dyn LogReader, bounds: Bounds) -> Result<Option<String>> {
        let Some((offset, appended_at, mark)) = self.last else { return Ok(None) };
        let found = record_at(reader, &self.changelog, offset, bounds.first)?;
        let other = found.is_some_and(|record| record.appended_at != appended_at || fingerprint(&record) != mark);
        Ok(other.then(|| format!("{} holds another record at {offset} by now: it has lost its end", self.changelog)))
    }
}

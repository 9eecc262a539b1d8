//! A versions changelog as far as it has been read: its image, and the position that the image stands for. A restore
//! reads one to its end and is done; a standby goes on reading, and hands it to the restore of its successor.
//!
//! What a tail holds is what the log says below its position, no more: it takes nothing from a task that ran here. But
//! the log may change behind its back. It may be another log by now, have lost its end, or have compacted away nulls
//! that were not read yet; all of that is [doubted](Tail::doubt) before anybody builds on it.

use crate::base::error::Result;
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::metric;
use crate::base::time::{Now, UnixMs};
use crate::port::log::{Bounds, LogReader};
use crate::record::raw::RawRecord;
use crate::store::{Opened, Position, StoreOf, Stores};
use crate::stream::restore::image::Image;
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
    warm_from: Option<i64>,
    /// Why what was kept, or read before, could not be used.
    pub(super) warning: Option<String>,
}

impl Tail {
    /// Begins where the store that is kept for it ends, or at the log's beginning.
    pub(super) fn begin(of: &StoreOf, stores: &dyn Stores, reader: &mut dyn LogReader, bounds: Bounds, now: Now) -> Result<Self> {
        let (opened, warning) = open_store(of, stores, reader, bounds, now)?;
        Ok(Self::of_store(of, opened, warning, bounds, now))
    }

    /// Begins at the log's beginning: what was kept is not to be believed, for the reason that the warning gives.
    pub(super) fn begin_anew(of: &StoreOf, stores: &dyn Stores, bounds: Bounds, now: Now, warning: String) -> Result<Self> {
        Ok(Self::of_store(of, stores.open_empty(of)?, Some(warning), bounds, now))
    }

    fn of_store(of: &StoreOf, opened: Opened, warning: Option<String>, bounds: Bounds, now: Now) -> Self {
        let kept = opened.applied.as_ref().map(|applied| applied.position);
        metrics::counter!(metric::STORES_DROPPED).increment(u64::from(warning.is_some()));
        Self {
            changelog: of.changelog.clone(),
            image: Image::new(of.collections.clone(), opened),
            position: kept.map_or(bounds.first, |kept| kept.next_offset),
            topic_id: of.topic_id.clone(),
            last: None,
            whole_at: Now { wall: kept.map_or(now.wall, |kept| kept.at.min(now.wall)), ..now },
            warm_from: kept.map(|kept| kept.next_offset),
            warning,
        }
    }

    pub fn position(&self) -> i64 {
        self.position
    }

    /// Where the store that was kept had got to.
    pub(super) fn warm_from(&self) -> Option<i64> {
        self.warm_from
    }

    pub(super) fn open(&self, reader: &mut dyn LogReader) -> Result<()> {
        reader.open(&self.changelog, self.position)
    }

    /// One read from the opened partition, as far as `end`. Answers how many bytes it was.
    pub(super) fn read(&mut self, reader: &mut dyn LogReader, end: i64) -> Result<usize> {
        let mut records = Vec::new();
        let next = reader.read(&mut records)?;
        let below = records.partition_point(|record| record.offset < end);
        for record in &records[..below] {
            self.image.apply(record)?;
        }
        // What lies beyond has been read and not applied: it is there to be read again.
        self.position = next.min(end);
        if let Some(record) = records[..below].last() {
            self.last = Some((record.offset, record.appended_at, fingerprint(record)));
        }
        self.image.passed(self.position);
        self.image.commit()?;
        Ok(records.iter().map(RawRecord::bytes).sum())
    }

    /// The end that has been reached was asked for at this time.
    pub(super) fn is_whole_as_of(&mut self, now: Now) {
        self.whole_at = now;
        self.image.caught_up();
    }

    /// Why it can't be built on. Whoever acts on it asks this; [`doubt`](Self::doubt) is enough to read on.
    pub(super) fn why_not(&self, reader: &mut dyn LogReader, of: &StoreOf, bounds: Bounds, now: Now) -> Result<Option<String>> {
        match (&self.topic_id, &of.topic_id) {
            (known, found) if known == found => self.doubt(reader, bounds, now, of.horizon),
            (Some(known), Some(found)) => {
                Ok(Some(format!("{} was created again: its id was {known} and is {found}", self.changelog)))
            }
            _ => Ok(Some(format!("nothing proves that {} is still the topic it was: it has no id", self.changelog))),
        }
    }

    /// Why it can't be read on: it may hold what the log does not, or lack what the log holds.
    pub(super) fn doubt(
        &self,
        reader: &mut dyn LogReader,
        bounds: Bounds,
        now: Now,
        horizon: Duration,
    ) -> Result<Option<String>> {
        let outside = is_outside(&self.changelog, self.position, bounds);
        match outside.or_else(|| self.stood_still(now, horizon)) {
            None => self.has_lost_its_place(reader, bounds),
            doubt => Ok(doubt),
        }
    }

    fn stood_still(&self, now: Now, horizon: Duration) -> Option<String> {
        let wall_ms = now.wall.since_ms(self.whole_at.wall).max(0).unsigned_abs();
        let away = now.since(self.whole_at).max(Duration::from_millis(wall_ms));
        (away > usable(horizon)).then(|| too_old(&self.changelog, away))
    }

    /// Is there another record now where the last one was read? A log that loses its end grows again, past our position;
    /// and once something was read behind it, that looks right by itself.
    fn has_lost_its_place(&self, reader: &mut dyn LogReader, bounds: Bounds) -> Result<Option<String>> {
        let Some((offset, appended_at, mark)) = self.last else { return Ok(None) };
        let found = record_at(reader, &self.changelog, offset, bounds.first)?;
        let other = found.is_some_and(|record| record.appended_at != appended_at || fingerprint(&record) != mark);
        Ok(other.then(|| format!("{} holds another record at {offset} by now: it has lost its end", self.changelog)))
    }
}

/// What was kept, unless the log does not lead on from there; and why not.
fn open_store(
    of: &StoreOf,
    stores: &dyn Stores,
    reader: &mut dyn LogReader,
    bounds: Bounds,
    now: Now,
) -> Result<(Opened, Option<String>)> {
    let mut opened = stores.open(of)?;
    let warning = opened.warning.take();
    let Some(position) = opened.applied.as_ref().map(|applied| applied.position) else { return Ok((opened, warning)) };
    let Some(reason) = cannot_go_on(of, reader, position, bounds, now)? else { return Ok((opened, warning)) };
    drop(opened);
    let warning = format!("the store kept for this task is dropped, and restored from the beginning: {reason}");
    Ok((stores.open_empty(of)?, Some(warning)))
}

/// Why reading on from a kept store's position would not lead to what the log means.
///
/// The horizon is measured by the log's own times and by our clock: a log that nobody has written to since is
/// compacted all the same.
fn cannot_go_on(
    of: &StoreOf,
    reader: &mut dyn LogReader,
    position: Position,
    bounds: Bounds,
    now: Now,
) -> Result<Option<String>> {
    let Position { next_offset, at } = position;
    let outside = is_outside(&of.changelog, next_offset, bounds);
    if outside.is_some() || next_offset == bounds.end {
        return Ok(outside);
    }
    let usable = usable(of.horizon);
    let by_clock = now.wall.since_ms(at) > usable.as_millis() as i64;
    let is_old = by_clock || reader.offset_at(&of.changelog, at.plus(usable))? < bounds.end;
    Ok(is_old.then(|| too_old(&of.changelog, usable)))
}

/// A null that was appended after the log was last read whole is there for the horizon at least. Later it may be gone
/// with all before it, and whoever reads on would hold for ever what it had forgotten. A quarter is left for the reading.
fn usable(horizon: Duration) -> Duration {
    horizon * 3 / 4
}

fn too_old(changelog: &TopicPartition, age: Duration) -> String {
    let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
    format!("it is older than {age}, and {changelog} may have let go of deletes that it has not seen")
}

fn is_outside(changelog: &TopicPartition, position: i64, bounds: Bounds) -> Option<String> {
    if position < bounds.first {
        return Some(format!("it ends at offset {position}, and {changelog} begins at {} now", bounds.first));
    }
    (position > bounds.end).then(|| format!("it ends at offset {position}, and {changelog} at {} already", bounds.end))
}

//! Lag by the log alone: what has arrived there, and what progress records say to be settled.
//!
//! **arrived**: 0 while the newest record of a source is at most two heartbeat intervals old, whatever it is; else its
//! age. **acknowledged**: the age of the oldest change that is not settled; of a heartbeat too, once it should long have
//! been; or what has arrived lags, if that is more. A progress record is written each commit interval, so much more than
//! the truth it may be, and never less.
//!
//! The order of questions matters: first where a source ends, then what is settled, so that what is settled meanwhile is
//! not taken for waiting.

use super::{LagTable, SourceLag, Stages};
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::{Clock, UnixMs};
use crate::ops::history::Setting;
use crate::ops::history::progress::ProgressFollower;
use crate::port::log::LogReader;
use crate::record::decode::{Decoded, decode};
use crate::record::headers::is_heartbeat_key;
use crate::record::raw::RawRecord;
use crate::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use crate::task::heartbeat::echo_of;
use crate::task::skew::{Exchange, Skew};
use std::collections::BTreeMap;
use std::sync::Arc;

const ARRIVED: &str = "arrived";
const ACKNOWLEDGED: &str = "acknowledged";
pub const STAGES: Stages = &[ARRIVED, ACKNOWLEDGED];

/// Two intervals of heartbeats, which come each second.
const OVERDUE_MS: i64 = 2_000;
/// Records at the end of a partition that are looked at for the newest one, and for heartbeats.
const NEWEST_RECORDS: i64 = 16;
/// Records that are not settled and are looked at for a change. More than these, all of them heartbeats, are minutes
/// old, and count by their own age.
const OLDEST_RECORDS: i64 = 256;
const EMPTY_READS_MAX: usize = 1_000;

/// Looks at a region's log again and again; clocks are compared better with each look.
pub struct Outside {
    setting: Setting,
    follower: ProgressFollower,
    skews: BTreeMap<Region, Skew>,
}

/// The end of a source's partition at one moment, and the newest record's append time.
struct End {
    at: UnixMs,
    first: i64,
    end: i64,
    newest: Option<UnixMs>,
}

impl Outside {
    pub fn new(setting: Setting) -> Self {
        Self { follower: ProgressFollower::new(&setting), skews: BTreeMap::new(), setting }
    }

    pub fn look(&mut self, reader: &mut dyn LogReader, clock: &dyn Clock) -> Result<LagTable> {
        let origins: Vec<Region> = std::iter::once(&self.setting.region).chain(&self.setting.peers).cloned().collect();
        let mut sources: Vec<SourceLag> = origins.iter().map(|origin| SourceLag::of(origin.as_str())).collect();
        for index in 0..self.follower.partitions.len() {
            let ends = self.ends(&origins, index, reader, clock)?;
            let since = clock.now().wall;
            self.follower.partitions[index].look(reader)?;
            for ((origin, lag), end) in origins.iter().zip(&mut sources).zip(ends) {
                self.reckon(origin, index, end, since, reader, lag)?;
            }
        }
        for (origin, lag) in origins.iter().zip(&mut sources) {
            let bounds = self.skews.get(origin).and_then(Skew::bounds);
            lag.clock_ahead_ms = bounds.map(|bounds| [bounds.least_ms, bounds.most_ms]);
        }
        Ok(LagTable { stages: STAGES, at_ms: clock.now().wall.0, sources })
    }

    fn topic(&self, origin: &Region, index: usize) -> TopicPartition {
        let followed = &self.follower.partitions[index];
        let names = &self.setting.names;
        let own = *origin == self.setting.region;
        let topic = if own { names.local(followed.shard) } else { names.mirror(origin, followed.shard) };
        TopicPartition::new(topic, followed.partition)
    }

    /// Of each origin; none where its topic is not there.
    fn ends(
        &mut self,
        origins: &[Region],
        index: usize,
        reader: &mut dyn LogReader,
        clock: &dyn Clock,
    ) -> Result<Vec<Option<End>>> {
        let mut ends = Vec::new();
        for origin in origins {
            let source = self.topic(origin, index);
            let there = reader.partition_count(&source.topic)?.is_some_and(|count| source.partition < count);
            ends.push(if there { Some(self.end(origin, &source, reader, clock)?) } else { None });
        }
        Ok(ends)
    }

    fn end(&mut self, origin: &Region, source: &TopicPartition, reader: &mut dyn LogReader, clock: &dyn Clock) -> Result<End> {
        let bounds = reader.bounds(source)?;
        let at = clock.now().wall;
        let (mut heartbeat, mut newest) = (None, None);
        let from = bounds.first.max(bounds.end - NEWEST_RECORDS);
        visit(reader, source, from, bounds.end, &mut |record| {
            newest = newest.max(Some(record.appended_at));
            if is_heartbeat_key(record.key.as_deref()) {
                heartbeat = Some(record);
            }
            true
        })?;
        if let Some(heartbeat) = heartbeat {
            self.compare_clocks(origin, heartbeat, at);
        }
        Ok(End { at, first: bounds.first, end: bounds.end, newest })
    }

    /// When it arrived here is not known; by now it has.
    fn compare_clocks(&mut self, origin: &Region, record: RawRecord, now: UnixMs) {
        let appended = record.appended_at;
        let Decoded::Heartbeat(heartbeat) = decode(record, origin, &self.setting.collections, &mut AsOurs) else { return };
        let stamped_at = heartbeat.hlc.wall();
        let exchange = if *origin == self.setting.region {
            Exchange { sent: stamped_at, held_ms: 0, appended, arrived: now }
        } else if let Some(echo) = echo_of(&heartbeat, &self.setting.region) {
            Exchange { sent: echo.stamped_at, held_ms: stamped_at.since_ms(echo.arrived_at), appended, arrived: now }
        } else {
            return;
        };
        self.skews.entry(origin.clone()).or_default().note(exchange);
    }

    /// `since`: what was settled then is known.
    fn reckon(
        &self,
        origin: &Region,
        index: usize,
        end: Option<End>,
        since: UnixMs,
        reader: &mut dyn LogReader,
        lag: &mut SourceLag,
    ) -> Result<()> {
        lag.partitions += 1;
        let Some(End { at, first, end, newest: Some(newest) }) = end else {
            (lag.unknown_partitions, lag.silent_partitions) = (lag.unknown_partitions + 1, lag.silent_partitions + 1);
            return Ok(());
        };
        let skew = self.skews.get(origin);
        let age_ms = |appended_at: UnixMs, at: UnixMs| {
            skew.map_or(at.since_ms(appended_at).max(0), |skew| skew.delay_ms(appended_at, at).cast_signed())
        };
        let newest_age_ms = age_ms(newest, at);
        let silent = newest_age_ms > OVERDUE_MS;
        lag.silent_partitions += usize::from(silent);
        let arrived_ms = if silent { newest_age_ms } else { 0 };
        lag.note(ARRIVED, arrived_ms);

        let followed = &self.follower.partitions[index];
        let source = self.topic(origin, index);
        let Some(next) = followed.source(&source.topic).map(|progress| progress.next_offset) else {
            // Nobody has ever settled anything of it: all of it waits.
            lag.unknown_partitions += 1;
            lag.records_behind += end - first;
            return Ok(());
        };
        lag.records_behind += (end - next).max(0);
        let mut waiting_ms = 0;
        visit(reader, &source, next.max(first), end.min(next.max(first) + OLDEST_RECORDS), &mut |record| {
            let age_ms = age_ms(record.appended_at, since);
            let counts = age_ms > OVERDUE_MS || !is_heartbeat_key(record.key.as_deref());
            waiting_ms = if counts { age_ms } else { 0 };
            !counts
        })?;
        lag.note(ACKNOWLEDGED, arrived_ms.max(waiting_ms));
        Ok(())
    }
}

/// Visits the records from `from` to `end`, in their order, until one is answered with false.
fn visit(
    reader: &mut dyn LogReader,
    partition: &TopicPartition,
    from: i64,
    end: i64,
    go_on: &mut dyn FnMut(RawRecord) -> bool,
) -> Result<()> {
    if from >= end {
        return Ok(());
    }
    reader.open(partition, from)?;
    let (mut position, mut empty_reads, mut records) = (from, 0, Vec::new());
    'reading: while position < end {
        let next = reader.read(&mut records)?;
        empty_reads = if next > position { 0 } else { empty_reads + 1 };
        if empty_reads > EMPTY_READS_MAX {
            return Err(Error::retry(format!("{partition} gives nothing at offset {position}; is its leader up?")));
        }
        position = next;
        for record in records.drain(..).filter(|record| record.offset < end) {
            if !go_on(record) {
                break 'reading;
            }
        }
    }
    reader.close();
    Ok(())
}

/// Heartbeats are workers' own, so they are read as this version writes them, and no registry is asked. One that isn't
/// so written compares no clocks.
struct AsOurs;

impl SchemaSource for AsOurs {
    fn lookup(&mut self, _origin: &Region, _id: u32) -> SchemaLookup {
        SchemaLookup::Known(Arc::new(WriterSchema::Ours))
    }
}

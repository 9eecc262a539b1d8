//! `driftless import`: takes on a collection that the vector store already held before Driftless came.
//!
//! - The **old collection** is that one: any name, its own columns, rows without versions. It is only read.
//! - A **known** row key is one that this region's versions changelogs have ever heard of ([`known`]).
//!
//! Each row whose key is not known becomes an upsert on this region's change topic, like any client's, so that every
//! region takes it. It is stamped at about the oldest instant that is still admissible: whatever anybody has written
//! since then, and writes meanwhile, is newer and wins. What was written or deleted before is known, and the row is
//! left out.
//!
//! 1. Everything that was appended anywhere when this began is settled here: what a former run had appended is known.
//! 2. The old collection is read page by page, in the order of its ids. What has become known meanwhile is looked at
//!    again every few seconds, and writing waits where an origin has not been heard of for too long: it may have
//!    deleted the row.
//! 3. The workers here have settled it all.
//! 4. The old collection is read once more: every id that it holds is known now, or is told.
//!
//! Nothing is kept on the side: a run that was killed is begun again, and finds known what is done.

mod known;
pub mod place;
mod row;

use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, RowKey};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::ops::append::AppendStream;
use crate::ops::history::progress::{ProgressFollower, frontier_passed, wait_applied};
use crate::ops::history::{History, Setting};
use crate::ops::work::Work;
use crate::port::log::{Append, Appender};
use crate::port::vector::{ForeignRow, ForeignRows};
use known::Known;
use row::Scribe;
use std::num::NonZeroU32;
use std::time::Duration;

/// What has become known is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A stamp is so much younger than the oldest admissible one: time for the append, and for clocks that differ.
const MARGIN_MS_MAX: i64 = 60_000;
/// Rows that are told of, where many have the same fault.
const TOLD_MAX: usize = 10;

pub struct Import<'a> {
    pub collection: CollectionId,
    pub rows: &'a mut dyn ForeignRows,
    pub appender: &'a mut dyn Appender,
    /// This region's id of our own schema.
    pub schema_id: u32,
    /// The upper 16 bits of the sequence.
    pub writer: u16,
    pub rows_per_second: NonZeroU32,
    /// How long to wait for others while nothing gets better.
    pub patience: Duration,
    pub dry_run: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows of the old collection.
    pub rows: u64,
    /// Of which became changes, or would.
    pub written: u64,
    pub bytes: u64,
    /// Left out: this region knew their keys already.
    pub known: u64,
    /// Left out: no change can be made of them.
    pub unfit: u64,
    /// Some of these, each a sentence.
    pub unfit_told: Vec<String>,
    /// Ids that the old collection holds and this region still knows nothing of, when all was done.
    pub missing: u64,
    pub missing_told: Vec<String>,
}

impl Imported {
    pub fn is_whole(&self) -> bool {
        self.unfit == 0 && self.missing == 0
    }
}

impl Import<'_> {
    pub fn run(&mut self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<Imported> {
        let mut known = Known::new(history.setting, self.collection);
        refuse_shards(history.setting)?;
        self.settle(history, work, work.now())?;
        work.begin("reading what this region knows", "records", known.unread(history)?);
        known.look(history, work)?;
        work.end();
        let mut imported = Imported::default();
        self.write(&mut known, history, work, &mut imported)?;
        if !self.dry_run {
            self.wait_applied(history, work)?;
            known.look(history, work)?;
            self.verify(&known, history.setting, work, &mut imported)?;
        }
        Ok(imported)
    }

    /// Until all that was appended anywhere up to an instant is settled here. A dry run needs no workers.
    fn settle(&self, history: &mut History<'_>, work: &mut Work<'_>, instant: UnixMs) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let setting = history.setting;
        let mut follower = ProgressFollower::new(setting);
        follower.wait(history.reader, work, self.patience, &mut |followed| Ok(frontier_passed(setting, followed, instant)))
    }

    fn write(
        &mut self,
        known: &mut Known,
        history: &mut History<'_>,
        work: &mut Work<'_>,
        imported: &mut Imported,
    ) -> Result<()> {
        let setting = history.setting;
        let scribe = Scribe { setting, collection: self.collection, schema_id: self.schema_id, writer: self.writer };
        let lateness_ms = setting.max_lateness_ms;
        let total = self.rows.count()?;
        work.begin(if self.dry_run { "reading" } else { "importing" }, "rows", total);
        let begun = work.clock.now().monotonic;
        let mut looked = begun;
        let mut after = None;
        loop {
            let page = self.rows.page(after.as_ref(), true)?;
            let Some(next) = page.next else { break };
            if work.clock.now().monotonic.saturating_sub(looked) >= LOOK_AGAIN.min(Duration::from_millis(lateness_ms as u64 / 8))
            {
                // What an origin deleted longer ago than a stamp would be is to be known before a row is written.
                let heard_of = UnixMs(work.now().0 - lateness_ms / 2);
                self.settle(history, work, heard_of)?;
                work.aside(|work| known.look(history, work))?;
                looked = work.clock.now().monotonic;
            }
            let mut stream = AppendStream::new(self.appender);
            for row in page.rows {
                imported.rows += 1;
                let stamp = oldest_admissible(work.now(), lateness_ms);
                match change_of(&row, known, &scribe, stamp, history, work.now()) {
                    Outcome::Known => imported.known += 1,
                    Outcome::Unfit(why) => {
                        imported.unfit += 1;
                        tell(&mut imported.unfit_told, why);
                    }
                    Outcome::Write(append) => {
                        imported.written += 1;
                        imported.bytes += row::bytes_of(&append);
                        if !self.dry_run {
                            stream.push(append)?;
                        }
                    }
                }
                work.advance(1)?;
            }
            stream.finish()?;
            if !self.dry_run {
                keep_pace(imported.written, self.rows_per_second, begun, work)?;
            }
            after = Some(next);
        }
        work.end();
        Ok(())
    }

    fn wait_applied(&self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        let setting = history.setting;
        let parts = (0..setting.names.shards()).flat_map(|shard| (0..setting.partitions).map(move |number| (shard, number)));
        wait_applied(setting, history.reader, parts, self.patience, work)
    }

    fn verify(&mut self, known: &Known, setting: &Setting, work: &mut Work<'_>, imported: &mut Imported) -> Result<()> {
        work.begin("verifying", "rows", imported.rows);
        let mut after = None;
        loop {
            let page = self.rows.page(after.as_ref(), false)?;
            let Some(next) = page.next else { break };
            for row in page.rows {
                // One that no key can be made of has been told already.
                let Ok(id) = row.id else { continue };
                let key = RowKey { collection: self.collection, id };
                if !known.holds(&key, setting) {
                    imported.missing += 1;
                    tell(&mut imported.missing_told, format!("id {} is not known here", key.id));
                }
                work.advance(1)?;
            }
            after = Some(next);
        }
        work.end();
        Ok(())
    }
}

/// Which shard an id belongs to is the gateways' affair, and nothing here knows it.
fn refuse_shards(setting: &Setting) -> Result<()> {
    match setting.names.shards() {
        1 => Ok(()),
        shards => Err(Error::refuse(format!(
            "[placement] shards = {shards}: import writes to one change topic and does not know which shard a row belongs to; write the rows through a gateway"
        ))),
    }
}

enum Outcome {
    Known,
    Unfit(String),
    Write(Append),
}

fn change_of(
    row: &ForeignRow,
    known: &Known,
    scribe: &Scribe<'_>,
    stamp: Hlc,
    history: &mut History<'_>,
    now: UnixMs,
) -> Outcome {
    let id = match &row.id {
        Ok(id) => id.clone(),
        Err(text) => return Outcome::Unfit(format!("id {text:?} is no id of the collection as it is configured")),
    };
    let key = RowKey { collection: scribe.collection, id };
    if known.holds(&key, scribe.setting) {
        return Outcome::Known;
    }
    let append = scribe.change(&key, &row.body, stamp);
    match row::judge(&append, scribe.setting, history.schemas, now) {
        Ok(()) => Outcome::Write(append),
        Err(why) => Outcome::Unfit(format!("id {}: {why}", key.id)),
    }
}

fn tell(told: &mut Vec<String>, sentence: String) {
    if told.len() < TOLD_MAX {
        told.push(sentence);
    }
}

/// With time left for the append.
fn oldest_admissible(now: UnixMs, max_lateness_ms: i64) -> Hlc {
    let margin_ms = (max_lateness_ms / 4).min(MARGIN_MS_MAX);
    Hlc::at(UnixMs(now.0 - max_lateness_ms + margin_ms))
}

/// Waits where more has been written than was asked for.
fn keep_pace(written: u64, rows_per_second: NonZeroU32, begun: Duration, work: &mut Work<'_>) -> Result<()> {
    let due = begun + Duration::from_secs_f64(written as f64 / f64::from(rows_per_second.get()));
    loop {
        let early = due.saturating_sub(work.clock.now().monotonic);
        if early.is_zero() {
            return Ok(());
        }
        work.rest(early)?;
    }
}

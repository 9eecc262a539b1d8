//! The rounds of one partition.

use super::fetch::Fetch;
use super::{Outlook, Resync, ResyncReport};
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::ops::append;
use crate::ops::difference::{compare, covers, forgettable};
use crate::ops::replica::Replica;
use crate::ops::work::Work;
use crate::port::log::Append;
use crate::processor::admit::EARLY_MS_MAX;
use crate::store::entry::Entry;
use crate::store::progress::Gap;
use crate::store::row_key;
use crate::task::repair_topic::{self, Mark};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long a region without a worker is hoped to have one.
const START_WAIT: Duration = Duration::from_secs(10);
/// Rounds after which what is still left is told rather than tried again.
const ROUNDS_MAX: u32 = 5;
/// Records and bytes that are appended before their acknowledgements are waited for.
const WINDOW_RECORDS: usize = 2_000;
const WINDOW_BYTES: usize = 8 << 20;
/// Of a dry run: vectors of a partition that are fetched to know how large they are.
const SAMPLE_VECTORS: usize = 20;

/// One partition of both regions.
struct Pair {
    here: Replica,
    there: Replica,
    partition: i32,
    repair: TopicPartition,
    vectors: TopicPartition,
}

/// What is to be done about what differs.
#[derive(Default)]
struct Plan {
    /// By its offset in the peer's vectors changelog: the key, and the version that it holds there.
    bring: BTreeMap<i64, (RowKey, Version)>,
    delete: Vec<RowKey>,
    /// Deletes that a lagging source forbids for now.
    held_back: u64,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.bring.is_empty() && self.delete.is_empty() && self.held_back == 0
    }
}

impl Resync<'_> {
    pub(super) fn partition(
        &mut self,
        shard: u16,
        partition: i32,
        outlook: &mut Outlook,
        work: &mut Work<'_>,
        report: &mut ResyncReport,
    ) -> Result<()> {
        let mut pair = Pair {
            here: Replica::new(&self.here, shard, partition, &self.collections),
            there: Replica::new(&self.there, shard, partition, &self.collections),
            partition,
            repair: TopicPartition::new(self.here.names.repair(shard), partition),
            vectors: TopicPartition::new(self.there.names.vectors_changelog(shard), partition),
        };
        let bytes = self.there.bytes;
        pair.here.read_on(&mut self.here, &mut |records| work.advance(records))?;
        self.await_start(&mut pair, work)?;
        pair.there.read_on(&mut self.there, &mut |records| work.advance(records))?;
        report.bytes_compared += self.there.bytes - bytes;
        outlook.compared();
        self.refuse_incomplete(&pair)?;
        if self.is_whole(&pair)? && compare(&pair.here, &pair.there).keys.is_empty() {
            report.alike += 1;
            return Ok(());
        }
        if self.dry_run {
            return self.estimate(&mut pair, work, report);
        }
        let gaps = self.begin(&mut pair, work)?;
        for _ in 0..ROUNDS_MAX {
            self.await_peer(&mut pair, work)?;
            let behind = self.catch_up(&mut pair, work)?;
            let plan = self.plan(&pair, behind.is_empty())?;
            if plan.is_empty() && behind.is_empty() {
                return self.end(&mut pair, gaps, work);
            }
            outlook.bring(plan.bring.len());
            work.expect(outlook.total());
            self.carry_out(&mut pair, &plan, work, report)?;
            if !behind.is_empty() {
                let origins: Vec<String> = behind.iter().map(Region::to_string).collect();
                let left = format!(
                    "partition {partition}: this region has not settled what the peer had settled of {}; run resync again when it has caught up",
                    origins.join(", ")
                );
                report.left.push(left);
                return Ok(());
            }
            pair.there.read_on(&mut self.there, &mut |_| Ok(()))?;
        }
        report.left.push(format!(
            "partition {partition}: after {ROUNDS_MAX} rounds there is still something that this region does not take: look at its dead letters"
        ));
        Ok(())
    }

    /// A worker that is ready is about to write its first progress record.
    fn await_start(&mut self, pair: &mut Pair, work: &mut Work<'_>) -> Result<()> {
        if pair.here.progress().is_ok() {
            return Ok(());
        }
        let what = format!("partition {}: waiting for its worker here to begin", pair.partition);
        let (here, place) = (&mut pair.here, &mut self.here);
        work.wait_until(&what, START_WAIT, || {
            here.read_on(place, &mut |_| Ok(()))?;
            Ok(here.progress().is_ok())
        })?;
        Ok(())
    }

    /// Nothing is lacking here that the peer knows of: no gap, no resync that was cut short, no later beginning.
    fn is_whole(&self, pair: &Pair) -> Result<bool> {
        let progress = pair.here.progress()?;
        let begun_later = |origin: &Region| {
            let (Some(ours), Some(theirs)) = (pair.here.source_of(origin), pair.there.source_of(origin)) else { return false };
            ours.since.is_some_and(|since| theirs.since.is_none_or(|theirs| since > theirs))
        };
        Ok(progress.incomplete.is_empty() && progress.resync_from.is_none() && !self.regions.iter().any(begun_later))
    }

    /// What an incomplete peer lacks would be deleted here, and this region thought complete.
    fn refuse_incomplete(&self, pair: &Pair) -> Result<()> {
        let (progress, partition, region) = (pair.there.progress()?, pair.partition, &self.there.region);
        if let Some(gap) = progress.incomplete.first() {
            return Err(Error::refuse(format!(
                "region {region} is incomplete itself in partition {partition} ({gap}: lost before they were settled): resync it first, or choose another peer"
            )));
        }
        if let Some(from) = &progress.resync_from {
            return Err(Error::refuse(format!(
                "region {region} is being resynced itself from {from} in partition {partition}: let that end first (run it again there if it was cut short), or choose another peer"
            )));
        }
        Ok(())
    }

    /// Tells the task, and waits until it has heard. Answers with the gaps that are to be filled.
    fn begin(&mut self, pair: &mut Pair, work: &mut Work<'_>) -> Result<Vec<Gap>> {
        let begin = Mark::Begin { peer: self.there.region.to_string() };
        append::all(self.appender, vec![begin.append(&pair.repair)])?;
        self.await_repairs(pair, work)?;
        // What was lost is known to be older than the record after it: that one tells how far the peer must be.
        let gaps = pair.here.progress()?.incomplete.clone();
        let passed = |here: &Replica, gap: &Gap| {
            let sources = here.progress().map(|progress| progress.sources.as_slice()).unwrap_or_default();
            sources.iter().find(|source| source.topic == gap.topic).is_none_or(|source| source.next_offset > gap.until)
        };
        let what = format!("partition {}: waiting for a record behind each gap", pair.partition);
        let (here, place) = (&mut pair.here, &mut self.here);
        let all_passed = work.wait_until(&what, self.patience, || {
            here.read_on(place, &mut |_| Ok(()))?;
            Ok(gaps.iter().all(|gap| passed(here, gap)))
        })?;
        if !all_passed {
            return Err(Error::retry(format!(
                "partition {}: nothing has come since the records were lost ({}): a worker of that region must run, so that its heartbeats come",
                pair.partition,
                gaps.iter().map(Gap::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(gaps)
    }

    /// Waits until this region's task has settled all that the repair topic holds now.
    fn await_repairs(&mut self, pair: &mut Pair, work: &mut Work<'_>) -> Result<()> {
        let end = self.here.reader.bounds(&pair.repair)?.end;
        let what = format!("partition {}: waiting for this region's worker", pair.partition);
        let (here, place, repair) = (&mut pair.here, &mut self.here, &pair.repair);
        let mut settled = 0;
        let mut reached = false;
        // As long as it goes on, it is waited for.
        while !reached {
            let before = settled;
            reached = work.wait_until(&what, self.patience, || {
                here.read_on(place, &mut |_| Ok(()))?;
                settled = settled_of(here, &repair.topic);
                Ok(settled >= end || settled > before)
            })?;
            if !reached {
                return Err(Error::retry(format!(
                    "{repair} is not read beyond offset {settled} of {end}: is a worker of this region running, and does its Milvus take rows? Run resync again then"
                )));
            }
            reached = settled >= end;
        }
        Ok(())
    }

    /// Until the peer has settled what this region has, so that it knows every delete which was forgotten here.
    fn await_peer(&mut self, pair: &mut Pair, work: &mut Work<'_>) -> Result<()> {
        let what = format!("partition {}: waiting until the peer has settled what this region has", pair.partition);
        pair.here.read_on(&mut self.here, &mut |_| Ok(()))?;
        let ours = pair.here.frontiers(&self.regions);
        let (there, place) = (&mut pair.there, &mut self.there);
        let ahead = work.wait_until(&what, self.patience, || {
            there.read_on(place, &mut |_| Ok(()))?;
            Ok(there.behind(&ours).is_empty())
        })?;
        if !ahead {
            let behind: Vec<String> = pair.there.behind(&ours).iter().map(|origin| origin.to_string()).collect();
            return Err(Error::retry(format!(
                "partition {}: region {} has not settled what this region has of {}: it may not know deletes that this region has forgotten. Choose a peer that is not behind, or run resync again when it has caught up",
                pair.partition,
                self.there.region,
                behind.join(", ")
            )));
        }
        Ok(())
    }

    /// Until this region has settled what the peer had settled when it was read: what is missing then is not merely on
    /// its way, and nothing older than the peer's floor can come any more. Answers with the origins that are behind.
    fn catch_up(&mut self, pair: &mut Pair, work: &mut Work<'_>) -> Result<Vec<Region>> {
        let what = format!("partition {}: waiting until this region has settled what the peer has", pair.partition);
        let theirs = pair.there.frontiers(&self.regions);
        let (here, place) = (&mut pair.here, &mut self.here);
        work.wait_until(&what, self.patience, || {
            here.read_on(place, &mut |_| Ok(()))?;
            Ok(here.behind(&theirs).is_empty())
        })?;
        Ok(pair.here.behind(&theirs).into_iter().cloned().collect())
    }

    fn plan(&self, pair: &Pair, may_delete: bool) -> Result<Plan> {
        let mut plan = Plan::default();
        let floor = pair.there.floor();
        let limit = forgettable(&pair.here, &pair.there);
        for key in compare(&pair.here, &pair.there).keys {
            match (pair.here.get(&key), pair.there.get(&key)) {
                (ours, Some(theirs)) if !covers(ours.as_ref(), Some(&theirs), limit) => {
                    plan.bring.insert(theirs.vector_offset, (key, theirs.version));
                }
                (Some(ours), None) if deleted_there(&ours, floor, &pair.there) => {
                    if may_delete {
                        plan.delete.push(key)
                    } else {
                        plan.held_back += 1
                    }
                }
                _ => {}
            }
        }
        Ok(plan)
    }

    fn carry_out(&mut self, pair: &mut Pair, plan: &Plan, work: &mut Work<'_>, report: &mut ResyncReport) -> Result<()> {
        let mut fetch = Fetch::new(pair.vectors.clone(), plan.bring.keys().copied().collect());
        let mut window: Vec<Append> = Vec::new();
        let mut window_bytes = 0;
        loop {
            let records = fetch.next(&mut self.there)?;
            let ended = records.is_empty();
            for record in records {
                let Some((key, version)) = plan.bring.get(&record.offset) else { continue };
                if record.key.as_deref() != Some(row_key::encode(key, &self.collections).as_slice()) {
                    // The log is another one than the entries were of: the next round will tell.
                    continue;
                }
                window_bytes += record.bytes();
                report.bytes_brought += record.bytes() as u64;
                window.push(repair_topic::change(&pair.repair, &record, version));
            }
            if ended || window.len() >= WINDOW_RECORDS || window_bytes >= WINDOW_BYTES {
                let appended = window.len() as u64;
                append::all(self.appender, std::mem::take(&mut window))?;
                report.brought += appended;
                window_bytes = 0;
                work.advance(appended)?;
            }
            work.go_on()?;
            if ended {
                break;
            }
        }
        let deletes = self.deletes(pair, plan);
        report.deleted += deletes.len() as u64;
        append::all(self.appender, deletes)?;
        self.await_repairs(pair, work)
    }

    /// Below the peer's floor its word is final: whatever is older than that has lost to a delete which it has forgotten.
    fn deletes(&self, pair: &Pair, plan: &Plan) -> Vec<Append> {
        let Some(floor) = pair.there.floor() else { return Vec::new() };
        let version = Version { hlc: Hlc(floor.0 - 1), origin: self.there.region.clone(), sequence: u64::MAX };
        let key = |key: &RowKey| Some(row_key::encode(key, &self.collections).into());
        plan.delete.iter().map(|deleted| repair_topic::forgotten(&pair.repair, key(deleted), &version)).collect()
    }

    fn end(&mut self, pair: &mut Pair, filled: Vec<Gap>, work: &mut Work<'_>) -> Result<()> {
        let since = self.regions.iter().filter_map(|origin| {
            let known = pair.there.source_of(origin)?;
            Some((origin.to_string(), known.since.map(|since| since.0)))
        });
        let end = Mark::End { filled, since: since.collect() };
        append::all(self.appender, vec![end.append(&pair.repair)])?;
        self.await_repairs(pair, work)
    }

    /// What a round would do, as far as it can be known without one.
    fn estimate(&mut self, pair: &mut Pair, work: &mut Work<'_>, report: &mut ResyncReport) -> Result<()> {
        let behind = self.catch_up(pair, work)?;
        let plan = self.plan(pair, true)?;
        report.brought += plan.bring.len() as u64;
        report.deleted += plan.delete.len() as u64;
        let sample: Vec<i64> = every_nth(&plan.bring.keys().copied().collect::<Vec<_>>(), SAMPLE_VECTORS);
        let mut bytes = HashMap::new();
        let mut fetch = Fetch::new(pair.vectors.clone(), sample);
        loop {
            let records = fetch.next(&mut self.there)?;
            if records.is_empty() {
                break;
            }
            bytes.extend(records.iter().map(|record| (record.offset, record.bytes() as u64)));
        }
        if !bytes.is_empty() {
            report.bytes_brought += bytes.values().sum::<u64>() * plan.bring.len() as u64 / bytes.len() as u64;
        }
        for origin in behind {
            report.left.push(format!("partition {}: this region is behind with {origin}", pair.partition));
        }
        Ok(())
    }
}

/// Is a row of ours one that the peer has had, seen deleted, and forgotten? Of what is older than the first record that
/// it ever took of that origin it knows nothing.
fn deleted_there(ours: &Entry, floor: Option<Hlc>, there: &Replica) -> bool {
    let Some(source) = there.source_of(&ours.version.origin) else { return false };
    let accepted_at_least = UnixMs(ours.version.hlc.wall().0 - EARLY_MS_MAX);
    !ours.tombstone
        && floor.is_some_and(|floor| ours.version.hlc < floor)
        && source.since.is_none_or(|since| accepted_at_least >= since)
}

fn settled_of(replica: &Replica, topic: &str) -> i64 {
    let progress = replica.progress().ok();
    let source = progress.and_then(|progress| progress.sources.iter().find(|source| source.topic == topic));
    source.map_or(0, |source| source.next_offset)
}

fn every_nth(offsets: &[i64], at_most: usize) -> Vec<i64> {
    offsets.iter().copied().step_by(offsets.len().div_ceil(at_most).max(1)).collect()
}

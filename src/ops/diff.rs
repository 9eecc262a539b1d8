//! `driftless diff`: do two regions hold the same? A difference counts if it stays when each has settled what the other
//! had settled: what is merely on its way is none.

use super::difference::{compare, covers, forgettable, same};
use super::replica::{Place, Replica, records_of};
use super::work::Work;
use crate::base::error::Result;
use crate::base::ids::{Region, RowKey};
use crate::record::collection::Collections;
use crate::store::entry::Entry;
use std::sync::Arc;
use std::time::Duration;

pub struct Diff<'a> {
    pub here: Place<'a>,
    pub there: Place<'a>,
    /// Every region, both of these too.
    pub regions: Vec<Region>,
    pub partitions: i32,
    /// Shard and partition of what is compared: all, or a sample, since keys are spread over them by their hash.
    pub compared: Vec<(u16, i32)>,
    pub collections: Arc<Collections>,
    /// How long each may take to settle what the other had settled.
    pub patience: Duration,
}

/// How a key stands in one region, as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub shard: u16,
    pub partition: i32,
    pub key: RowKey,
    pub here: Option<Entry>,
    pub there: Option<Entry>,
    /// Both regions have settled what the other had; otherwise it may be on its way.
    pub settled: bool,
}

#[derive(Debug, Default)]
pub struct DiffReport {
    pub partitions: usize,
    /// Of [`RANGES`](super::difference::RANGES) in each partition: those whose digests differed at first.
    pub ranges_different: usize,
    pub rows_here: u64,
    pub rows_there: u64,
    pub differences: Vec<Difference>,
    /// Partition and origin where a region had not settled in time what the other had: differences there may be on
    /// their way.
    pub unsettled: Vec<String>,
    pub bytes: u64,
}

impl DiffReport {
    /// Keys that differ, of those that either region has a row of.
    pub fn ratio(&self) -> f64 {
        self.share(self.differences.len())
    }

    /// Without those that may be on their way.
    pub fn settled_ratio(&self) -> f64 {
        self.share(self.differences.iter().filter(|difference| difference.settled).count())
    }

    fn share(&self, different: usize) -> f64 {
        let rows = self.rows_here.max(self.rows_there).max(different as u64);
        if rows == 0 { 0.0 } else { different as f64 / rows as f64 }
    }
}

/// A key that differed, and what was held then.
struct Suspect {
    key: RowKey,
    here: Option<Entry>,
    there: Option<Entry>,
}

impl Diff<'_> {
    pub fn run(mut self, work: &mut Work<'_>) -> Result<DiffReport> {
        let mut report = DiffReport::default();
        let shards = self.here.names.shards();
        for shard in 0..shards {
            for place in [&mut self.here, &mut self.there] {
                let topic = place.names.versions_changelog(shard);
                place.expect_topic(&topic, self.partitions)?;
            }
        }
        let compared = std::mem::take(&mut self.compared);
        let total = records_of(&mut [&mut self.here, &mut self.there], &compared)?;
        work.begin("comparing", "records", total);
        for (shard, partition) in compared {
            self.partition(shard, partition, work, &mut report)?;
            report.partitions += 1;
        }
        work.end();
        report.bytes = self.there.bytes;
        Ok(report)
    }

    fn partition(&mut self, shard: u16, partition: i32, work: &mut Work<'_>, report: &mut DiffReport) -> Result<()> {
        let mut here = Replica::new(&self.here, shard, partition, &self.collections);
        let mut there = Replica::new(&self.there, shard, partition, &self.collections);
        here.read_on(&mut self.here, &mut |records| work.advance(records))?;
        there.read_on(&mut self.there, &mut |records| work.advance(records))?;
        let found = compare(&here, &there);
        report.ranges_different += found.ranges_different;
        report.rows_here += found.rows;
        there.store().for_each(&mut |_, entry| report.rows_there += u64::from(!entry.tombstone));
        let suspects: Vec<Suspect> =
            found.keys.into_iter().map(|key| Suspect { here: here.get(&key), there: there.get(&key), key }).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        let settled = self.let_both_settle(&mut here, &mut there, partition, work, &mut report.unsettled)?;
        let forgettable = forgettable(&here, &there);
        for suspect in suspects {
            let (ours, theirs) = (here.get(&suspect.key), there.get(&suspect.key));
            let alike = same(ours.as_ref(), theirs.as_ref(), forgettable)
                || (covers(ours.as_ref(), suspect.there.as_ref(), forgettable)
                    && covers(theirs.as_ref(), suspect.here.as_ref(), forgettable));
            if !alike {
                report.differences.push(Difference { shard, partition, key: suspect.key, here: ours, there: theirs, settled });
            }
        }
        Ok(())
    }

    fn let_both_settle(
        &mut self,
        here: &mut Replica,
        there: &mut Replica,
        partition: i32,
        work: &mut Work<'_>,
        unsettled: &mut Vec<String>,
    ) -> Result<bool> {
        let (ours, theirs) = (here.frontiers(&self.regions), there.frontiers(&self.regions));
        let places = (&mut self.here, &mut self.there);
        let what = format!("partition {partition}: waiting until both regions have settled what the other had");
        let settled = work.wait_until(&what, self.patience, || {
            here.read_on(places.0, &mut |_| Ok(()))?;
            there.read_on(places.1, &mut |_| Ok(()))?;
            Ok(here.behind(&theirs).is_empty() && there.behind(&ours).is_empty())
        })?;
        if !settled {
            let regions = [(&self.here.region, here.behind(&theirs)), (&self.there.region, there.behind(&ours))];
            for (region, origin) in regions.iter().flat_map(|(region, behind)| behind.iter().map(move |origin| (region, origin)))
            {
                unsettled.push(format!("partition {partition}: {region} is behind with {origin}"));
            }
        }
        Ok(settled)
    }
}

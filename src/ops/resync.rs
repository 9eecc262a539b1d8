//! `driftless resync`: brings what a peer holds and this region does not, after a gap, a lost region, or for a new one.
//! The peer's entries say what differs; of the vectors only those cross the link that do. They go to the local repair
//! topic, whose records the region's own workers merge by version like any other source's: a resync beside running
//! writers, cut short, or done twice, does no harm.
//!
//! One partition after the other, each in rounds ([`partition`]):
//!
//! ```text
//!  begin mark ► the task forgets nothing from here on
//!     ► the peer's floor has reached ours: it knows every delete that we may have forgotten
//!  ┌► the peer's entries, as they are now ► we have settled what it had settled: nothing of it is merely on its way
//!  │    ► what it has and we lack or have older: its vectors to the repair topic
//!  │    ► what we have below its floor and it lacks: deleted there, and forgotten since
//!  └── until there is nothing left
//!  end mark ► the partition is complete
//! ```

mod fetch;
mod partition;

use super::replica::{Place, all_partitions, records_of};
use super::work::Work;
use crate::base::error::Result;
use crate::base::ids::Region;
use crate::port::log::Appender;
use crate::record::collection::Collections;
use std::sync::Arc;
use std::time::Duration;

pub struct Resync<'a> {
    pub here: Place<'a>,
    pub there: Place<'a>,
    pub appender: &'a mut dyn Appender,
    /// Every region, both of these too.
    pub regions: Vec<Region>,
    pub partitions: i32,
    pub collections: Arc<Collections>,
    /// How long a worker, here or there, may take to go on before the command goes on without it.
    pub patience: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

#[derive(Debug, Default)]
pub struct ResyncReport {
    pub partitions: usize,
    /// Partitions in which there was nothing to do.
    pub alike: usize,
    /// Upserts and deletes brought, or, of a dry run, to be brought.
    pub brought: u64,
    /// Rows that the peer has deleted and forgotten.
    pub deleted: u64,
    /// Bytes of the peer's versions changelogs, of the changes, and of all that was read from the peer: what lies
    /// between two changes is read over where that is quicker.
    pub bytes_compared: u64,
    pub bytes_brought: u64,
    pub bytes_read: u64,
    /// What keeps partitions from being complete: each a sentence.
    pub left: Vec<String>,
}

impl Resync<'_> {
    pub fn run(mut self, work: &mut Work<'_>) -> Result<ResyncReport> {
        self.check_topics()?;
        let mut report = ResyncReport::default();
        let shards = self.here.names.shards();
        let mut outlook = Outlook::new(self.compared()?, usize::from(shards) * self.partitions as usize);
        work.begin("resyncing", "records", outlook.total());
        for shard in 0..shards {
            for partition in 0..self.partitions {
                self.partition(shard, partition, &mut outlook, work, &mut report)?;
                report.partitions += 1;
            }
        }
        work.end();
        report.bytes_read = self.there.bytes;
        Ok(report)
    }

    fn compared(&mut self) -> Result<u64> {
        let tasks = all_partitions(&self.here.names, self.partitions);
        records_of(&mut [&mut self.here, &mut self.there], &tasks)
    }

    fn check_topics(&mut self) -> Result<()> {
        for shard in 0..self.here.names.shards() {
            let repair = self.here.names.repair(shard);
            self.here.expect_topic(&repair, self.partitions)?;
            for place in [&mut self.here, &mut self.there] {
                let (versions, vectors) = (place.names.versions_changelog(shard), place.names.vectors_changelog(shard));
                place.expect_topic(&versions, self.partitions)?;
                place.expect_topic(&vectors, self.partitions)?;
            }
        }
        Ok(())
    }
}

/// How much there is to do in all, as far as the partitions that have been compared tell.
struct Outlook {
    /// Records to be read to compare all partitions.
    compare: u64,
    partitions: u64,
    /// Partitions that have been compared, and what was to be brought of them.
    known: u64,
    bring: u64,
}

impl Outlook {
    fn new(compare: u64, partitions: usize) -> Self {
        Self { compare, partitions: partitions as u64, known: 0, bring: 0 }
    }

    fn compared(&mut self) {
        self.known += 1;
    }

    /// Of a partition that has been compared.
    fn bring(&mut self, changes: usize) {
        self.bring += changes as u64;
    }

    /// Those that are not known yet are taken to be like the others.
    fn total(&self) -> u64 {
        self.compare + self.bring * self.partitions / self.known.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_are_not_compared_yet_are_taken_to_be_like_the_others() {
        let mut outlook = Outlook::new(1_000, 4);
        assert_eq!(outlook.total(), 1_000);
        outlook.compared();
        outlook.bring(50);
        assert_eq!(outlook.total(), 1_200);
        outlook.compared();
        assert_eq!(outlook.total(), 1_100);
    }
}

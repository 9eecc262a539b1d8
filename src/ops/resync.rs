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

use super::observer::{Observer, Step};
use super::replica::Place;
use crate::base::error::Result;
use crate::base::ids::Region;
use crate::base::time::Clock;
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
    pub clock: &'a dyn Clock,
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
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<ResyncReport> {
        self.check_topics()?;
        let mut report = ResyncReport::default();
        let shards = self.here.names.shards();
        let partitions = usize::from(shards) * self.partitions as usize;
        for shard in 0..shards {
            for partition in 0..self.partitions {
                let step = Step { partition: report.partitions, partitions, ..Step::default() };
                self.partition(shard, partition, step, observer, &mut report)?;
                report.partitions += 1;
            }
        }
        report.bytes_read = self.there.bytes;
        Ok(report)
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

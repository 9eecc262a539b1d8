//! How far the workers of this region are: the newest progress record of each partition, followed.

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::ops::history::Setting;
use crate::ops::work::Work;
use crate::port::log::LogReader;
use crate::record::raw::RawRecord;
use crate::store::progress::{PROGRESS_KEY, Progress};
use std::sync::Arc;
use std::time::Duration;

/// Records at the end of a changelog that are looked at first for a progress record.
const FIRST_LOOK: i64 = 256;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const EMPTY_READS_MAX: usize = 1_000;

/// One partition of the topology as its progress record has it.
pub struct Followed {
    pub shard: u16,
    pub partition: i32,
    changelog: TopicPartition,
    position: Option<i64>,
    pub progress: Option<Progress>,
}

pub struct ProgressFollower {
    pub partitions: Vec<Followed>,
}

impl ProgressFollower {
    pub fn new(setting: &Setting) -> Self {
        let mut partitions = Vec::new();
        for shard in 0..setting.names.shards() {
            for partition in 0..setting.partitions {
                let changelog = TopicPartition::new(setting.names.versions_changelog(shard), partition);
                partitions.push(Followed { shard, partition, changelog, position: None, progress: None });
            }
        }
        Self { partitions }
    }

    /// Reads what is new.
    pub fn look(&mut self, reader: &mut dyn LogReader) -> Result<()> {
        for followed in &mut self.partitions {
            followed.look(reader)?;
        }
        Ok(())
    }

    /// Waits until each partition has come as far as `reached` asks, which answers with what is still missing. `patience`
    /// bounds how long nothing may get better.
    pub fn wait(
        &mut self,
        reader: &mut dyn LogReader,
        work: &mut Work<'_>,
        patience: Duration,
        reached: &mut dyn FnMut(&Followed) -> Result<Option<Missing>>,
    ) -> Result<()> {
        let mut best: Option<(usize, i64)> = None;
        let mut since = work.clock.now().monotonic;
        loop {
            self.look(reader)?;
            let mut missing = Vec::new();
            for followed in &self.partitions {
                missing.extend(reached(followed)?);
            }
            let Some(first) = missing.iter().max_by_key(|missing| missing.behind) else { return Ok(()) };
            let now = work.clock.now().monotonic;
            let state = (missing.len(), missing.iter().map(|missing| missing.behind).fold(0, i64::saturating_add));
            if best.is_none_or(|best| state < best) {
                (best, since) = (Some(state), now);
            }
            if now.saturating_sub(since) >= patience {
                let span = humantime::format_duration(Duration::from_secs(patience.as_secs()));
                return Err(Error::retry(format!("waited {span} in vain for {}; {}", first.what, first.remedy)));
            }
            work.wait(format!("waiting for {} ({} partitions not there yet)", first.what, missing.len()), LOOK_INTERVAL)?;
        }
    }
}

/// What a partition still lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// How much, in whatever unit: less is better.
    pub behind: i64,
    pub what: String,
    pub remedy: String,
}

/// Waits until the workers have settled all that these partitions (shard and number) of the own change topic hold now.
pub fn wait_applied(
    setting: &Setting,
    reader: &mut dyn LogReader,
    parts: impl Iterator<Item = (u16, i32)>,
    patience: Duration,
    work: &mut Work<'_>,
) -> Result<()> {
    let mut ends = Vec::new();
    for (shard, partition) in parts {
        let local = TopicPartition::new(setting.names.local(shard), partition);
        let end = reader.bounds(&local)?.end;
        ends.push((shard, local, end));
    }
    ProgressFollower::new(setting).wait(reader, work, patience, &mut |followed| {
        let place = ends.iter().find(|(shard, local, _)| (*shard, local.partition) == (followed.shard, followed.partition));
        let Some((_, local, end)) = place else { return Ok(None) };
        let behind = end - followed.settled(&local.topic);
        let what = format!("the workers here to apply it ({behind} records of {local} to go)");
        let remedy = "it is written, and is applied as soon as a worker of this region runs".to_owned();
        Ok((behind > 0).then_some(Missing { behind, what, remedy }))
    })
}

/// Has the partition settled all that was appended at every origin up to `instant`? Which origin is not that far?
pub fn frontier_passed(setting: &Setting, followed: &Followed, instant: UnixMs) -> Option<Missing> {
    let names = &setting.names;
    let own = (setting.region.clone(), names.local(followed.shard));
    let mirrors = setting.peers.iter().map(|peer| (peer.clone(), names.mirror(peer, followed.shard)));
    for (origin, topic) in std::iter::once(own).chain(mirrors) {
        let frontier = followed.source(&topic).and_then(|source| source.frontier);
        if frontier.is_none_or(|frontier| frontier < instant) {
            return Some(behind(setting, followed, &origin, frontier, instant));
        }
    }
    None
}

fn behind(setting: &Setting, followed: &Followed, origin: &Region, frontier: Option<UnixMs>, instant: UnixMs) -> Missing {
    let partition = followed.partition;
    let remedy = if *origin == setting.region {
        "is a worker of this region running?".to_owned()
    } else {
        format!("is MirrorMaker running, and a worker in {origin}?")
    };
    match frontier {
        Some(frontier) => {
            let behind_ms = instant.since_ms(frontier);
            let what = format!("changes of {origin} in partition {partition}, {:.1} s behind", behind_ms as f64 / 1_000.0);
            Missing { behind: behind_ms, what, remedy }
        }
        None => {
            let what = format!("a first change or heartbeat of {origin} in partition {partition}");
            Missing { behind: i64::MAX, what, remedy }
        }
    }
}

impl Followed {
    pub fn source(&self, topic: &str) -> Option<&crate::store::progress::SourceProgress> {
        self.progress.as_ref()?.sources.iter().find(|source| source.topic == topic)
    }

    /// The first offset of that topic that is not settled.
    pub fn settled(&self, topic: &Arc<str>) -> i64 {
        self.source(topic).map_or(0, |source| source.next_offset)
    }

    /// Reads what is new.
    pub fn look(&mut self, reader: &mut dyn LogReader) -> Result<()> {
        let bounds = reader.bounds(&self.changelog)?;
        if let Some(position) = self.position {
            return self.read(reader, position.max(bounds.first), bounds.end);
        }
        let mut back = FIRST_LOOK;
        loop {
            let from = (bounds.end - back).max(bounds.first);
            self.read(reader, from, bounds.end)?;
            if self.progress.is_some() || from == bounds.first {
                return Ok(());
            }
            back = back.saturating_mul(4);
        }
    }

    fn read(&mut self, reader: &mut dyn LogReader, from: i64, end: i64) -> Result<()> {
        self.position = Some(end);
        if from >= end {
            return Ok(());
        }
        reader.open(&self.changelog, from)?;
        let (mut position, mut empty_reads, mut records) = (from, 0, Vec::new());
        while position < end {
            let next = reader.read(&mut records)?;
            empty_reads = if next > position { 0 } else { empty_reads + 1 };
            if empty_reads > EMPTY_READS_MAX {
                return Err(Error::retry(format!("{} gives nothing at offset {position}; is its leader up?", self.changelog)));
            }
            position = next;
            for record in records.drain(..) {
                self.take(&record)?;
            }
        }
        self.position = Some(position);
        reader.close();
        Ok(())
    }

    /// A former owner's record may lie behind: the greater epoch holds.
    fn take(&mut self, record: &RawRecord) -> Result<()> {
        if record.key.as_deref() != Some(PROGRESS_KEY.as_bytes()) {
            return Ok(());
        }
        let Some(value) = &record.value else { return Ok(()) };
        let progress = Progress::decode(value).map_err(Error::refuse)?;
        if self.progress.as_ref().is_none_or(|held| progress.epoch >= held.epoch) {
            self.progress = Some(progress);
        }
        Ok(())
    }
}

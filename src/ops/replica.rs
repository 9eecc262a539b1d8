//! One region's state of one partition, as its versions changelog tells it: the greatest entry of each row key and the
//! newest progress record. Read once from its beginning, then on from where it was.

use crate::base::error::{Error, Result};
use crate::base::ids::{Region, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::port::log::LogReader;
use crate::record::collection::Collections;
use crate::record::raw::RawRecord;
use crate::region::topics::{TopicNames, mirror_name};
use crate::store::entry::Entry;
use crate::store::memory::MemoryStore;
use crate::store::progress::{Progress, SourceProgress};
use crate::store::{Opened, VersionStore};
use crate::stream::restore::image::Image;
use std::sync::Arc;
use std::time::Duration;

/// Reads that may bring nothing in a row before the log counts as unreachable; each waits a short moment.
const EMPTY_READS_MAX: usize = 1_000;

/// How long it matters what was forgotten: no zombie lives longer, whose append might come behind it.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A region as a command reaches it.
pub struct Place<'a> {
    pub region: Region,
    pub names: TopicNames,
    pub reader: &'a mut dyn LogReader,
    /// Bytes read from it.
    pub bytes: u64,
}

impl<'a> Place<'a> {
    pub fn new(region: Region, names: TopicNames, reader: &'a mut dyn LogReader) -> Self {
        Self { region, names, reader, bytes: 0 }
    }

    /// Refuses a topic that is not there or has another number of partitions.
    pub fn expect_topic(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let region = &self.region;
        match self.reader.partition_count(topic)? {
            Some(found) if found == partitions => Ok(()),
            Some(found) => Err(Error::refuse(format!(
                "topic {topic} in region {region} has {found} partitions, and [topics] partitions = {partitions}: a key must lie in the partition of the same number in both regions"
            ))),
            None => Err(Error::refuse(format!(
                "region {region} has no topic {topic}: does it run under the same application_id? `driftless topics create` makes it there"
            ))),
        }
    }
}

/// Shard and partition of every task.
pub fn all_partitions(names: &TopicNames, partitions: i32) -> Vec<(u16, i32)> {
    (0..names.shards()).flat_map(|shard| (0..partitions).map(move |partition| (shard, partition))).collect()
}

/// Offsets that the versions changelogs of these regions have in all, for these tasks.
pub fn records_of(places: &mut [&mut Place<'_>], tasks: &[(u16, i32)]) -> Result<u64> {
    let mut records = 0;
    for place in places {
        for (shard, partition) in tasks {
            let bounds = place.reader.bounds(&TopicPartition::new(place.names.versions_changelog(*shard), *partition))?;
            records += u64::try_from(bounds.end - bounds.first).unwrap_or(0);
        }
    }
    Ok(records)
}

pub struct Replica {
    region: Region,
    changelog: TopicPartition,
    local: Arc<str>,
    image: Image,
    position: i64,
}

impl Replica {
    pub fn new(place: &Place<'_>, shard: u16, partition: i32, collections: &Arc<Collections>) -> Self {
        let opened = Opened { store: Box::new(MemoryStore::new(collections, DAY)), applied: None, warning: None };
        Self {
            region: place.region.clone(),
            changelog: TopicPartition::new(place.names.versions_changelog(shard), partition),
            local: place.names.local(shard),
            image: Image::new(collections.clone(), opened),
            position: 0,
        }
    }

    /// Reads what has been appended since the last time. `at` hears of each chunk: how many offsets it covers.
    pub fn read_on(&mut self, place: &mut Place<'_>, at: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let bounds = place.reader.bounds(&self.changelog)?;
        self.position = self.position.max(bounds.first);
        if self.position >= bounds.end {
            return Ok(());
        }
        place.reader.open(&self.changelog, self.position)?;
        let read = self.read_to(bounds.end, place, at);
        place.reader.close();
        read
    }

    fn read_to(&mut self, end: i64, place: &mut Place<'_>, at: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let mut records: Vec<RawRecord> = Vec::new();
        let mut empty_reads = 0;
        while self.position < end {
            let next = place.reader.read(&mut records)?;
            empty_reads = if next > self.position { 0 } else { empty_reads + 1 };
            if empty_reads > EMPTY_READS_MAX {
                let (changelog, position) = (&self.changelog, self.position);
                return Err(Error::retry(format!("{changelog} gives nothing at offset {position} of {end}; is its leader up?")));
            }
            let covered = u64::try_from(next - self.position).unwrap_or(0);
            self.position = next;
            for record in records.drain(..) {
                place.bytes += record.bytes() as u64;
                self.image.apply(&record)?;
            }
            at(covered)?;
        }
        Ok(())
    }

    pub fn store(&self) -> &dyn VersionStore {
        self.image.store()
    }

    pub fn get(&self, key: &RowKey) -> Option<Entry> {
        self.image.store().get(key)
    }

    /// A partition that no worker has ever held has none.
    pub fn progress(&self) -> Result<&Progress> {
        self.image.progress().ok_or_else(|| {
            let (changelog, region) = (&self.changelog, &self.region);
            Error::refuse(format!("{changelog} in region {region} has no progress record yet: start a worker there"))
        })
    }

    pub fn floor(&self) -> Option<Hlc> {
        self.image.progress().and_then(|progress| progress.floor)
    }

    /// What is known of the source that brings a region's changes.
    pub fn source_of(&self, origin: &Region) -> Option<&SourceProgress> {
        let topic = if *origin == self.region { self.local.to_string() } else { mirror_name(origin, &self.local) };
        self.image.progress()?.sources.iter().find(|source| source.topic == topic)
    }

    /// A up to which an origin is settled.
    pub fn frontier_of(&self, origin: &Region) -> Option<UnixMs> {
        self.source_of(origin)?.frontier
    }

    /// Of the origins those that this region is further behind with than the other one was.
    pub fn behind<'o>(&self, frontiers: &'o [(Region, UnixMs)]) -> Vec<&'o Region> {
        let behind = frontiers.iter().filter(|(origin, theirs)| self.frontier_of(origin).is_none_or(|ours| ours < *theirs));
        behind.map(|(origin, _)| origin).collect()
    }

    /// The frontier of every origin that has spoken here.
    pub fn frontiers(&self, origins: &[Region]) -> Vec<(Region, UnixMs)> {
        origins.iter().filter_map(|origin| Some((origin.clone(), self.frontier_of(origin)?))).collect()
    }
}

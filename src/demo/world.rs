//! Three regions in one process: a broker and a vector store each, and a link for every direction.

use super::content::COLLECTION;
use super::workload::REGIONS;
use crate::adapter::embedded::broker::{Broker, BrokerError, TimestampType};
use crate::adapter::embedded::mirror::MirrorLink;
use crate::adapter::embedded::vector::{Database, StoredRow};
use crate::adapter::system::SystemClock;
use crate::base::ids::{CollectionId, Region, TopicPartition, VectorId};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crate::region::topics::TopicNames;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) const PARTITIONS: i32 = 6;
pub(super) const APPLICATION: &str = "driftless";
pub(super) const DOCUMENTS: CollectionId = CollectionId(0);

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// One way.
const LINK_DELAY: Duration = Duration::from_millis(30);
/// MirrorMaker's `offset.flush.interval.ms` is a minute; here a restart repeats about a second.
const LINK_COMMIT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct RegionWorld {
    pub region: Region,
    pub broker: Arc<Broker>,
    pub database: Arc<Database>,
}

/// A link and its ends, as places in [`World::regions`].
pub(super) struct Link {
    pub from: usize,
    pub to: usize,
    pub mirror: MirrorLink,
}

pub(super) struct World {
    pub clock: SystemClock,
    pub names: TopicNames,
    pub collections: Arc<Collections>,
    pub regions: Vec<RegionWorld>,
    links: Mutex<Vec<Link>>,
}

impl World {
    pub fn new(dim: usize) -> Result<Self, BrokerError> {
        let clock = SystemClock::start();
        let names = TopicNames::new(APPLICATION, 1);
        let collections = Arc::new(Collections::new(vec![documents(dim)]));
        let mut regions = Vec::new();
        for (name, _) in REGIONS {
            let broker = Broker::new(Box::new(clock), SESSION_TIMEOUT);
            create_topics(&broker, &names, name)?;
            let database = Database::new(collections.clone(), Box::new(clock));
            regions.push(RegionWorld { region: Region::new(name), broker, database });
        }
        let links = Mutex::new(links(&regions));
        Ok(Self { clock, names, collections, regions, links })
    }

    pub fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rows(&self, region: usize) -> BTreeMap<VectorId, StoredRow> {
        self.regions[region].database.scan(DOCUMENTS)
    }

    pub fn partitions_of<const N: usize>(&self, topics: [Arc<str>; N]) -> impl Iterator<Item = TopicPartition> {
        topics.into_iter().flat_map(partitions)
    }

    /// The partitions of a region's own change topic.
    pub fn local(&self) -> impl Iterator<Item = TopicPartition> {
        partitions(self.names.local(0))
    }

    /// The partitions that carry `from`'s changes in any other region.
    pub fn mirror(&self, from: usize) -> impl Iterator<Item = TopicPartition> {
        partitions(self.names.mirror(&self.regions[from].region, 0))
    }
}

fn partitions(topic: Arc<str>) -> impl Iterator<Item = TopicPartition> {
    (0..PARTITIONS).map(move |number| TopicPartition::new(topic.clone(), number))
}

fn documents(dim: usize) -> CollectionSpec {
    CollectionSpec {
        name: COLLECTION.to_owned(),
        id: IdKind::Uuid,
        dimension: dim,
        metric: Metric::Cosine,
        index: IndexKind::Auto,
        auto_create: true,
    }
}

fn create_topics(broker: &Broker, names: &TopicNames, region: &str) -> Result<(), BrokerError> {
    broker.create_topic(&names.local(0), PARTITIONS, TimestampType::LogAppendTime)?;
    for (peer, _) in REGIONS.iter().filter(|(peer, _)| *peer != region) {
        broker.create_topic(&names.mirror(&Region::new(peer), 0), PARTITIONS, TimestampType::CreateTime)?;
    }
    for topic in
        [names.repair(0), names.versions_changelog(0), names.vectors_changelog(0), names.dead_letter(), names.conflicts()]
    {
        broker.create_topic(&topic, PARTITIONS, TimestampType::CreateTime)?;
    }
    Ok(())
}

fn links(regions: &[RegionWorld]) -> Vec<Link> {
    let mut links = Vec::new();
    for (from, source) in regions.iter().enumerate() {
        for (to, target) in regions.iter().enumerate().filter(|(to, _)| *to != from) {
            let (source_broker, target_broker) = (source.broker.clone(), target.broker.clone());
            let alias = source.region.clone();
            let mirror = MirrorLink::new(source_broker, target_broker, alias, LINK_DELAY, LINK_COMMIT_INTERVAL);
            links.push(Link { from, to, mirror });
        }
    }
    links
}

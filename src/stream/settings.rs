//! What a stream thread is told once.

use crate::base::ids::Region;
use crate::record::collection::Collections;
use crate::region::topics::TopicNames;
use crate::task::settings::TaskSettings;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// This worker's region and every region, itself included.
    pub region: Region,
    pub regions: Vec<Region>,
    pub topics: TopicNames,
    pub collections: Arc<Collections>,
    pub max_lateness: Duration,
    /// How long the changelogs remember that a key was forgotten (`delete.retention.ms`).
    pub horizon: Duration,
    /// The id of our own schema in this region's registry.
    pub schema_id: u32,
    pub task: TaskSettings,
    /// Events taken from the consumer, and records processed by one task, in one round.
    pub poll_max: usize,
    /// How long a task that is to be given up may finish what is under way; well below the session time-out.
    pub drain_timeout: Duration,
    /// A gap between two rounds longer than this means that the partitions may have gone to somebody else.
    pub pause_max: Duration,
    /// After such a gap: how long the group is given to say so before a task begins again.
    pub rejoin_grace: Duration,
    /// A full buffer is borne this long before its sources are paused (pausing throws prefetched records away).
    pub pause_after: Duration,
    /// Offsets are committed to Kafka (for tools) this often at most, and again so that they don't expire.
    pub offsets_interval: Duration,
    pub offsets_refresh: Duration,
}

impl StreamSettings {
    /// Defaults of DESIGN for everything but what belongs to the deployment.
    pub fn new(region: Region, regions: Vec<Region>, topics: TopicNames, collections: Arc<Collections>) -> Self {
        Self {
            region,
            regions,
            topics,
            collections,
            max_lateness: Duration::from_secs(3600),
            horizon: Duration::from_secs(24 * 3600),
            schema_id: 1,
            task: TaskSettings::default(),
            poll_max: 1_000,
            drain_timeout: Duration::from_secs(5),
            pause_max: Duration::from_secs(5),
            rejoin_grace: Duration::from_secs(3),
            pause_after: Duration::from_secs(1),
            offsets_interval: Duration::from_secs(1),
            offsets_refresh: Duration::from_secs(600),
        }
    }
}

//! [`TopologyDriver`]: one topology, no broker, a clock moved by hand. What Kafka Streams' users know as
//! `TopologyTestDriver`, for topologies of one's own and processors of one's own.
//!
//! It drives the production stream thread, task and restorer on the embedded adapters; nothing of the engine is
//! written twice. One task runs, on the one partition that every topic has.
//!
//! ```
//! use driftless::base::ids::{Region, VectorId};
//! use driftless::processor::register_standard;
//! use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
//! use driftless::region::topics::TopicNames;
//! use driftless::stream::settings::StreamSettings;
//! use driftless::testing::topology_driver::{InputChange, TopologyDriver};
//! use driftless::topology::build::{NodeTypes, maker};
//! use driftless::topology::node::{Context, Message, Processor};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! /// A processor of one's own: lets nothing through whose stamp is odd.
//! struct EvenOnly;
//!
//! impl Processor for EvenOnly {
//!     fn process(&mut self, message: Message, context: &mut Context<'_>) -> driftless::base::error::Result<()> {
//!         if message.change.version.hlc.wall().0 % 2 == 0 {
//!             context.forward(message);
//!         } else {
//!             context.drop_as("odd");
//!         }
//!         Ok(())
//!     }
//! }
//!
//! const TOPOLOGY: &str = r#"
//!     [topology]
//!     name = "even"
//!     [[source]]
//!     name = "changes"
//!     [[store]]
//!     name = "versions"
//!     type = "memory"
//!     [[processor]]
//!     name = "even"
//!     type = "even_only"
//!     parents = ["changes"]
//!     [[processor]]
//!     name = "merge"
//!     type = "lww_merge"
//!     parents = ["even"]
//!     stores = ["versions"]
//!     [[sink]]
//!     name = "milvus"
//!     type = "milvus_sink"
//!     parents = ["merge"]
//! "#;
//!
//! let mut types = NodeTypes::default();
//! register_standard(&mut types);
//! types.register("even_only", |_| Ok(maker(|| EvenOnly)));
//!
//! let docs = CollectionSpec {
//!     name: "docs".to_owned(),
//!     id: IdKind::Int64,
//!     dimension: 2,
//!     metric: Metric::L2,
//!     index: IndexKind::Auto,
//!     auto_create: true,
//! };
//! let (us, eu) = (Region::new("us"), Region::new("eu"));
//! let topics = TopicNames::new("app", 1);
//! let settings = StreamSettings::new(us.clone(), vec![us, eu], topics, Arc::new(Collections::new(vec![docs])));
//! let mut driver = TopologyDriver::parse("even.toml", TOPOLOGY, &types, settings)?;
//!
//! driver.pipe_change(InputChange::upsert("docs", "1", &[0.5, 1.0]))?;
//! driver.advance_wall_clock(Duration::from_millis(1))?;
//! driver.pipe_change(InputChange::upsert("docs", "2", &[0.5, 1.0]))?; // odd
//! driver.advance_wall_clock(Duration::from_millis(1))?;
//! let newer = driver.pipe_change(InputChange::upsert("docs", "1", &[2.0, 2.0]).from_region("eu"))?;
//!
//! let rows = driver.rows("docs")?;
//! assert_eq!(rows.keys().collect::<Vec<_>>(), [&VectorId::Int(1)]);
//! assert_eq!(rows[&VectorId::Int(1)].vector, [2.0, 2.0]);
//! let key = driver.row_key("docs", "1")?;
//! assert_eq!(driver.store("versions")?.get(&key).map(|entry| entry.version), Some(newer.version));
//! assert!(driver.dead_letters().is_empty() && driver.conflicts().is_empty());
//! # Ok::<(), driftless::base::error::Error>(())
//! ```

mod clock;
mod crash;
mod input;
mod outputs;
mod worker;

pub use crash::Leftovers;
pub use input::{InputChange, Piped};
pub use outputs::{Conflict, Logged, StoreView};

use crate::adapter::embedded::broker::{Broker, BrokerError, Message, TimestampType};
use crate::adapter::embedded::schema::OUR_SCHEMA_ID;
use crate::adapter::embedded::vector::Database;
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TaskId, TopicPartition};
use crate::base::time::{Clock, Now, UnixMs};
use crate::merge::hlc::HlcClock;
use crate::merge::version::Version;
use crate::record::avro::{Fields, WireOp, encode};
use crate::record::framing;
use crate::record::headers::HEARTBEAT_KEY_PREFIX;
use crate::stream::settings::StreamSettings;
use crate::topology::build::{NodeTypes, Topology};
use bytes::Bytes;
use clock::HandClock;
use input::InputKey;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::{Rounded, Surroundings, Worker};

/// Wall time when a driver begins: 2024-01-01, midnight in UTC.
pub const START: UnixMs = UnixMs(1_704_067_200_000);

const GROUP: &str = "topology-driver";
const PARTITION: i32 = 0;
const TASK: TaskId = TaskId { shard: 0, partition: PARTITION };
/// A long move of the clock is made in steps: what is tried again from time to time is tried meanwhile.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Far beyond any test.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Rounds at one time after which a topology is taken to go round in circles.
const ROUNDS_MAX: usize = 100_000;

/// See the [module](self).
///
/// Every `pipe_…` and `advance_…` returns when nothing is left to be done at the time that the clock shows. So that
/// no time is needed to see a row, `linger`, `hold` and `commit_interval` of the settings are taken as zero; a move of the clock
/// is no pause of the process, so `pause_max` is out of reach; and the worker writes no heartbeats but one at its start
/// ([`InputChange::heartbeat`] pipes one in).
pub struct TopologyDriver {
    around: Surroundings,
    worker: Worker,
    stamps: HlcClock,
    /// What becomes of what is under way when the fuse blows.
    leftovers: Leftovers,
    crashes: u32,
}

impl TopologyDriver {
    /// Runs `topology` as the region of `settings` does, with a change topic of its own and a mirror of each peer's.
    pub fn new(topology: Topology, mut settings: StreamSettings) -> Result<Self> {
        if settings.topics.shards() != 1 {
            return Err(Error::refuse("a driver runs one task of one shard: give its TopicNames 1 shard"));
        }
        settings.schema_id = OUR_SCHEMA_ID;
        settings.task.linger = Duration::ZERO;
        settings.task.hold = Duration::ZERO;
        settings.task.commit_interval = Duration::ZERO;
        settings.task.heartbeat_interval = NEVER;
        settings.task.scrub.enabled = false;
        settings.pause_max = NEVER;
        let clock = HandClock::default();
        let broker = Broker::new(Box::new(clock.clone()), NEVER);
        create_topics(&broker, &settings)?;
        let database = Database::new(settings.collections.clone(), Box::new(clock.clone()));
        let around = Surroundings { topology: Arc::new(topology), settings, clock, broker, database };
        let worker = Worker::start(&around);
        let mut driver = Self { around, worker, stamps: HlcClock::default(), leftovers: Leftovers::Lost, crashes: 0 };
        driver.rest()?;
        Ok(driver)
    }

    /// From a topology's text; `file` is what its faults call it.
    pub fn parse(file: &str, text: &str, types: &NodeTypes, settings: StreamSettings) -> Result<Self> {
        Self::new(Topology::parse(file, text, types)?, settings)
    }

    pub fn load(path: &Path, types: &NodeTypes, settings: StreamSettings) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::refuse(format_args!("{file}: {error}")))?;
        Self::parse(&file, &text, types, settings)
    }

    /// What the clock shows.
    pub fn now(&self) -> Now {
        self.around.clock.now()
    }

    /// Moves the clock on, and does what falls due meanwhile.
    pub fn advance_wall_clock(&mut self, by: Duration) -> Result<()> {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(STEP_MAX);
            self.around.clock.advance(step);
            left -= step;
            self.rest()?;
        }
        Ok(())
    }

    /// Appends a record to a source's topic (`vector-cdc`, `us.vector-cdc`) at the clock's time; answers with its
    /// offset.
    pub fn pipe_input(&mut self, source: &str, key: Option<&str>, value: Option<&[u8]>) -> Result<i64> {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let value = value.map(Bytes::copy_from_slice);
        self.pipe_message(source, Message { key, value, ..Message::default() })
    }

    /// The same with headers, and on a mirror with the append time of its origin.
    pub fn pipe_message(&mut self, source: &str, message: Message) -> Result<i64> {
        self.known_topic(source)?;
        let offset = self.around.broker.append(&TopicPartition::new(source, PARTITION), message)?;
        self.rest()?;
        Ok(offset)
    }

    /// Appends a change, in Avro, to the topic that brings its origin's changes here.
    pub fn pipe_change(&mut self, change: InputChange) -> Result<Piped> {
        let settings = &self.around.settings;
        let origin = change.origin.unwrap_or_else(|| settings.region.clone());
        if !settings.regions.contains(&origin) {
            return Err(Error::refuse(format_args!("region {origin} is not among the settings' regions {:?}", settings.regions)));
        }
        let is_own = origin == settings.region;
        let topic = if is_own { settings.topics.local(0) } else { settings.topics.mirror(&origin, 0) };
        let now = self.around.clock.now().wall;
        let hlc = change.stamp.unwrap_or_else(|| self.stamps.stamp(now));
        let content = encode(&Fields {
            op: change.op,
            hlc,
            origin: origin.as_str(),
            sequence: change.sequence,
            collection: &change.collection,
            vector_id: &change.id,
            vector: &change.vector,
            metadata: &change.metadata,
        });
        let value = Bytes::from(framing::frame(OUR_SCHEMA_ID, &content));
        let key = match change.key {
            InputKey::None => None,
            InputKey::Other(key) => Some(key),
            InputKey::Id if change.op == WireOp::Heartbeat => Some(format!("{HEARTBEAT_KEY_PREFIX}{origin}")),
            InputKey::Id => Some(change.id),
        };
        let message = Message {
            key: key.map(Bytes::from),
            value: Some(value.clone()),
            timestamp: change.appended_at,
            ..Message::default()
        };
        let offset = self.pipe_message(&topic, message)?;
        let version = Version { hlc, origin, sequence: change.sequence };
        Ok(Piped { partition: TopicPartition::new(topic, PARTITION), offset, version, value })
    }

    /// The vector store behind the sink: to let it refuse ([`Database::check_writes_with`]), or to look into it.
    pub fn database(&self) -> &Arc<Database> {
        &self.around.database
    }

    /// Stops the worker gracefully and starts another.
    pub fn restart(&mut self) -> Result<()> {
        let crashes = self.crashes;
        self.worker.stream.stop(self.around.clock.now());
        let mut rounded = self.run()?;
        if rounded == Rounded::Idle && self.crashes == crashes {
            // What is under way waits for its time: the stop outwaits it for no longer than any other.
            self.around.clock.advance(self.around.settings.drain_timeout);
            rounded = self.run()?;
        }
        if rounded == Rounded::Stopped {
            self.worker = Worker::start(&self.around);
        }
        self.rest()
    }

    /// kill -9, and another worker.
    pub fn kill(&mut self, leftovers: Leftovers) -> Result<()> {
        self.leftovers = leftovers;
        self.replace_killed();
        self.rest()
    }

    /// Kills the worker after so many more of its steps with an effect outside (an append, an acknowledgement, a
    /// write, an answer, a commit) and lets another take its place, whatever is being piped or waited for then.
    /// Counting up from 0 until [`crashes`](Self::crashes) stays 0 crashes between any two of them.
    pub fn crash_after(&mut self, steps: u64, leftovers: Leftovers) {
        self.leftovers = leftovers;
        self.worker.fuse.cut(steps);
    }

    /// Workers killed so far.
    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Runs until nothing is left to be done at this time.
    fn rest(&mut self) -> Result<()> {
        match self.run()? {
            Rounded::Stopped => Err(Error::fatal("the worker has stopped by itself")),
            _ => Ok(()),
        }
    }

    fn run(&mut self) -> Result<Rounded> {
        for _ in 0..ROUNDS_MAX {
            if self.worker.fuse.has_blown() {
                self.replace_killed();
            }
            match self.worker.round(self.around.clock.now())? {
                Rounded::Busy => {}
                _ if self.worker.fuse.has_blown() => {}
                rounded => return Ok(rounded),
            }
        }
        Err(Error::fatal(format_args!("{ROUNDS_MAX} rounds without rest: does a processor feed itself?")))
    }

    fn replace_killed(&mut self) {
        // It waits in the group until the dead one has let go.
        let next = Worker::start(&self.around);
        std::mem::replace(&mut self.worker, next).kill(self.leftovers);
        self.crashes += 1;
    }
}

fn create_topics(broker: &Broker, settings: &StreamSettings) -> Result<(), BrokerError> {
    let names = &settings.topics;
    let own = [
        names.local(0),
        names.repair(0),
        names.versions_changelog(0),
        names.vectors_changelog(0),
        names.dead_letter(),
        names.conflicts(),
    ];
    for topic in own {
        broker.create_topic(&topic, 1, TimestampType::LogAppendTime)?;
    }
    let peers = settings.regions.iter().filter(|region: &&Region| **region != settings.region);
    for peer in peers {
        broker.create_topic(&names.mirror(peer, 0), 1, TimestampType::CreateTime)?;
    }
    Ok(())
}

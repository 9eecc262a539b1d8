//! A region's worker: the production stream thread and its restorer over the embedded ports, each on an OS
//! thread of its own.

use super::world::{APPLICATION, PARTITIONS, RegionWorld, World};
use crate::adapter::embedded::schema::{EmbeddedSchemas, OUR_SCHEMA_ID};
use crate::adapter::embedded::vector::EmbeddedStore;
use crate::adapter::embedded::{EmbeddedAppender, EmbeddedConsumer, EmbeddedReader};
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::console::tap::{Ear, Tap};
use crate::port::log::{Appender, Wake};
use crate::processor;
use crate::store::memory::MemoryStores;
use crate::stream::driver::{Watch, drive, drive_restorer, wake_this_thread};
use crate::stream::report::ThreadReport;
use crate::stream::restorer::Restorer;
use crate::stream::settings::StreamSettings;
use crate::stream::stream_thread::{Ports, StreamThread};
use crate::topology::build::{NodeTypes, Topology};
use crate::topology::spec::REPLICATE;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Appends that may wait for their acknowledgement.
const APPENDS_MAX: usize = 10_000;
/// What a vector store takes to answer.
const STORE_LATENCY: Duration = Duration::from_millis(4);

/// How often a worker says how far it is: what the shown lag may be off by.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// One watch per region's worker.
pub(super) struct Workers(Vec<Watch>);

impl Workers {
    /// `on_report` is called whenever one of them has said how far it is.
    pub fn new(count: usize, on_report: Wake) -> Self {
        Self((0..count).map(|_| Watch::new(REPORT_INTERVAL, on_report.clone())).collect())
    }

    pub fn watch(&self, region: usize) -> &Watch {
        &self.0[region]
    }

    pub fn reports(&self) -> Vec<ThreadReport> {
        self.0.iter().map(Watch::report).collect()
    }

    /// Each has all its tasks, restored and running.
    pub fn are_ready(&self) -> bool {
        self.reports().iter().all(|report| report.tasks.len() == PARTITIONS as usize && report.is_ready())
    }

    pub fn stop(&self) {
        for watch in &self.0 {
            watch.stop();
        }
    }
}

/// Per source partition the offset up to which all is settled.
pub(super) fn settled(report: &ThreadReport) -> BTreeMap<TopicPartition, i64> {
    let mut settled = BTreeMap::new();
    for task in &report.tasks {
        for source in &task.sources {
            settled.insert(TopicPartition::new(source.topic.as_str(), task.partition), source.next_offset);
        }
    }
    settled
}

/// Runs the worker on the calling thread until `watch` is told to stop, or it fails. `ear` is told of what it keeps
/// instead of applying it.
pub(super) fn run(region: usize, world: &World, watch: &Watch, ear: Option<&Ear>) -> Result<()> {
    let RegionWorld { region: name, broker, database } = &world.regions[region];
    let wake = wake_this_thread();
    let (restorer, handle) = Restorer::new(wake.clone());
    let local = vec![world.names.local(0)];
    let mut appender: Box<dyn Appender> = Box::new(EmbeddedAppender::new(broker.clone(), APPENDS_MAX, wake.clone()));
    if let Some(ear) = ear {
        appender = Box::new(Tap::new(appender, ear.clone(), name.clone(), world.names.dead_letter(), world.names.conflicts()));
    }
    let ports = Ports {
        consumer: Box::new(EmbeddedConsumer::join(broker.clone(), APPLICATION, local, wake.clone())),
        appender,
        vectors: Box::new(EmbeddedStore::new(database.clone(), STORE_LATENCY, wake)),
        schemas: Box::new(EmbeddedSchemas::default()),
        stores: Arc::new(MemoryStores),
        clock: Box::new(world.clock),
    };
    let regions = world.regions.iter().map(|region| region.region.clone()).collect();
    let mut settings = StreamSettings::new(name.clone(), regions, world.names.clone(), world.collections.clone());
    settings.schema_id = OUR_SCHEMA_ID;
    let stream = StreamThread::new(settings, Arc::new(topology()?), ports, handle);
    thread::scope(|scope| {
        scope.spawn(|| drive_restorer(restorer, &mut EmbeddedReader::new(broker.clone()), &world.clock));
        drive(stream, &world.clock, watch)
    })
}

pub(super) fn topology() -> Result<Topology> {
    let mut types = NodeTypes::default();
    processor::register_standard(&mut types);
    Topology::parse("replicate.toml", REPLICATE, &types).map_err(Error::refuse)
}

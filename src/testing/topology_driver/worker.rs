//! One life of the driven worker: the production stream thread and restorer, stepped by the driver.

use super::clock::HandClock;
use super::crash::{AppendLine, Fuse, FusedAppender, FusedConsumer, FusedStore, Leftovers, Shared, StoreLine, lock};
use crate::adapter::embedded::broker::Broker;
use crate::adapter::embedded::schema::EmbeddedSchemas;
use crate::adapter::embedded::vector::Database;
use crate::adapter::embedded::{EmbeddedConsumer, EmbeddedReader};
use crate::base::error::Result;
use crate::base::time::Now;
use crate::port::log::GroupConsumer;
use crate::store::memory::MemoryStores;
use crate::stream::restorer::{Restorer, Stepped};
use crate::stream::settings::StreamSettings;
use crate::stream::stream_thread::{Ports, StreamThread};
use crate::topology::build::Topology;
use std::sync::{Arc, Mutex};

/// What outlives a worker.
pub(super) struct Surroundings {
    pub topology: Arc<Topology>,
    pub settings: StreamSettings,
    pub clock: HandClock,
    pub broker: Arc<Broker>,
    pub database: Arc<Database>,
}

pub(super) struct Worker {
    pub stream: StreamThread,
    pub fuse: Fuse,
    restorer: Restorer,
    reader: EmbeddedReader,
    consumer: Shared<EmbeddedConsumer>,
    appends: Shared<AppendLine>,
    store: Shared<StoreLine>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounded {
    Busy,
    /// Nothing is left to be done at this time.
    Idle,
    Stopped,
}

impl Worker {
    pub fn start(around: &Surroundings) -> Self {
        let fuse = Fuse::endless();
        let local = vec![around.settings.topics.local(0)];
        let consumer = EmbeddedConsumer::join(around.broker.clone(), super::GROUP, local, Arc::new(|| {}));
        let consumer = Arc::new(Mutex::new(consumer));
        let appends = Arc::new(Mutex::new(AppendLine::new(around.broker.clone(), fuse.clone())));
        let store = Arc::new(Mutex::new(StoreLine::new(around.database.clone(), fuse.clone())));
        let (restorer, handle) = Restorer::new(Arc::new(|| {}));
        let ports = Ports {
            consumer: Box::new(FusedConsumer { inner: consumer.clone(), fuse: fuse.clone() }),
            appender: Box::new(FusedAppender(appends.clone())),
            vectors: Box::new(FusedStore(store.clone())),
            schemas: Box::new(EmbeddedSchemas::default()),
            stores: Arc::new(MemoryStores),
            clock: Box::new(around.clock.clone()),
        };
        let stream = StreamThread::new(around.settings.clone(), around.topology.clone(), ports, handle);
        let reader = EmbeddedReader::new(around.broker.clone());
        Self { stream, fuse, restorer, reader, consumer, appends, store }
    }

    /// One round of the thread, and all that it asked of the restorer.
    pub fn round(&mut self, now: Now) -> Result<Rounded> {
        let round = self.stream.run_once(now)?;
        let mut worked = round.worked;
        while self.restorer.run_once(&mut self.reader, now) == Stepped::Worked {
            worked = true;
        }
        let is_idle = !worked && lock(&self.appends).is_idle() && lock(&self.store).is_idle();
        Ok(match (round.stopped, is_idle) {
            (true, _) => Rounded::Stopped,
            (false, true) => Rounded::Idle,
            (false, false) => Rounded::Busy,
        })
    }

    /// The process is gone; its group is told at once, so that no time passes until the next one has its partition.
    pub fn kill(self, leftovers: Leftovers) {
        drop(self.stream);
        if leftovers == Leftovers::Landed {
            lock(&self.appends).land_all();
            lock(&self.store).land_all();
        }
        lock(&self.consumer).leave();
    }
}

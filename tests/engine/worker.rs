//! One worker process: the production thread and restorer, stepped by hand, on ports with faults.

use crate::faulty_log::{AppendLine, ConsumerLine, FaultyAppender, FaultyConsumer};
use crate::faulty_store::{FaultyStore, StoreLine};
use crate::fuse::Fuse;
use crate::world::{APPLICATION, World};
use driftless::adapter::embedded::schema::EmbeddedSchemas;
use driftless::adapter::embedded::{EmbeddedConsumer, EmbeddedReader};
use driftless::base::ids::Region;
use driftless::base::time::Now;
use driftless::record::schema::{SchemaLookup, SchemaSource};
use driftless::stream::report::{SourceReport, TaskReport, ThreadReport};
use driftless::stream::restorer::{Restorer, Stepped};
use driftless::stream::stream_thread::{Ports, Round, StreamThread};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// Registries that do not answer, by region.
type Silent = Arc<Mutex<BTreeSet<Region>>>;

pub struct Worker {
    stream: StreamThread,
    restorer: Restorer,
    reader: EmbeddedReader,
    appends: Arc<Mutex<AppendLine>>,
    store: Arc<Mutex<StoreLine>>,
    consumer: Arc<Mutex<ConsumerLine>>,
    pub fuse: Fuse,
    pub silent_registries: Silent,
    pub stopped: bool,
}

/// What a killed worker leaves outside: appends and requests that it had handed over.
pub struct Wreck {
    appends: Arc<Mutex<AppendLine>>,
    store: Arc<Mutex<StoreLine>>,
}

impl Wreck {
    pub fn land_all(&self) {
        self.appends.lock().unwrap().land_all();
        self.store.lock().unwrap().land_all();
    }
}

impl Worker {
    pub fn start(world: &World, fuse: Fuse) -> Self {
        let appends = AppendLine::new(world.broker.clone(), fuse.clone());
        let store = StoreLine::new(world.database.clone(), fuse.clone());
        let consumer = Arc::new(Mutex::new(ConsumerLine::default()));
        let silent_registries = Silent::default();
        let local = (0..world.settings.topics.shards()).map(|shard| world.settings.topics.local(shard)).collect();
        let (restorer, handle) = Restorer::new(Arc::new(|| {}));
        let ports = Ports {
            clock: Box::new(world.clock.clone()),
            consumer: Box::new(FaultyConsumer {
                inner: EmbeddedConsumer::join(world.broker.clone(), APPLICATION, local, Arc::new(|| {})),
                line: consumer.clone(),
                fuse: fuse.clone(),
            }),
            appender: Box::new(FaultyAppender(appends.clone())),
            vectors: Box::new(FaultyStore(store.clone())),
            schemas: Box::new(Schemas { known: EmbeddedSchemas::default(), silent: silent_registries.clone() }),
            stores: world.stores.clone(),
        };
        Self {
            stream: StreamThread::new(world.settings.clone(), world.topology.clone(), ports, handle),
            restorer,
            reader: EmbeddedReader::new(world.broker.clone()),
            appends,
            store,
            consumer,
            fuse,
            silent_registries,
            stopped: false,
        }
    }

    /// One round of the thread, then whatever it asked of the restorer.
    pub fn round(&mut self, now: Now) -> Round {
        let round = self.stream.run_once(now).expect("nothing here is fatal");
        self.stopped = round.stopped;
        while self.restorer.run_once(&mut self.reader) == Stepped::Worked {}
        round
    }

    /// A round in which the restorer gets nowhere.
    pub fn round_without_restorer(&mut self, now: Now) -> Round {
        self.stream.run_once(now).expect("nothing here is fatal")
    }

    /// One step of the restorer's.
    pub fn step_restorer(&mut self) {
        self.restorer.run_once(&mut self.reader);
    }

    /// Asks for a graceful stop.
    pub fn stop(&mut self, now: Now) {
        self.stream.stop(now);
    }

    /// kill -9.
    pub fn kill(self) -> Wreck {
        Wreck { appends: self.appends, store: self.store }
    }

    pub fn report(&self) -> ThreadReport {
        self.stream.report()
    }

    pub fn task(&self, id: &str) -> TaskReport {
        let report = self.report();
        report.tasks.into_iter().find(|task| task.task == id).unwrap_or_else(|| panic!("no task {id} here"))
    }

    /// A source of task `0_0`.
    pub fn source(&self, topic: &str) -> SourceReport {
        let task = self.task("0_0");
        task.sources.into_iter().find(|source| source.topic == topic).unwrap_or_else(|| panic!("no source {topic}"))
    }

    pub fn appends(&self) -> MutexGuard<'_, AppendLine> {
        self.appends.lock().unwrap()
    }

    pub fn store(&self) -> MutexGuard<'_, StoreLine> {
        self.store.lock().unwrap()
    }

    /// How often sources were paused, and resumed.
    pub fn pauses(&self) -> (usize, usize) {
        let consumer = self.consumer();
        (consumer.pauses, consumer.resumes)
    }

    pub fn consumer(&self) -> MutexGuard<'_, ConsumerLine> {
        self.consumer.lock().unwrap()
    }
}

struct Schemas {
    known: EmbeddedSchemas,
    silent: Silent,
}

impl SchemaSource for Schemas {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        if self.silent.lock().unwrap().contains(origin) { SchemaLookup::Pending } else { self.known.lookup(origin, id) }
    }
}

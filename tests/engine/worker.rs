//! One worker process: the production thread and restorer, stepped by hand, on ports with faults.

use crate::faulty_log::{AppendLine, ConsumerLine, FaultyAppender, FaultyConsumer};
use crate::faulty_store::{FaultyStore, StoreLine};
use crate::fuse::Fuse;
use crate::world::{APPLICATION, World};
use driftless::adapter::embedded::schema::EmbeddedSchemas;
use driftless::adapter::embedded::{EmbeddedConsumer, EmbeddedGroupView, EmbeddedReader};
use driftless::base::ids::{Region, TaskId};
use driftless::base::time::Now;
use driftless::port::log::LogReader;
use driftless::record::schema::{SchemaLookup, SchemaSource};
use driftless::stream::report::{SourceReport, TaskReport, ThreadReport};
use driftless::stream::restorer::{Restorer, Stepped};
use driftless::stream::standby::{StandbyKeeper, StandbySettings, Standbys};
use driftless::stream::stream_thread::{Ports, Round, StoreOrigin, StreamThread};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Registries that do not answer, by region.
type Silent = Arc<Mutex<BTreeSet<Region>>>;

pub struct Worker {
    stream: StreamThread,
    restorer: Restorer,
    reader: EmbeddedReader,
    pub standby: Option<StandbyLine>,
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
        let process = format!("process-{}", PROCESSES.fetch_add(1, Ordering::Relaxed));
        let standby = (world.standby_replicas > 0).then(|| StandbyLine::new(world, process.clone()));
        let standbys = standby.as_ref().map(|line| line.standbys.clone());
        let (restorer, handle) = Restorer::with_standbys(Arc::new(|| {}), standbys);
        let ports = Ports {
            clock: Box::new(world.clock.clone()),
            consumer: Box::new(FaultyConsumer {
                inner: EmbeddedConsumer::join_in(Some(process), world.broker.clone(), APPLICATION, local, Arc::new(|| {})),
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
            standby,
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
        while self.restorer.run_once(&mut self.reader, now) == Stepped::Worked {}
        if let Some(standby) = &mut self.standby {
            standby.read_on(now);
        }
        round
    }

    /// Where the store of a running task came from.
    pub fn store_origin(&self, partition: i32) -> Option<StoreOrigin> {
        self.stream.store_origin(TaskId { shard: 0, partition })
    }

    /// A round in which the restorer gets nowhere.
    pub fn round_without_restorer(&mut self, now: Now) -> Round {
        self.stream.run_once(now).expect("nothing here is fatal")
    }

    /// One step of the restorer's.
    pub fn step_restorer(&mut self, now: Now) {
        self.restorer.run_once(&mut self.reader, now);
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

/// No two workers of a test are one process.
static PROCESSES: AtomicU64 = AtomicU64::new(0);

/// What keeps a worker's standbys.
pub struct StandbyLine {
    pub standbys: Standbys,
    /// It reads nothing, and nobody notices.
    pub stands_still: bool,
    pub reader: Box<dyn LogReader>,
    keeper: StandbyKeeper,
    view: EmbeddedGroupView,
}

impl StandbyLine {
    pub fn new(world: &World, process: String) -> Self {
        let standbys = Standbys::default();
        let settings = StandbySettings {
            replicas: world.standby_replicas,
            process,
            topics: world.settings.topics.clone(),
            collections: world.settings.collections.clone(),
            stores: world.stores.clone(),
            horizon: world.settings.horizon,
        };
        Self {
            keeper: StandbyKeeper::new(settings, standbys.clone()),
            standbys,
            stands_still: false,
            reader: Box::new(EmbeddedReader::new(world.broker.clone())),
            view: EmbeddedGroupView::new(world.broker.clone(), APPLICATION),
        }
    }

    /// All that there is to read for now.
    pub fn read_on(&mut self, now: Now) {
        while !self.stands_still && self.keeper.run_once(self.reader.as_mut(), &mut self.view, now) == Stepped::Worked {}
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

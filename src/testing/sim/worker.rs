//! One worker process: the production stream thread and restorer, on ports that can fail.

use super::check::RegionChecks;
use super::clock::{NodeClock, Timeline};
use super::consumer::{OldEnds, SimConsumer, SimGroupView, SimReader};
use super::interrupt::{Blow, Interrupt};
use super::log_line::{LogLine, LogParts, SimAppender};
use super::region::SimRegion;
use super::registry::{SilentRegistries, SimSchemas};
use super::store_line::{SimStore, StoreLine, StoreParts};
use super::trace::Trace;
use crate::adapter::embedded::stores::KeptStores;
use crate::adapter::embedded::{EmbeddedConsumer, EmbeddedGroupView, EmbeddedReader};
use crate::base::error::Result;
use crate::base::ids::{TaskId, TopicPartition};
use crate::base::time::{Clock, Now};
use crate::port::log::Wake;
use crate::store::Stores;
use crate::store::memory::MemoryStores;
use crate::stream::report::ThreadReport;
use crate::stream::restorer::{Restorer, Stepped};
use crate::stream::settings::StreamSettings;
use crate::stream::standby::{StandbyKeeper, StandbySettings, Standbys};
use crate::stream::stream_thread::{Ports, StreamThread};
use crate::testing::random::SplitMix64;
use crate::topology::build::Topology;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) const APPLICATION: &str = "driftless";

/// As the driver of the real thread waits.
const IDLE_MIN: Duration = Duration::from_millis(1);
const IDLE_MAX: Duration = Duration::from_millis(50);
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What a worker has handed over to log and vector store. It outlives the worker.
#[derive(Clone)]
pub(super) struct Lines {
    pub log: Arc<Mutex<LogLine>>,
    pub store: Arc<Mutex<StoreLine>>,
}

impl Lines {
    pub fn new(
        region: &SimRegion,
        interrupt: &Interrupt,
        trace: &Trace,
        random: &mut SplitMix64,
        queue_max: usize,
        worker: u64,
    ) -> Self {
        let log = LogLine::new(LogParts {
            broker: region.broker.clone(),
            weather: region.log_weather.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            trace: trace.clone(),
            random: random.fork(),
            queue_max,
            worker,
        });
        let store = StoreLine::new(StoreParts {
            database: region.database.clone(),
            collections: region.collections.clone(),
            weather: region.store_weather.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            trace: trace.clone(),
            random: random.fork(),
            worker,
        });
        Self { log: Arc::new(Mutex::new(log)), store: Arc::new(Mutex::new(store)) }
    }

    pub fn advance(&self, now: Duration) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).advance(now);
        self.store.lock().unwrap_or_else(PoisonError::into_inner).advance(now);
    }

    pub fn due(&self) -> Option<Duration> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).due();
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).due();
        log.into_iter().chain(store).min()
    }

    pub fn has_answers(&self, now: Duration) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).has_acks(now)
            || self.store.lock().unwrap_or_else(PoisonError::into_inner).has_replies(now)
    }

    pub fn are_empty(&self) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
            && self.store.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Its worker is dead.
    pub fn orphan(&self, lost_percent: usize) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).orphan(lost_percent);
        self.store.lock().unwrap_or_else(PoisonError::into_inner).orphan(lost_percent);
    }

    /// A process that has stood still hears of its group only some time after it goes on.
    pub fn deafen(&self, until: Duration) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).deaf_until = until;
    }

    pub fn set_cut(&self, cut: bool) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).cut = cut;
    }
}

/// A stop that is to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    pub latest: Duration,
    pub span: Duration,
    /// How long it then goes on without knowing what its group did meanwhile.
    pub deaf: Duration,
}

pub(super) struct SimWorker {
    pub id: u64,
    pub clock: NodeClock,
    pub lines: Lines,
    /// What its machine keeps, if it keeps anything.
    pub disk: Option<KeptStores>,
    pub interrupt: Interrupt,
    pub paused_until: Option<Duration>,
    /// It is to be stopped by a signal: with rows under way, or at the latest then.
    pub pause: Option<Pause>,
    pub cut_until: Option<Duration>,
    stream: StreamThread,
    restorer: Restorer,
    reader: SimReader,
    standby: Option<StandbyLine>,
    partitions: i32,
    /// The versions changelog.
    changelog: Arc<str>,
    /// Restores whose outcome has been looked at: partition, and the end that was read to.
    looked_at: BTreeSet<(i32, i64)>,
    checks: Arc<Mutex<RegionChecks>>,
    trace: Trace,
    woken: Arc<AtomicBool>,
    next_round: Duration,
    next_restore: Duration,
    stopping: bool,
    stopped: bool,
}

pub(super) struct WorkerParts<'a> {
    pub id: u64,
    pub region: &'a SimRegion,
    pub settings: StreamSettings,
    pub topology: Arc<Topology>,
    pub timeline: Timeline,
    pub registries: SilentRegistries,
    pub queue_max: usize,
    pub standby_replicas: usize,
    pub session_timeout: Duration,
    pub disk: Option<KeptStores>,
    pub trace: Trace,
    pub random: SplitMix64,
}

/// The keeper's thread of a worker.
struct StandbyLine {
    standbys: Standbys,
    keeper: StandbyKeeper,
    reader: SimReader,
    view: SimGroupView,
    next_step: Duration,
}

fn standby_settings(settings: &StreamSettings, replicas: usize, process: &str, stores: Arc<dyn Stores>) -> StandbySettings {
    StandbySettings {
        replicas,
        process: process.to_owned(),
        topics: settings.topics.clone(),
        collections: settings.collections.clone(),
        stores,
        horizon: settings.horizon,
    }
}

impl StandbyLine {
    fn new(settings: StandbySettings, region: &SimRegion, lines: &Lines, mut random: SplitMix64, now: Duration) -> Self {
        let old_ends = OldEnds { random: random.fork(), told: HashMap::new() };
        let standbys = Standbys::default();
        let inner = EmbeddedGroupView::new(region.broker.clone(), APPLICATION);
        Self {
            keeper: StandbyKeeper::new(settings, standbys.clone()),
            standbys,
            reader: SimReader {
                inner: EmbeddedReader::new(region.broker.clone()),
                line: lines.log.clone(),
                old_ends: Some(old_ends),
            },
            view: SimGroupView { inner, line: lines.log.clone(), random, last: None },
            next_step: now,
        }
    }

    /// Answers how long it waits then.
    fn step(&mut self, now: Now) -> Duration {
        match self.keeper.run_once(&mut self.reader, &mut self.view, now) {
            Stepped::Worked => IDLE_MIN,
            Stepped::Idle => IDLE_MAX,
            Stepped::Failing | Stepped::Ended => RETRY_WAIT,
        }
    }
}

fn stores_on(disk: Option<&KeptStores>) -> Arc<dyn Stores> {
    match disk {
        Some(disk) => Arc::new(disk.clone()),
        None => Arc::new(MemoryStores),
    }
}

impl SimWorker {
    pub fn start(parts: WorkerParts<'_>) -> Self {
        let WorkerParts { id, region, settings, topology, timeline, registries, disk, mut random, .. } = parts;
        let WorkerParts { queue_max, standby_replicas, session_timeout, trace, .. } = parts;
        let skew_ms = random.between(0, 60_000) as i64 - 30_000;
        let clock = NodeClock::new(&timeline, skew_ms);
        let interrupt = Interrupt::new(clock.clone());
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        let wake: Wake = Arc::new(move || flag.store(true, Ordering::Relaxed));
        let lines = Lines::new(region, &interrupt, &trace, &mut random, queue_max, id);
        let process = format!("worker-{id}");
        let stores = stores_on(disk.as_ref());
        let standby = (standby_replicas > 0).then(|| {
            let settings = standby_settings(&settings, standby_replicas, &process, stores.clone());
            StandbyLine::new(settings, region, &lines, random.fork(), timeline.now())
        });
        let standbys = standby.as_ref().map(|line| line.standbys.clone());
        let (restorer, handle) = Restorer::with_standbys(wake.clone(), standbys);
        let local = vec![settings.topics.local(0)];
        let changelog = settings.topics.versions_changelog(0);
        let consumer = SimConsumer {
            inner: EmbeddedConsumer::join_in(Some(process), region.broker.clone(), APPLICATION, local, wake),
            line: lines.log.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            now: timeline.clone(),
            trace: trace.clone(),
            worker: id,
            session_timeout,
            last_contact: timeline.now(),
            held: BTreeSet::new(),
            given_up: false,
        };
        let ports = Ports {
            consumer: Box::new(consumer),
            appender: Box::new(SimAppender { line: lines.log.clone(), now: timeline.clone() }),
            vectors: Box::new(SimStore { line: lines.store.clone(), now: timeline.clone() }),
            schemas: Box::new(SimSchemas::new(registries)),
            stores,
            clock: Box::new(clock.clone()),
        };
        Self {
            id,
            clock,
            disk,
            interrupt,
            paused_until: None,
            pause: None,
            cut_until: None,
            stream: StreamThread::new(settings, topology, ports, handle),
            restorer,
            reader: SimReader { inner: EmbeddedReader::new(region.broker.clone()), line: lines.log.clone(), old_ends: None },
            lines,
            standby,
            partitions: region.partitions,
            changelog,
            looked_at: BTreeSet::new(),
            checks: region.checks.clone(),
            trace,
            woken,
            next_round: timeline.now(),
            next_restore: timeline.now(),
            stopping: false,
            stopped: false,
        }
    }

    /// Asks for a graceful stop.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.stream.stop(self.clock.now());
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub fn report(&self) -> ThreadReport {
        self.stream.report()
    }

    /// Stopped by a signal at this time?
    pub fn is_paused(&self, now: Duration) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn pause_if_due(&mut self, now: Duration) {
        let busy = || self.stream.report().tasks.iter().any(|task| task.in_flight > 0);
        if let Some(pause) = self.pause.filter(|pause| now >= pause.latest || busy()) {
            self.pause = None;
            self.paused_until = Some(now + pause.span);
            self.lines.deafen(now + pause.span + pause.deaf);
        }
    }

    /// When something is to be done on its account.
    pub fn due(&self, now: Duration) -> Duration {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return until;
        }
        if self.woken.load(Ordering::Relaxed) {
            return now;
        }
        let standby = self.standby.as_ref().map_or(Duration::MAX, |line| line.next_step);
        self.next_round.min(self.next_restore).min(standby)
    }

    /// Tasks that have just begun with what a standby had read.
    fn look_at_promoted(&mut self, now: Duration) {
        for partition in 0..self.partitions {
            let task = TaskId { shard: 0, partition };
            let Some((origin, store)) = self.stream.store_origin(task).zip(self.stream.store(task)) else { continue };
            if origin.from_standby && self.looked_at.insert((partition, origin.up_to)) {
                self.trace.count("task went on from a standby", 1);
                let changelog = TopicPartition::new(self.changelog.clone(), partition);
                let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
                checks.standby.promoted(now, self.id, &changelog, store, origin.up_to);
            }
        }
    }

    /// A step of the restorer, and a round of the thread, each if its time has come. Answers with what struck in the round.
    pub fn step(&mut self, now: Duration) -> Result<Option<Blow>> {
        if self.is_paused(now) {
            return Ok(None);
        }
        self.paused_until = None;
        let clock = self.clock.now();
        if now >= self.next_restore {
            self.next_restore = now
                + match self.restorer.run_once(&mut self.reader, clock) {
                    Stepped::Worked => IDLE_MIN,
                    Stepped::Failing => RETRY_WAIT,
                    Stepped::Idle | Stepped::Ended => IDLE_MAX,
                };
        }
        if let Some(line) = self.standby.as_mut().filter(|line| now >= line.next_step) {
            line.next_step = now + line.step(clock);
        }
        let woken = self.woken.swap(false, Ordering::Relaxed);
        if now < self.next_round && !woken && !self.lines.has_answers(now) {
            return Ok(None);
        }
        let round = self.stream.run_once(self.clock.now())?;
        self.stopped = round.stopped;
        self.look_at_promoted(now);
        let wait = match round.due {
            _ if round.worked => IDLE_MIN,
            Some(due) => due.saturating_sub(now).clamp(IDLE_MIN, IDLE_MAX),
            None => IDLE_MAX,
        };
        self.next_round = now + wait;
        // Requests go to the restorer's own thread at once.
        if round.worked {
            self.next_restore = self.next_restore.min(now + IDLE_MIN);
        }
        self.pause_if_due(now);
        let struck = self.interrupt.take_struck();
        if let Some(Blow::Pause(span)) = struck {
            self.clock.set_ahead(Duration::ZERO);
            self.paused_until = Some(now + span);
        }
        Ok(struck)
    }
}

//! One worker process: the production stream thread and restorer, on ports that can fail.

use super::clock::{NodeClock, Timeline};
use super::consumer::{SimConsumer, SimReader};
use super::interrupt::{Blow, Interrupt};
use super::log_line::{LogLine, LogParts, SimAppender};
use super::region::SimRegion;
use super::registry::{SilentRegistries, SimSchemas};
use super::store_line::{SimStore, StoreLine, StoreParts};
use super::trace::Trace;
use crate::adapter::embedded::stores::KeptStores;
use crate::adapter::embedded::{EmbeddedConsumer, EmbeddedReader};
use crate::base::error::Result;
use crate::base::time::Clock;
use crate::port::log::Wake;
use crate::store::Stores;
use crate::store::memory::MemoryStores;
use crate::stream::report::ThreadReport;
use crate::stream::restorer::{Restorer, Stepped};
use crate::stream::settings::StreamSettings;
use crate::stream::stream_thread::{Ports, StreamThread};
use crate::testing::random::SplitMix64;
use crate::topology::build::Topology;
use std::collections::BTreeSet;
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
    pub session_timeout: Duration,
    pub disk: Option<KeptStores>,
    pub trace: Trace,
    pub random: SplitMix64,
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
        let WorkerParts { queue_max, session_timeout, trace, .. } = parts;
        let skew_ms = random.between(0, 60_000) as i64 - 30_000;
        let clock = NodeClock::new(&timeline, skew_ms);
        let interrupt = Interrupt::new(clock.clone());
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        let wake: Wake = Arc::new(move || flag.store(true, Ordering::Relaxed));
        let log = LogLine::new(LogParts {
            broker: region.broker.clone(),
            weather: region.log_weather.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            trace: trace.clone(),
            random: random.fork(),
            queue_max,
            worker: id,
        });
        let store = StoreLine::new(StoreParts {
            database: region.database.clone(),
            weather: region.store_weather.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            trace: trace.clone(),
            random: random.fork(),
            worker: id,
        });
        let lines = Lines { log: Arc::new(Mutex::new(log)), store: Arc::new(Mutex::new(store)) };
        let (restorer, handle) = Restorer::new(wake.clone());
        let consumer = SimConsumer {
            inner: EmbeddedConsumer::join(region.broker.clone(), APPLICATION, vec![settings.topics.local(0)], wake),
            line: lines.log.clone(),
            checks: region.checks.clone(),
            interrupt: interrupt.clone(),
            now: timeline.clone(),
            trace,
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
            stores: stores_on(disk.as_ref()),
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
            reader: SimReader { inner: EmbeddedReader::new(region.broker.clone()), line: lines.log.clone() },
            lines,
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
        self.next_round.min(self.next_restore)
    }

    /// A step of the restorer, and a round of the thread, each if its time has come. Answers with what struck in the round.
    pub fn step(&mut self, now: Duration) -> Result<Option<Blow>> {
        if self.is_paused(now) {
            return Ok(None);
        }
        self.paused_until = None;
        if now >= self.next_restore {
            self.next_restore = now
                + match self.restorer.run_once(&mut self.reader) {
                    Stepped::Worked => IDLE_MIN,
                    Stepped::Failing => RETRY_WAIT,
                    Stepped::Idle | Stepped::Ended => IDLE_MAX,
                };
        }
        let woken = self.woken.swap(false, Ordering::Relaxed);
        if now < self.next_round && !woken && !self.lines.has_answers(now) {
            return Ok(None);
        }
        let round = self.stream.run_once(self.clock.now())?;
        self.stopped = round.stopped;
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

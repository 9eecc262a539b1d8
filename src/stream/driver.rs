//! Runs a stream thread, a restorer, and the keeper of standbys, on OS threads of their own: the only places of the engine that wait.

use crate::base::error::Result;
use crate::base::time::Clock;
use crate::port::group::GroupView;
use crate::port::log::{LogReader, Wake};
use crate::stream::report::ThreadReport;
use crate::stream::restorer::{Restorer, Stepped};
use crate::stream::standby::StandbyKeeper;
use crate::stream::stream_thread::StreamThread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The shortest wait: whatever is due and can't be done yet must not make the thread spin.
const IDLE_MIN: Duration = Duration::from_millis(1);
/// The longest wait for a wake-up. Should a client ever lose one, nothing is idle longer than this.
const IDLE_MAX: Duration = Duration::from_millis(50);
/// How long a restorer waits after the log could not be reached.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// Wakes the calling thread from its wait in [`drive`] or [`drive_restorer`].
pub fn wake_this_thread() -> Wake {
    let thread = thread::current();
    Arc::new(move || thread.unpark())
}

/// A view on a driven thread: asked to stop from outside, looked at from outside.
#[derive(Clone)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<ThreadReport>>,
    interval: Duration,
    on_report: Wake,
}

impl Watch {
    /// The report is renewed every `interval`; `on_report` is called after each.
    pub fn new(interval: Duration, on_report: Wake) -> Self {
        Self { stop: Arc::default(), report: Arc::default(), interval, on_report }
    }

    /// Asks for a graceful stop; seen within the longest wait.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn report(&self) -> ThreadReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be called by the thread that is watched.
    pub fn publish(&self, report: ThreadReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        (self.on_report)();
    }
}

/// Runs rounds until the thread has stopped or an error ends it. To be called on the thread whose
/// [`wake_this_thread`] the ports were given.
pub fn drive(mut stream: StreamThread, clock: &dyn Clock, watch: &Watch) -> Result<()> {
    let (mut next_report, mut pace) = (Duration::ZERO, Pace::default());
    loop {
        let now = clock.now();
        if watch.stop.load(Ordering::Acquire) {
            stream.stop(now);
        }
        let round = stream.run_once(now)?;
        if now.monotonic >= next_report || round.stopped {
            watch.publish(ThreadReport { busy: vec![pace.busy(now.monotonic)], ..stream.report() });
            next_report = now.monotonic + watch.interval;
        }
        if round.stopped {
            return Ok(());
        }
        if !round.worked {
            let due = round.due.map_or(next_report, |due| due.min(next_report)).saturating_sub(now.monotonic);
            let idle_from = clock.now().monotonic;
            thread::park_timeout(due.clamp(IDLE_MIN, IDLE_MAX));
            pace.waited += clock.now().monotonic.saturating_sub(idle_from);
        }
    }
}

/// How much of its time a thread waits.
#[derive(Default)]
struct Pace {
    since: Duration,
    waited: Duration,
}

impl Pace {
    /// The share of the time since it was asked last that was not waited.
    fn busy(&mut self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.since).max(Duration::from_micros(1));
        let busy = 1.0 - self.waited.as_secs_f64() / passed.as_secs_f64();
        *self = Self { since: now, waited: Duration::ZERO };
        busy.clamp(0.0, 1.0)
    }
}

/// Steps a restorer until no stream thread is left.
pub fn drive_restorer(mut restorer: Restorer, reader: &mut dyn LogReader, clock: &dyn Clock) {
    loop {
        match restorer.run_once(reader, clock.now()) {
            Stepped::Worked => {}
            Stepped::Failing => thread::park_timeout(RETRY_WAIT),
            Stepped::Idle if restorer.wait() => {}
            Stepped::Idle | Stepped::Ended => return,
        }
    }
}

/// Steps the keeper of a process' standbys until they are ended.
pub fn drive_standbys(mut keeper: StandbyKeeper, reader: &mut dyn LogReader, group: &mut dyn GroupView, clock: &dyn Clock) {
    loop {
        match keeper.run_once(reader, group, clock.now()) {
            Stepped::Worked => {}
            Stepped::Failing => thread::park_timeout(RETRY_WAIT),
            // Nobody tells that a log has grown: it is looked at again when its time has come.
            Stepped::Idle => thread::park_timeout(IDLE_MAX),
            Stepped::Ended => return,
        }
    }
}

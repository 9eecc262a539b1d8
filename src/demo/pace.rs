//! When things are due in a run, and the one way to end its threads early.

use crate::base::time::{Now, UnixMs};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Maps planned time to the run's own: the plan is stretched (or squeezed) to the seconds asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub started: Now,
    pub length: Duration,
    pub planned_ms: i64,
}

impl Pace {
    /// That of a later round: they follow each other without a pause.
    pub fn round(&self, round: u32) -> Self {
        let offset = self.length * round;
        let started = Now { wall: self.started.wall.plus(offset), monotonic: self.started.monotonic + offset };
        Self { started, ..*self }
    }

    /// The wall time that planned stamps are relative to.
    pub fn base(&self) -> UnixMs {
        self.started.wall
    }

    /// When a planned time comes, as monotonic time.
    pub fn due(&self, planned_ms: i64) -> Duration {
        self.started.monotonic + self.length.mul_f64(planned_ms as f64 / self.planned_ms as f64)
    }

    /// How much of the run is over: from 0 to 1.
    pub fn fraction(&self, now: Now) -> f64 {
        (now.since(self.started).as_secs_f64() / self.length.as_secs_f64()).min(1.0)
    }
}

/// Set once, seen by every thread of the run.
#[derive(Default)]
pub(super) struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it; answers whether it was set before the time was over.
    pub fn wait(&self, at_most: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(set, at_most, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

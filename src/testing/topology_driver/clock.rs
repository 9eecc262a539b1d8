//! The clock of a driven topology: it moves when the test says so.

use super::START;
use crate::base::time::{Clock, Now};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Copies show the same time. Counts nanoseconds, for five hundred years.
#[derive(Debug, Clone, Default)]
pub(super) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        let monotonic = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        Now { wall: START.plus(monotonic), monotonic }
    }
}

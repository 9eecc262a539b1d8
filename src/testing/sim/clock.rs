//! Virtual time: one timeline for all, and each node's own clocks on it.

use crate::base::time::{Clock, Now, UnixMs};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Wall time of an unskewed clock when the timeline stands at 0.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

/// Milliseconds since the beginning of the run. Moved by the world alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline(Arc<AtomicU64>);

impl Timeline {
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    pub fn set(&self, now: Duration) {
        self.0.store(now.as_millis() as u64, Ordering::Relaxed);
    }
}

/// One machine's clocks: the wall clock may be off, and jump.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeClock {
    timeline: Timeline,
    skew_ms: Arc<AtomicI64>,
    /// How far this node is ahead of the timeline: it is being stopped in the middle of a round (see
    /// [`Interrupt`](super::interrupt::Interrupt)), and what it does now happens only when it goes on.
    ahead_ms: Arc<AtomicU64>,
}

impl NodeClock {
    pub fn new(timeline: &Timeline, skew_ms: i64) -> Self {
        Self { timeline: timeline.clone(), skew_ms: Arc::new(AtomicI64::new(skew_ms)), ahead_ms: Arc::default() }
    }

    pub fn jump(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    pub fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    pub fn set_ahead(&self, ahead: Duration) {
        self.ahead_ms.store(ahead.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Now {
        let monotonic = self.timeline.now() + self.ahead();
        Now { wall: UnixMs(EPOCH_MS + monotonic.as_millis() as i64 + self.skew_ms()), monotonic }
    }
}

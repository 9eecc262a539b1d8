//! Time as data. The core is handed the time; only adapters ask a clock.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// `self - earlier` in milliseconds; negative if `self` is the earlier one.
    pub fn since_ms(self, earlier: UnixMs) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// One reading of both clocks. `wall` may jump; `monotonic` (since an arbitrary start) never goes back,
/// and goes on while the process is stopped, so that a gap in it shows a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall: UnixMs,
    pub monotonic: Duration,
}

impl Now {
    pub fn since(self, earlier: Now) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }
}

/// Where the time comes from: the system's clocks, or a simulation's.
pub trait Clock: Send {
    fn now(&self) -> Now;
}

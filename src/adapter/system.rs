//! The machine's own clocks.

use crate::base::time::{Clock, Now, UnixMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall time as the system has it, monotonic time since this clock was made. Copies agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // A wall clock before 1970 reads as 1970: no stamp made of it is admitted anywhere.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: UnixMs(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)), monotonic: self.started.elapsed() }
    }
}

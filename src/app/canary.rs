//! How long what Milvus has acknowledged stays unseen: a row of the worker's own is written over and over, and looked
//! for as the most careless reader would. The sink can't know that from its own answers, and no row of a user's is
//! touched for it.
//!
//! Owns: [`Visibility`], what was measured last; and that a row which is not found makes it grow.

use crate::adapter::milvus::{Canary, MilvusSettings};
use crate::adapter::system::SystemClock;
use crate::base::error::{Error, Result};
use crate::base::metric;
use crate::base::time::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};
use xxhash_rust::xxh3::xxh3_64;

/// Between two looks: the first, and then a share of the time that has passed, for which nobody needs to know sooner.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_SHARE: u32 = 10;
/// Ids that canaries may have. A process leaves its row behind, so there must be an end to them; and two processes that
/// have drawn the same only mistake each other's row for their own at times.
const ROWS: u64 = 1 << 16;
/// A row that is not found for so long is written again: it may be gone, with its collection.
const GIVE_UP: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Visibility {
    clock: SystemClock,
    known: Arc<Mutex<Known>>,
}

/// Moments are of the clock's monotonic time.
#[derive(Default)]
struct Known {
    /// From the acknowledgement of the row that was found last.
    measured: Option<Duration>,
    /// When the oldest row was acknowledged that nobody has found, nor a later one.
    unseen_since: Option<Duration>,
}

impl Known {
    fn delay(&self, now: Duration) -> Option<Duration> {
        self.measured.max(self.unseen_since.map(|since| now.saturating_sub(since)))
    }

    fn acknowledged(&mut self, at: Duration) {
        self.unseen_since.get_or_insert(at);
    }

    fn found(&mut self, delay: Duration) {
        *self = Known { measured: Some(delay), unseen_since: None };
    }
}

impl Visibility {
    pub fn new(clock: SystemClock) -> Self {
        Self { clock, known: Arc::default() }
    }

    /// None: it was never measured.
    pub fn delay(&self) -> Option<Duration> {
        self.known().delay(self.now())
    }

    pub fn publish_gauge(&self) {
        let seconds = self.delay().map_or(f64::NAN, |delay| delay.as_secs_f64());
        metrics::gauge!(metric::VISIBILITY_DELAY_SECONDS).set(seconds);
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change of it is one assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row of a process.
pub fn row_of(process: &str) -> i64 {
    (xxh3_64(process.as_bytes()) % ROWS) as i64
}

/// Measures for ever, once in each period. What fails is told once, until it works again.
pub async fn keep_measuring(settings: MilvusSettings, row: i64, period: Duration, visibility: Visibility) {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut canary, mut failing) = (None, false);
    loop {
        due.tick().await;
        let measured = measure(&settings, row, &mut canary, &visibility).await;
        if let Err(error) = &measured {
            // Its collection may be gone.
            canary = None;
            if !failing {
                tracing::warn!(%error, "how long rows stay unseen is not known; tried again in each [canary] period");
            }
        }
        failing = measured.is_err();
    }
}

async fn measure(settings: &MilvusSettings, row: i64, held: &mut Option<Canary>, visibility: &Visibility) -> Result<()> {
    let canary = match held {
        Some(canary) => canary,
        None => held.insert(Canary::prepare(settings, row).await?),
    };
    let stamp = canary.write().await?;
    let written = visibility.now();
    let since = || visibility.now().saturating_sub(written);
    visibility.known().acknowledged(written);
    while !canary.is_found(stamp).await? {
        if since() > GIVE_UP {
            return Err(Error::retry(format!("the canary row was acknowledged and is not found {GIVE_UP:?} later")));
        }
        // Milvus tells nobody when it shows a row.
        sleep(PAUSE_MIN.max(since() / PAUSE_SHARE)).await;
    }
    visibility.known().found(since());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_found_makes_it_grow_until_one_is() {
        let (mut known, after, ms) = (Known::default(), Duration::from_secs, Duration::from_millis);
        assert_eq!(known.delay(after(0)), None);
        known.acknowledged(after(0));
        known.found(ms(40));
        assert_eq!(known.delay(after(9)), Some(ms(40)));
        known.acknowledged(after(10));
        assert_eq!(known.delay(after(10)), Some(ms(40)), "it takes that long at least");
        known.acknowledged(after(13));
        assert_eq!(known.delay(after(15)), Some(ms(5_000)), "the oldest counts");
        known.found(ms(20));
        assert_eq!(known.delay(after(99)), Some(ms(20)));
    }
}

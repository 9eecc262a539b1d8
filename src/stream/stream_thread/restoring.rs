//! A restore that was asked for, as the thread that waits for it sees it: how far it is, how fast, how long yet; and what
//! is known meanwhile of the task that nobody serves.

use crate::base::ids::TaskId;
use crate::base::time::Now;
use crate::stream::report::{RestoreReport, SourceReport, TaskReport};
use crate::stream::restore::meter::{Meter, Reached};
use crate::task::stream_task::StreamTask;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A restore that takes longer tells where it is, and so often again.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Since when nothing of a task gets through here, and how its sources stood then, if it ran here: their lag grows on from
/// there.
#[derive(Default)]
pub(super) struct Unserved {
    since: Duration,
    sources: Vec<SourceReport>,
}

impl Unserved {
    pub fn new_here(now: Now) -> Self {
        Self { since: now.monotonic, sources: Vec::new() }
    }

    pub fn after(task: &StreamTask, now: Now) -> Self {
        let mut sources = TaskReport::of(task, "running", now).sources;
        for source in &mut sources {
            source.lag = std::mem::take(&mut source.lag).standing_still();
        }
        Self { since: now.monotonic, sources }
    }

    pub fn report(&self, task: TaskId, asked: Option<&Asked>, now: Now) -> TaskReport {
        let restore = asked.and_then(Asked::report).cloned();
        let mut report = TaskReport::restoring(task, restore, now.monotonic.saturating_sub(self.since), self.sources.clone());
        report.reckon(now.wall);
        report
    }
}

pub(super) struct Asked {
    cancelled: Arc<AtomicBool>,
    meter: Arc<Meter>,
    /// When it was first seen reading, and where it was then.
    begun: Option<(Duration, Reached)>,
    report: Option<RestoreReport>,
    next_line: Duration,
}

impl Asked {
    pub fn new(now: Duration) -> Self {
        Self { cancelled: Arc::default(), meter: Arc::default(), begun: None, report: None, next_line: now + LINE_INTERVAL }
    }

    pub fn cancelled(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub fn report(&self) -> Option<&RestoreReport> {
        self.report.as_ref()
    }

    /// To be called in every round.
    pub fn look(&mut self, task: TaskId, now: Duration) {
        let Some(reached) = self.meter.read() else { return };
        // One that has begun again counts from there.
        let begun = self.begun.filter(|(_, then)| then.from == reached.from && then.position <= reached.position);
        let (since, then) = *self.begun.insert(begun.unwrap_or((now, reached)));
        let report = report_of(&reached, &then, now.saturating_sub(since));
        if now >= self.next_line {
            self.next_line = now + LINE_INTERVAL;
            tell(task, &report);
        }
        self.report = Some(report);
    }
}

fn report_of(reached: &Reached, then: &Reached, took: Duration) -> RestoreReport {
    let seconds = took.as_secs_f64();
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let offsets_per_second = per_second((reached.position - then.position) as f64);
    let eta = (offsets_per_second > 0.0).then(|| reached.remaining() as f64 / offsets_per_second);
    RestoreReport {
        from_offset: reached.from,
        next_offset: reached.position,
        end_offset: reached.end,
        remaining: reached.remaining(),
        percent: reached.percent(),
        entries_read: reached.entries,
        entries_per_second: per_second((reached.entries - then.entries) as f64) as u64,
        eta_seconds: eta.map(|eta| eta.ceil() as u64),
    }
}

fn tell(task: TaskId, report: &RestoreReport) {
    let RestoreReport { percent, entries_read, entries_per_second, remaining, .. } = report;
    let left = report.eta_seconds.map_or_else(|| "an unknown time".to_owned(), |seconds| format!("about {seconds} s"));
    tracing::info!(
        %task, percent, entries_read, entries_per_second, remaining,
        "restoring: {percent} %, {entries_per_second} keys/s, {left} left"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_says_how_fast_it_is_and_how_long_it_will_take() {
        let mut asked = Asked::new(Duration::ZERO);
        let task = TaskId { shard: 0, partition: 0 };
        asked.look(task, Duration::from_secs(1));
        assert_eq!(asked.report(), None, "it waits behind others");
        asked.meter().begin(1_000, 11_000);
        asked.look(task, Duration::from_secs(2));
        asked.meter().reach(3_000, 1_500);
        asked.look(task, Duration::from_secs(4));
        let report = asked.report().unwrap();
        assert_eq!((report.percent, report.entries_per_second, report.remaining), (20, 750, 8_000));
        assert_eq!(report.eta_seconds, Some(8));

        asked.meter().begin(1_000, 11_000);
        asked.look(task, Duration::from_secs(6));
        let again = asked.report().unwrap();
        assert_eq!((again.percent, again.entries_per_second, again.eta_seconds), (0, 0, None), "it has begun again");
    }
}

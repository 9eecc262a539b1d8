//! How far a long command is: one line on the terminal, drawn again and again, or a line from time to time where
//! nobody looks on. And its end by Ctrl-C.

use crate::adapter::system::{CtrlC, SystemClock};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::time::Clock;
use crate::ops::observer::{Observer, Step};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Between two looks at what a worker has done.
const POLL: Duration = Duration::from_millis(50);

pub struct Meter {
    clock: SystemClock,
    interrupted: Arc<AtomicBool>,
    terminal: bool,
    /// What is done in a partition, by when: the rate is what was done since.
    since: Option<(usize, &'static str, u64, Duration)>,
    shown: Option<Duration>,
    _ctrl_c: CtrlC,
}

impl Meter {
    pub fn start() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        let waiting = std::thread::current();
        let ctrl_c = CtrlC::listen(move || {
            flag.store(true, Ordering::Relaxed);
            waiting.unpark();
        });
        let ctrl_c = ctrl_c.map_err(|error| Error::fatal(format!("Ctrl-C can't be listened to: {error}")))?;
        let terminal = std::io::stderr().is_terminal();
        Ok(Self { clock: SystemClock::start(), interrupted, terminal, since: None, shown: None, _ctrl_c: ctrl_c })
    }

    /// The outcome of the command; one that was interrupted has no other.
    pub fn end<T>(mut self, outcome: Result<T>, go_on: &str) -> Result<std::result::Result<T, Exit>> {
        self.wipe();
        if self.interrupted.load(Ordering::Relaxed) && outcome.is_err() {
            eprintln!("interrupted; {go_on}");
            return Ok(Err(Exit::INTERRUPTED));
        }
        outcome.map(Ok)
    }

    fn wipe(&mut self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&mut self, step: &Step) {
        let now = self.clock.now().monotonic;
        let same = self.since.is_some_and(|(partition, doing, ..)| (partition, doing) == (step.partition, step.doing));
        if !same {
            self.since = Some((step.partition, step.doing, step.done, now));
        }
        let every = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.shown.is_some_and(|shown| now.saturating_sub(shown) < every) {
            return;
        }
        self.shown = Some(now);
        let text = self.text(step, now);
        if self.terminal { eprint!("\r\x1b[K{text}") } else { eprintln!("{text}") }
    }

    fn text(&self, step: &Step, now: Duration) -> String {
        let mut text = format!("partition {} of {}: {}", step.partition + 1, step.partitions, step.doing);
        let Some((_, _, done, begun)) = self.since else { return text };
        let took = now.saturating_sub(begun).as_secs_f64();
        let rate = (step.done.saturating_sub(done)) as f64 / took.max(0.001);
        if step.of > 0 {
            text += &format!(", {} of {}", step.done, step.of);
        } else if step.done > 0 {
            text += &format!(", {} keys", step.done);
        }
        if took >= 1.0 && rate >= 1.0 {
            text += &format!(", {rate:.0}/s");
        }
        if let Some(left) = left(step, rate, now) {
            text += &format!(", about {} left", humantime::format_duration(left));
        }
        if step.bytes > 0 {
            text += &format!(", {} from the peer", megabytes(step.bytes));
        }
        text
    }
}

/// Of this partition by its own rate, of the others by what those that are done have taken.
fn left(step: &Step, rate: f64, elapsed: Duration) -> Option<Duration> {
    let share = if step.of > 0 { step.done as f64 / step.of as f64 } else { 0.0 };
    let done = step.partition as f64 + share;
    if done < 0.05 || elapsed < Duration::from_secs(2) {
        let here = step.of.saturating_sub(step.done) as f64 / rate;
        return (step.of > 0 && rate >= 1.0 && step.partitions == 1).then(|| Duration::from_secs(here.ceil() as u64));
    }
    let seconds = elapsed.as_secs_f64() / done * (step.partitions as f64 - done);
    Some(Duration::from_secs(seconds.ceil() as u64))
}

pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

impl Observer for Meter {
    fn at(&mut self, step: &Step) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::retry("interrupted"));
        }
        self.show(step);
        Ok(())
    }

    /// What it waits for is known only by reading again. Ctrl-C ends the wait at once.
    fn wait(&mut self, step: &Step) -> Result<()> {
        std::thread::park_timeout(POLL);
        self.at(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_from_what_is_done_and_not_before_there_is_something_to_tell_it_from() {
        let step = |partition, done, of| Step { partition, partitions: 4, doing: "", done, of, bytes: 0 };
        let ten = Duration::from_secs(10);
        assert_eq!(left(&step(0, 0, 100), 50.0, ten), None);
        assert_eq!(left(&step(0, 50, 100), 50.0, ten), Some(Duration::from_secs(70)));
        assert_eq!(left(&step(2, 0, 0), 0.0, ten), Some(Duration::from_secs(10)));
    }

    #[test]
    fn bytes_are_told_in_their_unit() {
        assert_eq!([999, 1_500, 2_500_000, 3_210_000_000].map(megabytes), ["999 B", "1.5 kB", "2.5 MB", "3.21 GB"]);
    }
}

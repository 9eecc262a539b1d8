//! A long piece of an operator's work: how far it is, how fast it goes, how long it will still take, and whether it is
//! to end before it is done.

use crate::base::error::{Error, Result};
use crate::base::time::{Clock, UnixMs};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a stage says how far it is; whoever prints it may say less.
const TELL_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at what others have done: known only by reading again.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How far one stage is.
#[derive(Debug, Clone)]
pub struct Pace {
    pub stage: String,
    /// What is counted: "records", "rows".
    pub unit: &'static str,
    pub done: u64,
    pub total: u64,
    pub elapsed: Duration,
}

impl Pace {
    pub fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 }
    }

    /// Until it is done, at the rate so far; none before anything is done.
    pub fn left(&self) -> Option<Duration> {
        let rate = self.per_second();
        let seconds = self.total.saturating_sub(self.done) as f64 / rate;
        (rate > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pace { stage, unit, done, total, elapsed } = self;
        if done >= total {
            return write!(f, "{stage}: {done} {unit} in {:.1} s, {:.0}/s", elapsed.as_secs_f64(), self.per_second());
        }
        let percent = 100 * done / total;
        write!(f, "{stage}: {done} of {total} {unit} ({percent} %), {:.0}/s", self.per_second())?;
        match self.left() {
            Some(left) => write!(f, ", {} s left", left.as_secs() + 1),
            None => Ok(()),
        }
    }
}

/// What is told while it goes on.
#[derive(Debug, Clone)]
pub enum Told {
    /// How far a stage is; the next one takes its place.
    Pace(Pace),
    /// Its last one.
    Ended(Pace),
    /// Something that stays true.
    Note(String),
    /// What is being waited for; the next one takes its place.
    Waiting(String),
}

/// What the work needs of its surroundings.
pub struct Work<'a> {
    pub clock: &'a dyn Clock,
    pub interrupted: &'a AtomicBool,
    pub tell: &'a mut dyn FnMut(Told),
    /// Lets others get on for about so long, where the log itself is waited for.
    pub pause: &'a mut dyn FnMut(Duration),
    stage: Option<Stage>,
}

struct Stage {
    pace: Pace,
    begun: Duration,
    told: Duration,
}

impl<'a> Work<'a> {
    pub fn new(
        clock: &'a dyn Clock,
        interrupted: &'a AtomicBool,
        tell: &'a mut dyn FnMut(Told),
        pause: &'a mut dyn FnMut(Duration),
    ) -> Self {
        Self { clock, interrupted, tell, pause, stage: None }
    }

    pub fn now(&self) -> UnixMs {
        self.clock.now().wall
    }

    pub fn note(&mut self, text: impl Into<String>) {
        (self.tell)(Told::Note(text.into()));
    }

    pub fn begin(&mut self, stage: impl Into<String>, unit: &'static str, total: u64) {
        let begun = self.clock.now().monotonic;
        let pace = Pace { stage: stage.into(), unit, done: 0, total, elapsed: Duration::ZERO };
        self.stage = Some(Stage { pace, begun, told: begun });
    }

    /// There is more to it, or less, than was thought.
    pub fn expect(&mut self, total: u64) {
        if let Some(stage) = &mut self.stage {
            stage.pace.total = total;
        }
    }

    /// So many more are done. Fails if it is to end.
    pub fn advance(&mut self, count: u64) -> Result<()> {
        self.go_on()?;
        let now = self.clock.now().monotonic;
        let Some(stage) = &mut self.stage else { return Ok(()) };
        stage.pace.done += count;
        stage.pace.elapsed = now.saturating_sub(stage.begun);
        if now.saturating_sub(stage.told) >= TELL_INTERVAL {
            stage.told = now;
            (self.tell)(Told::Pace(stage.pace.clone()));
        }
        Ok(())
    }

    pub fn end(&mut self) {
        if let Some(mut stage) = self.stage.take() {
            stage.pace.elapsed = self.clock.now().monotonic.saturating_sub(stage.begun);
            stage.pace.total = stage.pace.done;
            (self.tell)(Told::Ended(stage.pace));
        }
    }

    /// Fails if it is to end.
    pub fn go_on(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Error::retry("interrupted")) } else { Ok(()) }
    }

    /// Waits a moment for what `what` names. Fails if it is to end.
    pub fn wait(&mut self, what: impl Into<String>, span: Duration) -> Result<()> {
        self.go_on()?;
        (self.tell)(Told::Waiting(what.into()));
        (self.pause)(span);
        Ok(())
    }

    /// Waits until something is so, at most for `patience`. False: it is not so yet.
    pub fn wait_until(&mut self, what: &str, patience: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<bool> {
        let begun = self.clock.now().monotonic;
        loop {
            if is_so()? {
                return Ok(true);
            }
            if self.clock.now().monotonic.saturating_sub(begun) >= patience {
                return Ok(false);
            }
            self.wait(what, LOOK_INTERVAL)?;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::time::Now;
    use std::sync::atomic::AtomicU64;

    /// Moves by a second with every look at it.
    #[derive(Default)]
    pub struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> Now {
            let seconds = self.0.fetch_add(1, Ordering::Relaxed);
            Now { wall: UnixMs(seconds as i64 * 1_000), monotonic: Duration::from_secs(seconds) }
        }
    }

    #[test]
    fn a_stage_says_its_rate_and_how_long_it_will_still_take() {
        let (clock, interrupted, mut told) = (Ticking::default(), AtomicBool::new(false), Vec::new());
        let mut tell = |news| match news {
            Told::Pace(pace) | Told::Ended(pace) => told.push(pace.to_string()),
            Told::Note(text) | Told::Waiting(text) => told.push(text),
        };
        let mut pause = |_| {};
        let mut work = Work::new(&clock, &interrupted, &mut tell, &mut pause);
        work.begin("reading", "records", 1_000);
        work.advance(250).unwrap();
        work.advance(250).unwrap();
        work.advance(500).unwrap();
        work.end();
        assert_eq!(told[0], "reading: 250 of 1000 records (25 %), 250/s, 4 s left");
        assert_eq!(told[1], "reading: 500 of 1000 records (50 %), 250/s, 3 s left");
        assert_eq!(told[3], "reading: 1000 records in 4.0 s, 250/s");
    }

    #[test]
    fn work_that_is_interrupted_ends_at_the_next_step() {
        let (clock, interrupted) = (Ticking::default(), AtomicBool::new(true));
        let (mut tell, mut pause) = (|_| {}, |_| {});
        let mut work = Work::new(&clock, &interrupted, &mut tell, &mut pause);
        work.begin("reading", "records", 1_000);
        assert!(work.advance(1).is_err());
        assert!(work.wait("a peer", Duration::ZERO).is_err());
    }
}

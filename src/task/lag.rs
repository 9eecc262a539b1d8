//! How far behind its origin a source is, stage by stage: the age of what is known and not past the stage yet.
//!
//! Counted in ms from **A**, the append time that the origin's broker gave. What is known of a source at a moment
//! ([`LagView`]) is apart from the reckoning ([`LagView::lag_ms`]), which wants the time: the lag of a thread that hangs
//! grows although it tells nothing new. The rule (DESIGN, "lag"): the age of the oldest change not past the stage, or
//! the greatest delay among those that passed it in the last second, whichever is more; and where the newest heartbeat
//! is overdue, the age of the newest record of all. So it is 0 when idle, grows when anything before it hangs, and is
//! right at once after a restart, whose newest record is the one that the progress record remembers.

use crate::base::time::{Now, UnixMs};
use crate::task::heartbeat::Echo;
use crate::task::skew::SkewBounds;
use std::time::Duration;

/// How long a delay counts after the change has passed.
const RECENT_MS: i64 = 1_000;
/// What comes after [`Stage::Acknowledged`]: a reader who asks for no consistency finds it. No task knows when; see
/// [`LagView::visible_ms`].
pub const VISIBLE: &str = "visible";
/// A view that is older is of a thread that hangs: several times what threads take between two reports.
const HUNG_AFTER_MS: i64 = 1_500;

/// What a change goes through; each stage includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Taken from the source topic.
    Polled,
    /// Judged: it won, lost, or was refused.
    Merged,
    /// Settled: the vector store and the changelogs have acknowledged all that it led to.
    Acknowledged,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Polled, Stage::Merged, Stage::Acknowledged];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Polled => "polled",
            Stage::Merged => "merged",
            Stage::Acknowledged => "acknowledged",
        }
    }
}

/// The greatest delay of this second, and of the one before: seconds of the monotonic clock, since a wall clock that is
/// set back would come by the same second twice.
///
/// The delay is as the wall clocks have it, so below 0 where the origin's is ahead.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    second: i64,
    delay_ms: Option<i64>,
    before_ms: Option<i64>,
}

impl Recent {
    fn note(&mut self, delay_ms: i64, now_ms: i64) {
        let second = now_ms.div_euclid(RECENT_MS);
        if second != self.second {
            self.before_ms = if second == self.second + 1 { self.delay_ms } else { None };
            (self.second, self.delay_ms) = (second, None);
        }
        self.delay_ms = self.delay_ms.max(Some(delay_ms));
    }

    /// In the second that `now_ms` lies in and the one before it: at least a second's worth, at most two.
    fn greatest(&self, now_ms: i64) -> Option<i64> {
        match now_ms.div_euclid(RECENT_MS) - self.second {
            0 => self.delay_ms.max(self.before_ms),
            1 => self.delay_ms,
            _ => None,
        }
    }

    /// The same of what passed last, if that is at most `span_ms` ago.
    fn last_within(&self, span_ms: i64, now_ms: i64) -> Option<i64> {
        self.delay_ms.filter(|_| now_ms - (self.second + 1) * RECENT_MS <= span_ms)
    }
}

/// What is known of a source's lag.
#[derive(Debug)]
pub struct SourceLag {
    /// A of the newest record of any kind, this life's or, at first, the progress record's.
    heard: Option<UnixMs>,
    /// A of the newest heartbeat of this life, and what it takes to throw it back.
    heartbeat: Option<(UnixMs, Echo)>,
    passed: [Recent; 3],
    overdue_after: Duration,
}

impl SourceLag {
    pub fn new(frontier: Option<UnixMs>, heartbeat_interval: Duration) -> Self {
        Self { heard: frontier, heartbeat: None, passed: Default::default(), overdue_after: 2 * heartbeat_interval }
    }

    /// The source is read again from an earlier place, or as another log.
    pub fn begin_again(&mut self) {
        (self.heard, self.heartbeat) = (None, None);
    }

    /// A record of any kind has come.
    pub fn heard(&mut self, appended_at: UnixMs) {
        self.heard = self.heard.max(Some(appended_at));
    }

    /// A change, not a heartbeat, is past the stage.
    pub fn passed(&mut self, stage: Stage, appended_at: UnixMs, now: Now) {
        self.passed[stage as usize].note(now.wall.since_ms(appended_at), monotonic_ms(now));
    }

    pub fn heartbeat(&mut self, appended_at: UnixMs, stamped_at: UnixMs, now: Now) {
        if self.heartbeat.is_none_or(|(held, _)| held < appended_at) {
            self.heartbeat = Some((appended_at, Echo { stamped_at, arrived_at: now.wall }));
        }
    }

    /// The newest heartbeat, to be thrown back.
    pub fn echo(&self) -> Option<Echo> {
        self.heartbeat.map(|(_, echo)| echo)
    }

    /// `oldest`: A of the oldest change that is known and not past the stage, for each stage.
    pub fn view(&self, oldest: [Option<UnixMs>; 3], skew: Option<SkewBounds>, now: Now) -> LagView {
        LagView {
            taken_at: now.wall,
            taken_at_monotonic_ms: monotonic_ms(now),
            heard: self.heard,
            heartbeat: self.heartbeat.map(|(appended_at, _)| appended_at),
            oldest,
            passed: self.passed,
            overdue_after: self.overdue_after,
            skew,
        }
    }
}

/// A source's lag at one moment, to be reckoned at any later one.
#[derive(Debug, Clone, Default)]
pub struct LagView {
    taken_at: UnixMs,
    taken_at_monotonic_ms: i64,
    heard: Option<UnixMs>,
    heartbeat: Option<UnixMs>,
    oldest: [Option<UnixMs>; 3],
    passed: [Recent; 3],
    overdue_after: Duration,
    /// By how much the origin's clock is ahead of ours, as far as it is known.
    pub skew: Option<SkewBounds>,
}

impl LagView {
    /// Never negative. None: nothing has ever been heard of the source.
    pub fn lag_ms(&self, stage: Stage, now: UnixMs) -> Option<i64> {
        let heard = self.heard?;
        let now = self.at(now);
        // By our clock: what the origin's clock is ahead makes every A that much too great.
        let ahead_ms = self.skew.map_or(0, |skew| skew.correction_ms());
        let age_ms = |at: UnixMs| now.since_ms(at) + ahead_ms;
        let waiting = self.oldest[stage as usize].map_or(0, age_ms);
        let passed = self.passed[stage as usize].greatest(self.monotonic_ms(now)).map_or(0, |delay_ms| delay_ms + ahead_ms);
        let silent = if self.is_overdue(now) { age_ms(heard) } else { 0 };
        Some(waiting.max(passed).max(silent).max(0))
    }

    /// The lag until what is acknowledged can be read, if that takes `unseen_ms` at present. What was acknowledged
    /// longer ago has been seen: so 0 when idle.
    pub fn visible_ms(&self, unseen_ms: i64, now: UnixMs) -> Option<i64> {
        let acknowledged = self.lag_ms(Stage::Acknowledged, now)?;
        let (now, recent) = (self.at(now), &self.passed[Stage::Acknowledged as usize]);
        let now_ms = self.monotonic_ms(now);
        let passed = recent.greatest(now_ms).or_else(|| recent.last_within(unseen_ms, now_ms));
        let ahead_ms = self.skew.map_or(0, |skew| skew.correction_ms());
        Some(passed.map_or(0, |delay_ms| (delay_ms + ahead_ms).max(0) + unseen_ms).max(acknowledged))
    }

    /// How long nothing has settled although something waits. What has only just come has not waited longer than that,
    /// however long nothing came before it.
    pub fn stalled_ms(&self, now: UnixMs) -> i64 {
        let Some(oldest) = self.oldest[Stage::Acknowledged as usize] else { return 0 };
        let now = self.at(now);
        let ahead_ms = self.skew.map_or(0, |skew| skew.correction_ms());
        let last_settled_ms = self.passed[Stage::Acknowledged as usize].second * RECENT_MS;
        (now.since_ms(oldest) + ahead_ms).min(self.monotonic_ms(now) - last_settled_ms).max(0)
    }

    /// The moment that a reckoning is for: that of the view, or `now` if the thread has told nothing new for so long
    /// that it must be taken to hang.
    fn at(&self, now: UnixMs) -> UnixMs {
        if now.since_ms(self.taken_at) > HUNG_AFTER_MS { now } else { self.taken_at }
    }

    /// The same of a task that is not served any more: whatever moment is asked for, it counts.
    pub fn standing_still(self) -> Self {
        let earlier_ms = HUNG_AFTER_MS + 1;
        Self {
            taken_at: UnixMs(self.taken_at.0 - earlier_ms),
            taken_at_monotonic_ms: self.taken_at_monotonic_ms - earlier_ms,
            ..self
        }
    }

    /// The same moment by the monotonic clock of the thread that told.
    fn monotonic_ms(&self, at: UnixMs) -> i64 {
        self.taken_at_monotonic_ms + at.since_ms(self.taken_at)
    }

    /// Nothing of it waits here, and nothing has come for a second or two.
    pub fn is_quiet(&self, now: UnixMs) -> bool {
        let now = self.at(now);
        self.oldest.iter().all(Option::is_none)
            && self.passed.iter().all(|recent| recent.greatest(self.monotonic_ms(now)).is_none())
    }

    /// Neither the origin nor what lies between has let a heartbeat through for two intervals.
    pub fn is_overdue(&self, now: UnixMs) -> bool {
        let ahead_ms = self.skew.map_or(0, |skew| skew.correction_ms());
        let overdue_ms = self.overdue_after.as_millis() as i64;
        self.heartbeat.is_none_or(|at| now.since_ms(at) + ahead_ms > overdue_ms)
    }
}

fn monotonic_ms(now: Now) -> i64 {
    i64::try_from(now.monotonic.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn at(ms: i64) -> Now {
        Now { wall: UnixMs(ms), monotonic: Duration::from_millis(ms as u64) }
    }

    fn settled(lag: &SourceLag, now: i64) -> Option<i64> {
        lag.view([None; 3], None, at(now)).lag_ms(Stage::Acknowledged, UnixMs(now))
    }

    fn waiting(lag: &SourceLag, oldest: i64, now: i64) -> Option<i64> {
        let oldest = [None, None, Some(UnixMs(oldest))];
        lag.view(oldest, None, at(now)).lag_ms(Stage::Acknowledged, UnixMs(now))
    }

    #[test]
    fn an_idle_source_lags_by_nothing_without_flicker_and_a_silent_one_by_what_it_last_said() {
        let mut lag = SourceLag::new(None, INTERVAL);
        assert_eq!(settled(&lag, 10_000), None, "nothing was ever heard of it");
        for beat in 10..40 {
            lag.heard(UnixMs(beat * 1_000));
            lag.heartbeat(UnixMs(beat * 1_000), UnixMs(beat * 1_000), at(beat * 1_000 + 45));
            for now in (beat * 1_000 + 45..beat * 1_000 + 1_045).step_by(50) {
                assert_eq!(settled(&lag, now), Some(0));
            }
        }
        assert_eq!(settled(&lag, 41_000), Some(0), "two intervals");
        assert_eq!(settled(&lag, 41_001), Some(2_001));
        assert_eq!(settled(&lag, 99_000), Some(60_000), "it grows by a second each second");
    }

    #[test]
    fn right_after_a_restart_the_backlog_shows_before_anything_is_read_and_while_it_is_read() {
        let mut lag = SourceLag::new(Some(UnixMs(40_000)), INTERVAL);
        assert_eq!(settled(&lag, 100_000), Some(60_000));
        lag.heard(UnixMs(50_000));
        lag.heartbeat(UnixMs(50_000), UnixMs(50_000), at(100_500));
        assert_eq!(settled(&lag, 100_500), Some(50_500), "all that was read is settled: there must be more");
        assert_eq!(waiting(&lag, 45_000, 100_500), Some(55_500));
    }

    #[test]
    fn a_change_counts_while_it_waits_and_for_a_second_after_it() {
        let mut lag = SourceLag::new(None, INTERVAL);
        lag.heard(UnixMs(9_990));
        lag.heartbeat(UnixMs(9_990), UnixMs(9_990), at(10_000));
        assert_eq!(waiting(&lag, 9_990, 10_140), Some(150));
        lag.passed(Stage::Acknowledged, UnixMs(9_990), at(10_150));
        assert_eq!(settled(&lag, 10_160), Some(160));
        assert_eq!(settled(&lag, 11_150), Some(160), "at least a second");
        assert_eq!(settled(&lag, 11_990), Some(160));
        lag.heartbeat(UnixMs(11_000), UnixMs(11_000), at(11_040));
        assert_eq!(settled(&lag, 12_000), Some(0), "not even two");
    }

    #[test]
    fn f42_a_delay_of_long_ago_does_not_count_again_when_our_clock_is_set_back() {
        let mut lag = SourceLag::new(None, INTERVAL);
        lag.heard(UnixMs(9_000));
        lag.passed(Stage::Acknowledged, UnixMs(9_000), at(10_000));
        let now = Now { wall: UnixMs(10_100), monotonic: Duration::from_secs(70) };
        lag.heartbeat(UnixMs(10_050), UnixMs(10_050), now);
        assert_eq!(lag.view([None; 3], None, now).lag_ms(Stage::Acknowledged, now.wall), Some(0));
    }

    #[test]
    fn f69_a_thread_that_tells_nothing_more_lags_more_and_more() {
        let mut lag = SourceLag::new(None, INTERVAL);
        lag.heard(UnixMs(10_000));
        lag.heartbeat(UnixMs(10_000), UnixMs(10_000), at(10_040));
        let view = lag.view([None, None, Some(UnixMs(9_900))], None, at(10_050));
        assert_eq!(view.lag_ms(Stage::Acknowledged, UnixMs(10_500)), Some(150), "as of when it was told");
        assert_eq!(view.lag_ms(Stage::Acknowledged, UnixMs(20_000)), Some(10_100), "it hangs");
        assert_eq!(view.lag_ms(Stage::Polled, UnixMs(20_000)), Some(10_000));
    }

    #[test]
    fn a_source_is_stalled_only_while_something_waits_and_nothing_settles() {
        let mut lag = SourceLag::new(None, INTERVAL);
        let stalled = |lag: &SourceLag, oldest: Option<i64>, now: i64| {
            lag.view([None, None, oldest.map(UnixMs)], None, at(now)).stalled_ms(UnixMs(now))
        };
        lag.passed(Stage::Acknowledged, UnixMs(9_990), at(10_000));
        assert_eq!(stalled(&lag, None, 90_000), 0, "idle for as long as you like");
        assert_eq!(stalled(&lag, Some(89_900), 90_000), 100, "the first change after that");
        assert_eq!(stalled(&lag, Some(89_900), 150_000), 60_100, "it hangs");
        lag.passed(Stage::Acknowledged, UnixMs(89_900), at(150_000));
        assert_eq!(stalled(&lag, Some(90_500), 150_900), 900, "a backlog that is worked off is not stalled");
    }

    #[test]
    fn a_peer_whose_clock_is_wrong_lags_by_what_it_would_with_a_right_one() {
        let skew = Some(SkewBounds { least_ms: 4_960, most_ms: 5_040 });
        let mut lag = SourceLag::new(None, INTERVAL);
        // Appended 100 ms ago, by a clock 5 s ahead of ours.
        lag.heard(UnixMs(14_900));
        lag.heartbeat(UnixMs(14_900), UnixMs(14_900), at(9_950));
        let view = lag.view([None, None, Some(UnixMs(14_900))], skew, at(10_000));
        assert_eq!(view.lag_ms(Stage::Acknowledged, UnixMs(10_000)), Some(100));
        assert_eq!(lag.view([None; 3], skew, at(10_000)).lag_ms(Stage::Acknowledged, UnixMs(10_000)), Some(0));
        lag.passed(Stage::Acknowledged, UnixMs(14_900), at(10_000));
        assert_eq!(lag.view([None; 3], skew, at(10_000)).lag_ms(Stage::Acknowledged, UnixMs(10_000)), Some(100));
    }

    #[test]
    fn what_is_acknowledged_counts_until_it_can_be_seen_and_no_longer() {
        let mut lag = SourceLag::new(None, INTERVAL);
        lag.heard(UnixMs(9_990));
        lag.heartbeat(UnixMs(12_000), UnixMs(12_000), at(12_000));
        lag.passed(Stage::Acknowledged, UnixMs(9_970), at(10_000));
        let seen = |unseen_ms, now_ms| lag.view([None; 3], None, at(now_ms)).visible_ms(unseen_ms, UnixMs(now_ms));
        assert_eq!(seen(40, 10_000), Some(70));
        assert_eq!(seen(40, 12_100), Some(0), "it was seen long ago");
        assert_eq!(seen(1_500, 12_100), Some(1_530), "it was not, readers are behind");
        let waits = lag.view([None, None, Some(UnixMs(9_000))], None, at(10_000));
        assert_eq!(waits.visible_ms(40, UnixMs(10_000)), Some(1_000), "it waits for Milvus, not for readers");
    }
}

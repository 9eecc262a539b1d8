//! By how much the clock of an origin's log, which gives the append times, is ahead of ours: from heartbeats that echo
//! each other, as NTP does it (RFC 5905, section 8), but with bounds instead of an estimate. The way there and back may
//! be of very different length (a mirror each), so half of the round trip is no good guess of either.
//!
//! We stamp a heartbeat at `sent`, by our clock. A peer holds it for `held`, by its own, until it writes one that throws
//! the stamp back; that is appended at `appended`, by the peer's log, and arrives here at `arrived`, by our clock. Nothing
//! arrives before it is sent: the log is ahead by at least `appended − arrived` and at most `appended − sent − held`. Of
//! our own log our own heartbeat tells the same, held by nobody.

use crate::base::time::UnixMs;
use std::collections::VecDeque;

/// Exchanges that count: at one each second, a quarter of a minute.
const EXCHANGES_MAX: usize = 16;

/// A log's clock is ahead of ours by something from `least_ms` to `most_ms`; below 0 it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkewBounds {
    pub least_ms: i64,
    pub most_ms: i64,
}

impl SkewBounds {
    /// What both allow; none if they disagree.
    pub fn and(self, other: Self) -> Option<Self> {
        let least_ms = self.least_ms.max(other.least_ms);
        let most_ms = self.most_ms.min(other.most_ms);
        (least_ms <= most_ms).then_some(Self { least_ms, most_ms })
    }

    pub fn middle_ms(self) -> i64 {
        self.least_ms + (self.most_ms - self.least_ms) / 2
    }

    /// What is taken off a lag: nothing as long as the clocks may agree, so that a good clock costs no accuracy.
    pub fn correction_ms(self) -> i64 {
        if self.least_ms <= 0 && self.most_ms >= 0 { 0 } else { self.middle_ms() }
    }
}

/// A heartbeat of ours that has come back.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    pub sent: UnixMs,
    pub held_ms: i64,
    pub appended: UnixMs,
    pub arrived: UnixMs,
}

#[derive(Debug, Default)]
pub struct Skew {
    exchanges: VecDeque<SkewBounds>,
    /// What all of them allow: asked for with every row.
    bounds: Option<SkewBounds>,
}

impl Skew {
    pub fn note(&mut self, exchange: Exchange) {
        let bounds = SkewBounds {
            least_ms: exchange.appended.since_ms(exchange.arrived),
            most_ms: exchange.appended.since_ms(exchange.sent) - exchange.held_ms.max(0),
        };
        if bounds.least_ms > bounds.most_ms {
            // A clock was set while it was under way.
            self.exchanges.clear();
            self.bounds = None;
            return;
        }
        if self.bounds.is_some_and(|held| held.and(bounds).is_none()) {
            // What was learnt before a clock was set is no longer true.
            self.exchanges.clear();
        }
        if self.exchanges.len() == EXCHANGES_MAX {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(bounds);
        self.bounds = self.exchanges.iter().copied().reduce(|a, b| a.and(b).unwrap_or(b));
    }

    /// What all exchanges that count allow.
    pub fn bounds(&self) -> Option<SkewBounds> {
        self.bounds
    }

    /// How late something is that was appended at `at` by that log's clock; never negative.
    pub fn delay_ms(&self, at: UnixMs, now: UnixMs) -> u64 {
        let ahead_ms = self.bounds.map_or(0, SkewBounds::correction_ms);
        u64::try_from(now.since_ms(at) + ahead_ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a log ahead by `ahead`, and `there` and `back` on the way.
    fn exchange(ahead: i64, there: i64, back: i64) -> Exchange {
        let (sent, held_ms) = (1_000, 300);
        let appended = sent + there + held_ms;
        Exchange { sent: UnixMs(sent), held_ms, appended: UnixMs(appended + ahead), arrived: UnixMs(appended + back) }
    }

    #[test]
    fn the_truth_lies_within_the_bounds_however_uneven_the_ways() {
        for (ahead, there, back) in [(0, 30, 30), (0, 900, 5), (5_000, 40, 300), (-700, 5, 60)] {
            let mut skew = Skew::default();
            skew.note(exchange(ahead, there, back));
            let bounds = skew.bounds().expect("one exchange");
            assert!((bounds.least_ms..=bounds.most_ms).contains(&ahead), "{ahead}: {bounds:?}");
            assert_eq!(bounds.most_ms - bounds.least_ms, there + back);
        }
    }

    #[test]
    fn a_clock_that_may_be_right_is_not_corrected_and_one_that_is_wrong_is() {
        let mut skew = Skew::default();
        skew.note(exchange(0, 200, 40));
        assert_eq!(skew.bounds().map(SkewBounds::correction_ms), Some(0));
        let mut skew = Skew::default();
        skew.note(exchange(5_000, 200, 40));
        skew.note(exchange(5_000, 40, 200));
        assert_eq!(skew.bounds(), Some(SkewBounds { least_ms: 4_960, most_ms: 5_040 }));
        assert_eq!(skew.bounds().map(SkewBounds::correction_ms), Some(5_000));
        assert_eq!(skew.delay_ms(UnixMs(14_900), UnixMs(10_000)), 100);
        assert_eq!(skew.delay_ms(UnixMs(15_100), UnixMs(10_000)), 0, "bounds are bounds: never negative");
    }

    #[test]
    fn what_was_learnt_before_a_clock_was_set_is_forgotten() {
        let mut skew = Skew::default();
        skew.note(exchange(5_000, 40, 40));
        skew.note(exchange(0, 40, 40));
        assert_eq!(skew.bounds().map(SkewBounds::correction_ms), Some(0));
    }
}

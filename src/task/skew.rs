//! By how much a peer's clock differs from ours, from heartbeats that echo each other, as NTP does it (RFC 5905,
//! section 8) but with bounds instead of an estimate: the way there and back may be of very different length (a mirror
//! each), so half of the round trip is no good guess of either.
//!
//! A peer's heartbeat carries the append time `t1` of our last one and when it arrived there, `t2`, by the peer's clock; it
//! was appended at `t3`, by the peer's, and arrives here at `t4`, by ours. Nothing arrives before it is sent, so the peer is
//! ahead by at most `t2 − t1` and by at least `t3 − t4`.

use crate::base::time::UnixMs;
use std::collections::VecDeque;

/// Exchanges that count: at one each second, a quarter of a minute.
const EXCHANGES_MAX: usize = 16;

/// A peer's clock is ahead of ours by something from `least_ms` to `most_ms`; below 0 it is behind.
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

/// The four times of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// Ours was appended, by our log's clock.
    pub sent: UnixMs,
    /// It arrived there, by the peer's clock.
    pub arrived_there: UnixMs,
    /// The peer's was appended, by its log's clock.
    pub sent_there: UnixMs,
    /// It arrived here, by our clock.
    pub arrived: UnixMs,
}

#[derive(Debug, Default)]
pub struct Skew {
    exchanges: VecDeque<SkewBounds>,
}

impl Skew {
    pub fn note(&mut self, exchange: Exchange) {
        let bounds = SkewBounds {
            least_ms: exchange.sent_there.since_ms(exchange.arrived),
            most_ms: exchange.arrived_there.since_ms(exchange.sent),
        };
        if bounds.least_ms > bounds.most_ms {
            // A clock was set while it was under way.
            self.exchanges.clear();
            return;
        }
        if self.bounds().is_some_and(|held| held.and(bounds).is_none()) {
            // What was learnt before a clock was set is no longer true.
            self.exchanges.clear();
        }
        if self.exchanges.len() == EXCHANGES_MAX {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(bounds);
    }

    /// What all exchanges that count allow.
    pub fn bounds(&self) -> Option<SkewBounds> {
        self.exchanges.iter().copied().reduce(|a, b| a.and(b).unwrap_or(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer ahead by `ahead`, with `there` and `back` on the way.
    fn exchange(ahead: i64, there: i64, back: i64) -> Exchange {
        let sent = 1_000;
        let (arrived_there, sent_there) = (sent + there + ahead, sent + there + ahead + 300);
        let arrived = sent_there - ahead + back;
        Exchange {
            sent: UnixMs(sent),
            arrived_there: UnixMs(arrived_there),
            sent_there: UnixMs(sent_there),
            arrived: UnixMs(arrived),
        }
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
    }

    #[test]
    fn what_was_learnt_before_a_clock_was_set_is_forgotten() {
        let mut skew = Skew::default();
        skew.note(exchange(5_000, 40, 40));
        skew.note(exchange(0, 40, 40));
        assert_eq!(skew.bounds().map(SkewBounds::correction_ms), Some(0));
    }
}

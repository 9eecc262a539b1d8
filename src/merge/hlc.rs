//! Hybrid logical clock (Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014): 48 bits of Unix
//! milliseconds, 16 bits of counter, so that stamps compare as integers and stay near the wall clock.

use crate::base::time::UnixMs;
use std::fmt;

/// A stamp. Ordered as an unsigned 64-bit integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

const COUNTER_BITS: u32 = 16;
const WALL_MS_MAX: i64 = (1 << 48) - 1;

impl Hlc {
    /// The first stamp of a millisecond; out-of-range milliseconds are clamped to the 48 bits there are.
    pub fn at(wall: UnixMs) -> Self {
        Self((wall.0.clamp(0, WALL_MS_MAX) as u64) << COUNTER_BITS)
    }

    pub fn new(wall: UnixMs, counter: u16) -> Self {
        Self(Self::at(wall).0 | u64::from(counter))
    }

    pub fn wall(self) -> UnixMs {
        UnixMs((self.0 >> COUNTER_BITS) as i64)
    }

    pub fn counter(self) -> u16 {
        self.0 as u16
    }

    /// The next stamp. A full counter carries into the millisecond, so a burst (or a wall clock that
    /// stands still) borrows from the future instead of overflowing.
    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.wall(), self.counter())
    }
}

/// Issues stamps that only grow, whatever the wall clock does.
#[derive(Debug, Clone, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// `upper_bound` is what was persisted before the last stop: no stamp at or below it is issued again.
    pub fn resume(upper_bound: Hlc) -> Self {
        Self { last: upper_bound }
    }

    pub fn stamp(&mut self, wall: UnixMs) -> Hlc {
        self.last = self.last.next().max(Hlc::at(wall));
        self.last
    }

    /// Takes note of a stamp seen elsewhere (a peer's, a session token's): later stamps are greater.
    pub fn observe(&mut self, seen: Hlc) {
        self.last = self.last.max(seen);
    }

    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_steps_back() {
        let mut clock = HlcClock::default();
        let before = clock.stamp(UnixMs(10_000));
        let after = clock.stamp(UnixMs(9_000));
        assert!(after > before);
        assert_eq!(after.wall(), UnixMs(10_000));
    }

    #[test]
    fn a_full_counter_carries_into_the_millisecond() {
        let mut clock = HlcClock::resume(Hlc::new(UnixMs(5), u16::MAX));
        assert_eq!(clock.stamp(UnixMs(5)), Hlc::new(UnixMs(6), 0));
    }

    #[test]
    fn an_observed_stamp_is_never_issued_again() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc::new(UnixMs(77), 3));
        assert_eq!(clock.stamp(UnixMs(1)), Hlc::new(UnixMs(77), 4));
    }

    #[test]
    fn wall_and_counter_are_read_back() {
        let stamp = Hlc::new(UnixMs(1_700_000_000_123), 9);
        assert_eq!((stamp.wall(), stamp.counter()), (UnixMs(1_700_000_000_123), 9));
        assert_eq!(Hlc::at(UnixMs(-1)), Hlc(0));
    }
}

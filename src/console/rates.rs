//! Rates: what has been counted in the last few seconds, per second.

use crate::base::ids::Region;
use crate::base::time::UnixMs;
use crate::task::metrics::{SourceTotals, Totals};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Looks that a rate is over: long enough to be steady, short enough to be now.
const LOOKS: usize = 6;

/// Per second, of one source; heartbeats are not among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SourceRates {
    pub polled: f64,
    pub heartbeats: f64,
    pub applied: f64,
    pub coalesced: f64,
    /// By verdict.
    pub verdicts: BTreeMap<&'static str, f64>,
    /// By reason.
    pub dead_letters: BTreeMap<&'static str, f64>,
}

impl SourceRates {
    pub fn add(&mut self, other: &SourceRates) {
        self.polled += other.polled;
        self.heartbeats += other.heartbeats;
        self.applied += other.applied;
        self.coalesced += other.coalesced;
        for (word, rate) in &other.verdicts {
            *self.verdicts.entry(word).or_default() += rate;
        }
        for (code, rate) in &other.dead_letters {
            *self.dead_letters.entry(code).or_default() += rate;
        }
    }
}

/// Of one region.
#[derive(Default)]
pub struct Rates {
    looks: VecDeque<(UnixMs, Totals)>,
}

impl Rates {
    pub fn note(&mut self, now: UnixMs, totals: Totals) {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((now, totals));
    }

    pub fn of(&self, source: &Region) -> SourceRates {
        let (Some((from, before)), Some((until, now))) = (self.looks.front(), self.looks.back()) else {
            return SourceRates::default();
        };
        let span_ms = until.since_ms(*from);
        let none = SourceTotals::default();
        let (before, now) = (before.sources.get(source).unwrap_or(&none), now.sources.get(source).unwrap_or(&none));
        if span_ms <= 0 { SourceRates::default() } else { rates(before, now, span_ms as f64 / 1_000.0) }
    }
}

fn rates(before: &SourceTotals, now: &SourceTotals, seconds: f64) -> SourceRates {
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let mut rates = SourceRates {
        polled: per_second(now.polled, before.polled),
        applied: per_second(now.applied, before.applied),
        coalesced: per_second(now.coalesced, before.coalesced),
        ..SourceRates::default()
    };
    for (word, count) in &now.verdicts {
        let rate = per_second(*count, before.verdict(word));
        if word.ends_with("heartbeat") {
            rates.heartbeats += rate;
        } else {
            rates.verdicts.insert(word, rate);
        }
    }
    rates.polled = (rates.polled - rates.heartbeats).max(0.0);
    for (code, count) in &now.dead_letters {
        rates.dead_letters.insert(code, per_second(*count, before.dead_letters.get(code).copied().unwrap_or(0)));
    }
    rates
}

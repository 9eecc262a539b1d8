//! Plain progress lines.

use super::pair_name;
use crate::demo::status::Snapshot;
use std::io::{self, Write};

#[derive(Default)]
pub(in crate::demo) struct Lines {
    events_told: usize,
}

impl Lines {
    pub fn print(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut out = io::stderr().lock();
        for event in snapshot.events.iter().skip(self.events_told) {
            writeln!(out, "{:>6.1} s  {}", event.at.as_secs_f64(), event.what)?;
        }
        self.events_told = snapshot.events.len();
        let lags: Vec<String> = snapshot
            .pairs
            .iter()
            .map(|pair| {
                let state = if pair.up { "" } else { " (cut)" };
                format!("{} {} ms{state}", pair_name(snapshot, pair.from, pair.to), pair.lag_ms)
            })
            .collect();
        let applied: u64 = snapshot.regions.iter().map(|region| region.applied).sum();
        let done =
            if snapshot.settling { "settling".to_owned() } else { format!("{} of {} sent", snapshot.sent, snapshot.planned) };
        writeln!(out, "{:>6.1} s  {done}, {applied} applied; lag {}", snapshot.elapsed.as_secs_f64(), lags.join(", "))
    }
}

//! Plain progress lines.

use super::pair_name;
use crate::demo::status::Snapshot;
use std::io::{self, Write};
use std::time::Duration;

const LINE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(in crate::demo) struct Lines {
    events_told: usize,
    /// When the next line on the progress is due.
    due: Duration,
}

impl Lines {
    /// Tells what has happened since, and every second how far the run is.
    pub fn print(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut out = io::stderr().lock();
        for event in snapshot.events.iter().skip(self.events_told) {
            writeln!(out, "{:>6.1} s  {}", event.at.as_secs_f64(), event.what)?;
        }
        self.events_told = snapshot.events.len();
        if snapshot.elapsed < self.due {
            return Ok(());
        }
        self.due = snapshot.elapsed + LINE_INTERVAL;
        let mut lags = Vec::new();
        for pair in snapshot.pairs.iter().filter(|pair| pair.from != pair.to) {
            let state = if pair.up { "" } else { " (cut)" };
            lags.push(format!("{} {} ms{state}", pair_name(snapshot, pair.from, pair.to), pair.lag_ms));
        }
        let applied: u64 = snapshot.pairs.iter().map(|pair| pair.counts.applied).sum();
        let (at, sent, planned) = (snapshot.elapsed.as_secs_f64(), snapshot.sent, snapshot.planned);
        writeln!(out, "{at:>6.1} s  {sent} of {planned} sent, {applied} applied; lag {}", lags.join(", "))
    }
}

//! The table of lags: a line for each source, a column for each stage, and how the last one has gone lately.

use crate::base::time::UnixMs;
use crate::cli::output;
use crate::ops::history::instant;
use crate::ops::lag::{LagTable, SourceLag};
use std::collections::{BTreeMap, VecDeque};

/// Looks that a sparkline shows.
const TREND_LOOKS: usize = 30;
/// A line's full height stands for at least so much: what is promised. A smaller lag looks small.
const FULL_HEIGHT_MS: i64 = 150;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last stage's lag of each source, look by look; none where nothing was known.
#[derive(Default)]
pub struct Trend {
    looks: BTreeMap<String, VecDeque<Option<i64>>>,
}

impl Trend {
    pub fn note(&mut self, found: &LagTable) {
        for lag in &found.sources {
            let looks = self.looks.entry(lag.source.clone()).or_default();
            if looks.len() == TREND_LOOKS {
                looks.pop_front();
            }
            looks.push_back(last_stage(found, lag));
        }
    }

    /// `▁▁▂▇█ up to 3.2 s`
    fn line(&self, source: &str) -> String {
        let Some(looks) = self.looks.get(source) else { return String::new() };
        let greatest = looks.iter().flatten().copied().max().unwrap_or(0);
        let full = greatest.max(FULL_HEIGHT_MS);
        let height = |ms: i64| HEIGHTS[usize::try_from(ms.max(0) * 7 / full).unwrap_or(0).min(7)];
        let line: String = looks.iter().map(|look| look.map_or(' ', height)).collect();
        format!("{line} up to {}", duration(greatest))
    }
}

fn last_stage(found: &LagTable, lag: &SourceLag) -> Option<i64> {
    found.stages.iter().rev().find_map(|stage| lag.lag_ms.get(stage).copied())
}

pub fn text(found: &LagTable, trend: Option<&Trend>) -> String {
    let mut heads = vec!["source"];
    heads.extend(found.stages);
    heads.extend(["records behind", "heartbeats", "clock ahead"]);
    if trend.is_some() {
        heads.push("lately");
    }
    let rows = found.sources.iter().map(|lag| {
        let mut row = vec![lag.source.clone()];
        row.extend(found.stages.iter().map(|stage| lag.lag_ms.get(stage).map_or("?".to_owned(), |ms| duration(*ms))));
        row.extend([lag.records_behind.to_string(), heartbeats(lag), clock(lag.clock_ahead_ms)]);
        row.extend(trend.map(|trend| trend.line(&lag.source)));
        row
    });
    let mut text = output::table(&heads, rows.collect());
    for lag in &found.sources {
        if let Some(gaps) = lag.gaps.filter(|gaps| *gaps > 0) {
            text += &format!(
                "\n{}: {gaps} holes: what it had appended was deleted before it came; this region is incomplete\n",
                lag.source
            );
        }
        if lag.unknown_partitions > 0 {
            text +=
                &format!("\n{}: nothing is known of {} of {} partitions\n", lag.source, lag.unknown_partitions, lag.partitions);
        }
    }
    text + &format!("\nat {}\n", instant(UnixMs(found.at_ms)))
}

fn heartbeats(lag: &SourceLag) -> String {
    match lag.silent_partitions {
        0 => "come".to_owned(),
        silent => format!("SILENT in {silent} of {}", lag.partitions),
    }
}

/// What is certain of it; clocks that may agree need no word.
fn clock(ahead_ms: Option<[i64; 2]>) -> String {
    match ahead_ms {
        None => "?".to_owned(),
        Some([least, most]) if least <= 0 && most >= 0 => "-".to_owned(),
        Some([least, most]) => format!("{least} to {most} ms"),
    }
}

/// In the unit that a person would say it in.
fn duration(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(acknowledged: i64, silent: usize) -> LagTable {
        let us = SourceLag {
            source: "us".to_owned(),
            lag_ms: BTreeMap::from([("arrived", 0), ("acknowledged", acknowledged)]),
            records_behind: 12,
            partitions: 12,
            silent_partitions: silent,
            clock_ahead_ms: Some([-30, 40]),
            ..SourceLag::default()
        };
        LagTable { stages: &["arrived", "acknowledged"], at_ms: 0, sources: vec![us] }
    }

    #[test]
    fn a_line_for_each_source_says_lag_in_a_unit_that_one_reads_at_a_glance() {
        let text = text(&found(75_250, 3), None);
        let us = text.lines().find(|line| line.trim_start().starts_with("us")).expect("a line for us");
        for part in ["0 ms", "1 min 15 s", "12", "SILENT in 3 of 12"] {
            assert!(us.contains(part), "{part} in {us:?}");
        }
        assert_eq!([0, 999, 1_250, 3_725_000].map(duration), ["0 ms", "999 ms", "1.2 s", "1 h 2 min"]);
        assert_eq!([None, Some([4_900, 5_100])].map(clock), ["?", "4900 to 5100 ms"]);
    }

    #[test]
    fn a_sparkline_shows_the_last_looks_and_a_small_lag_small() {
        let mut trend = Trend::default();
        for lag in [0, 30, 75, 150] {
            trend.note(&found(lag, 0));
        }
        assert_eq!(trend.line("us"), "▁▂▄█ up to 150 ms");
        for _ in 0..TREND_LOOKS {
            trend.note(&found(3_000, 0));
        }
        assert_eq!(trend.line("us"), format!("{} up to 3.0 s", "█".repeat(TREND_LOOKS)));
    }
}

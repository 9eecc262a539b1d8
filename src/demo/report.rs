//! What a run ends with: one object for machines, a few lines for people.

use crate::task::metrics::SourceTotals;
use serde::Serialize;
use std::fmt;
use std::ops::AddAssign;

/// What became of changes: `received = applied + coalesced + duplicates + stale + conflicts + dead_letters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub received: u64,
    /// Rows that the vector store acknowledged.
    pub applied: u64,
    /// Winners that a newer one overtook before they were sent.
    pub coalesced: u64,
    pub duplicates: u64,
    pub stale: u64,
    pub conflicts: u64,
    pub dead_letters: u64,
}

impl Counts {
    pub(super) fn of(totals: &SourceTotals) -> Self {
        let is_change = |word: &str| !word.ends_with("heartbeat");
        let judged: u64 = totals.verdicts.iter().filter(|(word, _)| is_change(word)).map(|(_, count)| count).sum();
        let dead_letters: u64 = totals.dead_letters.values().sum();
        Self {
            received: judged + dead_letters,
            applied: totals.applied,
            coalesced: totals.coalesced,
            duplicates: totals.verdict("duplicate"),
            stale: totals.verdict("stale"),
            conflicts: totals.verdict("conflict"),
            dead_letters,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.applied += other.applied;
        self.coalesced += other.coalesced;
        self.duplicates += other.duplicates;
        self.stale += other.stale;
        self.conflicts += other.conflicts;
        self.dead_letters += other.dead_letters;
    }
}

/// What one region made of the changes from one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairReport {
    pub from: String,
    pub to: String,
    /// The greatest that was seen.
    pub lag_ms_max: i64,
    /// Over the whole run.
    pub applied_per_second: f64,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegionReport {
    pub region: String,
    pub rows: usize,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub vectors: usize,
    pub dim: usize,
    /// Records that the writers sent.
    pub changes: usize,
    /// Sums over the regions.
    #[serde(flatten)]
    pub counts: Counts,
    pub cuts: u64,
    /// Everything that was sent was settled everywhere within the time allowed.
    pub settled: bool,
    /// Rows that there must be in every region.
    pub rows: usize,
    /// Rows that differ between regions, or from the greatest version of the workload.
    pub divergent: usize,
    /// Refusals that differ from what every region must refuse.
    pub refused_differently: usize,
    pub converged: bool,
    /// Hash of the final content; equal for equal seeds, counts and dimensions.
    pub digest: String,
    pub regions: Vec<RegionReport>,
    /// By receiving region; among them each region with itself.
    pub pairs: Vec<PairReport>,
}

impl Report {
    /// Kinds of trouble that did not occur, so that this run proves nothing about them.
    pub fn missing_trouble(&self) -> Vec<&'static str> {
        let kinds = [
            ("duplicates", self.counts.duplicates),
            ("stale", self.counts.stale),
            ("conflicts", self.counts.conflicts),
            ("a cut link", self.cuts),
        ];
        kinds.into_iter().filter(|(_, count)| *count == 0).map(|(kind, _)| kind).collect()
    }

    /// What keeps this run from being a success, a sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if !self.settled {
            sentences.push("not everything was settled in the time allowed".to_owned());
        }
        if !self.converged {
            let (rows, refusals) = (self.divergent, self.refused_differently);
            sentences.push(format!("{rows} of {} rows differ, {refusals} changes were refused differently", self.rows));
        }
        let missing = self.missing_trouble();
        if !missing.is_empty() {
            sentences.push(format!("did not occur: {}; raise --changes", missing.join(", ")));
        }
        sentences
    }

    /// 0 if the regions converged in spite of every kind of trouble, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.shortcomings().is_empty() { 0 } else { 3 }
    }
}

/// Two lines of heads and the width of each column: within 80 columns.
const HEADS: [(&str, &str, usize); 9] = [
    ("max lag", "ms", 9),
    ("applied", "per s", 8),
    ("", "received", 9),
    ("", "applied", 8),
    ("coal-", "esced", 7),
    ("dupli-", "cates", 7),
    ("", "stale", 6),
    ("con-", "flicts", 7),
    ("dead", "letters", 8),
];
const PAIR_COLUMN: usize = 8;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { changes, vectors, cuts, .. } = self;
        let regions = self.regions.len();
        writeln!(f, "{changes} changes of {vectors} vectors, written in {regions} regions; links cut under load: {cuts}")?;
        writeln!(f)?;
        write_line(f, "", HEADS.map(|(upper, _, _)| upper.to_owned()))?;
        write_line(f, "from→to", HEADS.map(|(_, lower, _)| lower.to_owned()))?;
        for pair in &self.pairs {
            let (lag, rate) = (pair.lag_ms_max.to_string(), format!("{:.0}", pair.applied_per_second));
            write_line(f, &format!("{}→{}", pair.from, pair.to), numbers(lag, rate, &pair.counts))?;
        }
        write_line(f, "all", numbers(String::new(), String::new(), &self.counts))?;
        writeln!(f)?;
        let rows: Vec<String> = self.regions.iter().map(|region| format!("{} {}", region.region, region.rows)).collect();
        writeln!(f, "rows     {}", rows.join(", "))?;
        writeln!(f, "digest   {} (seed {})", self.digest, self.seed)?;
        if self.converged {
            writeln!(f, "verdict  CONVERGED: every region holds the same rows, each the last writer's")?;
        } else {
            writeln!(f, "verdict  NOT CONVERGED")?;
        }
        for sentence in self.shortcomings() {
            writeln!(f, "         {sentence}")?;
        }
        Ok(())
    }
}

fn numbers(lag: String, rate: String, counts: &Counts) -> [String; HEADS.len()] {
    let Counts { received, applied, coalesced, duplicates, stale, conflicts, dead_letters } = counts;
    let counts = [received, applied, coalesced, duplicates, stale, conflicts, dead_letters].map(u64::to_string);
    let [received, applied, coalesced, duplicates, stale, conflicts, dead_letters] = counts;
    [lag, rate, received, applied, coalesced, duplicates, stale, conflicts, dead_letters]
}

fn write_line(f: &mut fmt::Formatter<'_>, first: &str, cells: [String; HEADS.len()]) -> fmt::Result {
    write!(f, "{first:<PAIR_COLUMN$}")?;
    for (cell, (_, _, width)) in cells.iter().zip(HEADS) {
        write!(f, "{cell:>width$}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn report() -> Report {
        let counts = Counts { received: 9, applied: 3, coalesced: 1, duplicates: 1, stale: 1, conflicts: 1, dead_letters: 2 };
        let pair = |from: &str| PairReport {
            from: from.to_owned(),
            to: "us".to_owned(),
            lag_ms_max: 12_345,
            applied_per_second: 99.6,
            counts,
        };
        Report {
            seed: 1,
            seconds: 1,
            vectors: 1,
            dim: 1,
            changes: 1,
            counts,
            cuts: 1,
            settled: true,
            rows: 1,
            divergent: 0,
            refused_differently: 0,
            converged: true,
            digest: "0".repeat(32),
            regions: vec![RegionReport { region: "us".to_owned(), rows: 1, counts }],
            pairs: vec![pair("us"), pair("eu")],
        }
    }

    #[test]
    fn only_convergence_through_every_kind_of_trouble_is_a_success() {
        assert_eq!(report().exit_code(), 0);
        let without = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            report
        };
        for (lacking, named) in [
            (without(|report| report.converged = false), "rows differ"),
            (without(|report| report.settled = false), "settled"),
            (without(|report| report.counts.duplicates = 0), "occur: duplicates;"),
            (without(|report| report.counts.stale = 0), "occur: stale;"),
            (without(|report| report.counts.conflicts = 0), "occur: conflicts;"),
            (without(|report| report.cuts = 0), "occur: a cut link;"),
        ] {
            assert_eq!(lacking.exit_code(), 3, "{lacking}");
            assert!(lacking.to_string().contains(named), "{named} is missing in\n{lacking}");
        }
    }

    #[test]
    fn the_table_fits_eighty_columns() {
        let text = report().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("eu→us"), "{text}");
    }

    #[test]
    fn heartbeats_are_no_changes_and_what_was_received_adds_up() {
        let totals = SourceTotals {
            polled: 19,
            verdicts: BTreeMap::from([("winner", 4), ("duplicate", 1), ("stale", 1), ("conflict", 1), ("heartbeat", 10)]),
            dead_letters: BTreeMap::from([("late", 1), ("bad-id", 1)]),
            applied: 3,
            coalesced: 1,
            ..SourceTotals::default()
        };
        assert_eq!(Counts::of(&totals), report().counts);
    }
}

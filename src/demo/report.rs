//! What a run ends with: one object for machines, a few lines for people.

use serde::Serialize;
use std::fmt;

/// What one region's worker did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegionReport {
    pub region: String,
    pub applied: u64,
    pub duplicates: u64,
    pub stale: u64,
    pub conflicts: u64,
    pub dead_letters: u64,
    pub rows: usize,
}

/// Counts are sums over the regions, except for `changes`, `rows` and `divergent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub vectors: usize,
    pub dim: usize,
    /// Records that the writers sent.
    pub changes: usize,
    pub duplicates: u64,
    pub stale: u64,
    pub conflicts: u64,
    pub dead_letters: u64,
    /// Rows that the vector stores acknowledged.
    pub applied: u64,
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
}

impl Report {
    /// Kinds of trouble that did not occur, so that this run proves nothing about them.
    pub fn missing_trouble(&self) -> Vec<&'static str> {
        let kinds = [
            ("duplicates", self.duplicates),
            ("stale changes", self.stale),
            ("conflicts", self.conflicts),
            ("a cut link", self.cuts),
        ];
        kinds.into_iter().filter(|(_, count)| *count == 0).map(|(kind, _)| kind).collect()
    }

    /// 0 if the regions converged in spite of every kind of trouble, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.converged && self.missing_trouble().is_empty() { 0 } else { 3 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} changes written in {} regions (seed {})", self.changes, self.regions.len(), self.seed)?;
        writeln!(f)?;
        let heads = ["region", "applied", "duplicates", "stale", "conflicts", "dead letters", "rows"];
        writeln!(
            f,
            "  {:<8}{:>10}{:>12}{:>9}{:>11}{:>14}{:>9}",
            heads[0], heads[1], heads[2], heads[3], heads[4], heads[5], heads[6]
        )?;
        for region in &self.regions {
            let RegionReport { region, applied, duplicates, stale, conflicts, dead_letters, rows } = region;
            writeln!(f, "  {region:<8}{applied:>10}{duplicates:>12}{stale:>9}{conflicts:>11}{dead_letters:>14}{rows:>9}")?;
        }
        writeln!(f)?;
        if !self.settled {
            writeln!(f, "not everything was settled in the time allowed")?;
        }
        if self.converged {
            writeln!(f, "CONVERGED: {} rows, the same in every region, each the last writer's", self.rows)?;
        } else {
            let (rows, refusals) = (self.divergent, self.refused_differently);
            writeln!(f, "NOT CONVERGED: {rows} of {} rows differ, {refusals} changes were refused differently", self.rows)?;
        }
        let missing = self.missing_trouble();
        if !missing.is_empty() {
            writeln!(f, "but it proves little: there were no {}; give it more changes or seconds", missing.join(", no "))?;
        }
        write!(f, "digest {}", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            seed: 1,
            seconds: 1,
            vectors: 1,
            dim: 1,
            changes: 1,
            duplicates: 1,
            stale: 1,
            conflicts: 1,
            dead_letters: 0,
            applied: 1,
            cuts: 1,
            settled: true,
            rows: 1,
            divergent: 0,
            refused_differently: 0,
            converged: true,
            digest: String::new(),
            regions: Vec::new(),
        }
    }

    #[test]
    fn only_convergence_through_every_kind_of_trouble_is_a_success() {
        assert_eq!(report().exit_code(), 0);
        assert_eq!(Report { converged: false, ..report() }.exit_code(), 3);
        for quiet in [
            Report { duplicates: 0, ..report() },
            Report { stale: 0, ..report() },
            Report { conflicts: 0, ..report() },
            Report { cuts: 0, ..report() },
        ] {
            assert_eq!(quiet.exit_code(), 3, "{:?}", quiet.missing_trouble());
        }
    }
}

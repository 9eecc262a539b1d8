//! What every region must hold in the end, computed from the workload alone: per row the change with the
//! greatest `(stamp, origin, sequence)` of all good ones. It shares no code with the engine's merge.

use super::content::Content;
use super::workload::{PlannedChange, REGIONS, Workload};
use crate::record::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// The winners, deletes among them.
pub(super) fn winners(workload: &Workload) -> BTreeMap<u128, &PlannedChange> {
    let mut winners: BTreeMap<u128, &PlannedChange> = BTreeMap::new();
    for change in workload.changes.iter().filter(|change| change.flaw.is_none()) {
        let holder = winners.entry(change.vector_id).or_insert(change);
        if rank(change) > rank(holder) {
            *holder = change;
        }
    }
    winners
}

/// The winning change and content of every row that there must be.
pub(super) fn rows(workload: &Workload) -> BTreeMap<u128, (&PlannedChange, Content)> {
    let alive = winners(workload).into_iter().filter(|(_, change)| !change.delete);
    alive.map(|(id, change)| (id, (change, Content::of(change, workload.dim)))).collect()
}

/// What every region must have refused: the keys, and why.
pub(super) fn refusals(workload: &Workload) -> BTreeSet<(String, Reason)> {
    let bad = workload.changes.iter().filter_map(|change| Some((change, change.flaw?)));
    bad.map(|(change, flaw)| (super::content::key_text(change), flaw.reason())).collect()
}

fn rank(change: &PlannedChange) -> (i64, u16, &'static [u8], u64) {
    (change.stamp.ms, change.stamp.counter, REGIONS[change.region].0.as_bytes(), change.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::workload::PlannedStamp;

    fn change(region: usize, ms: i64, sequence: u64, delete: bool) -> PlannedChange {
        let stamp = PlannedStamp { ms, counter: 0 };
        PlannedChange { due_ms: 0, region, vector_id: 1, delete, stamp, sequence, content: 9, flaw: None }
    }

    #[test]
    fn the_stamp_rules_then_the_origins_name_then_the_sequence() {
        let (us, eu, ap) = (0, 1, 2);
        let winner = |changes: Vec<PlannedChange>| winners(&Workload { dim: 1, changes })[&1].clone();
        assert_eq!(winner(vec![change(ap, 5, 1, false), change(us, 4, 9, false)]), change(ap, 5, 1, false));
        assert_eq!(winner(vec![change(us, 5, 1, false), change(eu, 5, 9, false)]), change(us, 5, 1, false));
        assert_eq!(winner(vec![change(us, 5, 2, false), change(us, 5, 1, false)]), change(us, 5, 2, false));
    }

    #[test]
    fn a_row_that_was_deleted_last_is_not_there() {
        let changes = vec![change(0, 5, 1, true), change(1, 4, 1, false)];
        assert!(rows(&Workload { dim: 1, changes }).is_empty());
    }
}

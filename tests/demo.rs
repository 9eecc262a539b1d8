//! The demo end to end, small: three regions with real workers, a cut link and every kind of trouble.

use driftless::demo::{Counts, DemoOptions, Report, run};

fn demo(seed: u64, seconds: u64) -> Report {
    let options = DemoOptions { seed, changes: 3_000, vectors: 300, dim: 8, seconds, json: true };
    run(&options).expect("the demo runs to its verdict")
}

#[test]
fn a_seed_gives_one_content_at_any_pace_however_the_threads_interleave() {
    let (first, again, other) = (demo(7, 2), demo(7, 4), demo(8, 2));
    for report in [&first, &again, &other] {
        assert!(report.converged && report.settled, "{report}");
        assert_eq!(report.exit_code(), 0, "{report}");
        assert!(report.counts.dead_letters > 0, "{report}");
        every_change_is_accounted_for(report);
    }
    assert_eq!((first.changes, &first.digest), (again.changes, &again.digest));
    assert_ne!(first.digest, other.digest);
}

fn every_change_is_accounted_for(report: &Report) {
    let mut received_at_home = 0;
    for pair in &report.pairs {
        let Counts { received, applied, coalesced, duplicates, stale, conflicts, dead_letters } = pair.counts;
        let accounted = applied + coalesced + duplicates + stale + conflicts + dead_letters;
        assert_eq!(received, accounted, "{}→{} in\n{report}", pair.from, pair.to);
        if pair.from == pair.to {
            received_at_home += received;
        }
    }
    assert_eq!(received_at_home, report.changes as u64, "{report}");
}

#[test]
fn what_is_out_of_range_is_refused_with_the_option_and_the_range() {
    let error = run(&DemoOptions { dim: 0, ..DemoOptions::default() }).expect_err("no vector has dimension 0");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(error.to_string(), "--dim 0 is out of range: choose from 1 to 32768");
}

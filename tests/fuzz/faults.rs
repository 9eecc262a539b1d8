//! Files that people write: what any list of faults must be.

use driftless::base::fault::Faults;

/// Each fault has a place in the text, a message and a remedy. Answers with all of them, for the kind of verdict.
pub fn assert_useful(faults: &Faults, text: &str) -> String {
    assert!(!faults.is_empty(), "refused without a fault");
    let lines: Vec<&str> = text.split('\n').collect();
    let mut kinds = Vec::new();
    for fault in faults.iter() {
        assert!((1..=lines.len()).contains(&fault.line), "line {} of {}: {fault}", fault.line, lines.len());
        let columns = lines[fault.line - 1].chars().count() + 1;
        assert!((1..=columns).contains(&fault.column), "column {} of {columns}: {fault}", fault.column);
        assert!(!fault.message.trim().is_empty() && !fault.remedy.trim().is_empty(), "{fault:?}");
        kinds.push(fault.message.as_str());
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds.join("|")
}

//! How many instructions the hot path takes for each record, counted by valgrind and compared with
//! `benches/budget.toml`: unlike times they are nearly the same on every run of a busy machine.
//!
//! `UPDATE_GOLDEN=1 cargo test --release --test instructions` writes the budget anew.

#[path = "../benches/hot_path/changes.rs"]
mod changes;
#[path = "../benches/hot_path/operations.rs"]
mod operations;
#[path = "../benches/hot_path/steady_task.rs"]
mod steady_task;

use operations::{OPERATIONS, Operation, RECORDS};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// More than the budget by so much is too much.
const MARGIN: f64 = 0.10;
/// Rounds before what counts: they make room for all others.
const WARM_UP: usize = 4;
const ROUNDS: usize = 16;
/// Which operation the program that valgrind runs is to carry out.
const OPERATION: &str = "DRIFTLESS_OPERATION";

const HOW_TO_RECORD: &str = "UPDATE_GOLDEN=1 cargo test --release --test instructions";
const HEAD: &str = "\
# Instructions for each record, of each operation of benches/hot_path. tests/instructions.rs fails where it counts ten in
# a hundred more. Counted on x86_64 in the release profile; another compiler may count otherwise. Written anew by
# UPDATE_GOLDEN=1 cargo test --release --test instructions
";

type Counts = BTreeMap<String, u64>;

/// What valgrind is to count, and nothing else: it is told so by this name.
#[inline(never)]
fn counted_rounds(operation: &mut dyn Operation) {
    operation.run();
}

#[test]
#[ignore = "run by the other test, under valgrind"]
fn one_operation_for_valgrind() {
    let wanted = env::var(OPERATION).expect("the other test names the operation");
    let (_, make) = OPERATIONS.iter().find(|(name, _)| *name == wanted).expect("there is such an operation");
    let mut operation = make();
    for _ in 0..WARM_UP {
        operation.prepare();
        operation.run();
    }
    for _ in 0..ROUNDS {
        operation.prepare();
        counted_rounds(operation.as_mut());
    }
    operation.check();
}

#[test]
#[cfg_attr(
    any(debug_assertions, not(all(target_os = "linux", target_arch = "x86_64"))),
    ignore = "the budget is for the release profile on Linux and x86_64"
)]
fn no_operation_takes_a_tenth_more_instructions_than_its_budget() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/budget.toml");
    let counts = count();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        let lines: String = counts.iter().map(|(name, count)| format!("\"{name}\" = {count}\n")).collect();
        fs::write(&file, format!("{HEAD}\n{lines}")).expect("the budget can be written");
        return;
    }
    let budget = fs::read_to_string(&file).expect("the budget is in the repository");
    let budget: Counts = toml::from_str(&budget).expect("a table of numbers");
    let mut over = Vec::new();
    for (name, count) in &counts {
        match budget.get(name) {
            Some(most) if *count as f64 <= *most as f64 * (1.0 + MARGIN) => eprintln!("{name}: {count}, budget {most}"),
            Some(most) => over.push(format!("{name}: {count} instructions a record, budget {most}")),
            None => over.push(format!("{name}: {count} instructions a record, no budget")),
        }
    }
    let advice = format!("Is it worth it? Then record it: {HOW_TO_RECORD}");
    assert!(over.is_empty(), "over budget by more than a tenth:\n{}\n{advice}", over.join("\n"));
    assert!(budget.keys().all(|name| counts.contains_key(name)), "the budget names operations that are no more: {HOW_TO_RECORD}");
}

fn count() -> Counts {
    OPERATIONS.iter().map(|(name, _)| ((*name).to_owned(), instructions(name) / (ROUNDS * RECORDS) as u64)).collect()
}

/// This program runs itself under valgrind, which counts what is done in all calls of [`counted_rounds`].
fn instructions(operation: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder for valgrind's file");
    let out = folder.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_rounds*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("a test knows its program"))
        .args(["--ignored", "--exact", "one_operation_for_valgrind", "--test-threads=1"])
        .env(OPERATION, operation)
        .output()
        .expect("valgrind is not to be had: scripts/install.sh build installs it");
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let text = fs::read_to_string(&out).expect("valgrind has written what it counted");
    let totals = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    totals.and_then(|number| number.trim().parse().ok()).expect("it has a sum")
}

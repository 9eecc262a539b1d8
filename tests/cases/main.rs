//! The golden cases of `topologies/cases/`: each is run whole, and again with a crash between any two of the worker's
//! steps, and must come to the same end.
//!
//! A case is for people to read. Its `steps` are done in order; `expect` tells all that comes of it, and what it does
//! not name must not be there. Times count from the beginning of the case.

mod check;
mod driver;
mod file;
mod play;

use driftless::testing::topology_driver::Leftovers;
use file::Case;
use std::path::{Path, PathBuf};

fn cases() -> Vec<(PathBuf, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/cases");
    let files = std::fs::read_dir(&folder).expect("the cases' folder").map(|entry| entry.expect("a file of it").path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    assert!(files.len() > 20, "only {} cases were found", files.len());
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a case is text");
        let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, case)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn f38_f43_f55_each_case_ends_as_it_says() {
    let mut wrong = Vec::new();
    for (file, case) in cases() {
        let played = play::whole(&case);
        let faults = check::outcome(&case, &played, check::Copies::One);
        wrong.extend(faults.iter().map(|fault| format!("{}: {fault}\n  {}", file.display(), case.rule)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each case with a crash after each step of its worker, until none is left; how many there were.
fn crash_everywhere(leftovers: Leftovers) -> u64 {
    let mut crashes = 0;
    for (file, case) in cases() {
        for step in 0.. {
            let played = play::with_crash(&case, step, leftovers);
            if played.driver.crashes() == 0 {
                assert!(step > 5, "{}: only {step} steps", file.display());
                break;
            }
            let wrong = check::outcome(&case, &played, check::Copies::Any);
            let when = format!("{}: killed after step {step}, what was under way {leftovers:?}", file.display());
            assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
            crashes += 1;
        }
    }
    crashes
}

#[test]
fn f54_each_case_ends_alike_with_a_crash_after_any_step_and_what_was_under_way_lost() {
    assert!(crash_everywhere(Leftovers::Lost) > 500);
}

#[test]
fn f54_each_case_ends_alike_with_a_crash_after_any_step_and_what_was_under_way_landed() {
    assert!(crash_everywhere(Leftovers::Landed) > 500);
}

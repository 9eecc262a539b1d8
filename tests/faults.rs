//! `tests/FAULTS.md`, the list of faults that hit real systems, against the tests that carry their numbers: none is
//! left out without a reason, and none is said to be covered where it is not.
//!
//! A Rust test carries a number in its name (`f61_…`), a scenario of the simulator in `covers`, and what runs on the real
//! servers in its text (`f61`). `UPDATE_GOLDEN=1 cargo test --test faults` rewrites the last column.

use driftless::testing::sim::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the last column begins with where there is no test.
const REASONS: [&str; 2] = ["not yet: ", "does not apply: "];
const COUNT: u32 = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let relative = path.strip_prefix(root()).expect("inside").to_path_buf();
        if path.is_dir() {
            files(relative.to_str().expect("UTF-8"), into);
        } else {
            into.push(relative);
        }
    }
}

/// The numbers in `f01_f62_a_zombies…`, or in running text where `in_text`.
fn numbers(text: &str, in_text: bool) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    if in_text {
        found.extend(words.filter_map(number));
    } else {
        while let Some(number) = words.next().and_then(number) {
            found.insert(number);
        }
    }
    found
}

fn number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('f').filter(|digits| digits.len() == 2)?;
    digits.parse().ok().filter(|number| (1..=COUNT).contains(number))
}

/// Of each fault, what covers it: file, or file and test.
fn coverage() -> BTreeMap<u32, BTreeSet<String>> {
    let mut paths = Vec::new();
    files("src", &mut paths);
    files("tests", &mut paths);
    paths.sort();
    let mut covered: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let (name, text) = (path.to_str().expect("UTF-8").to_owned(), fs::read_to_string(root().join(&path)).unwrap_or_default());
        let mut cover = |numbers: BTreeSet<u32>, what: String| {
            for number in numbers {
                covered.entry(number).or_default().insert(what.clone());
            }
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") if name != "tests/faults.rs" => {
                for line in text.lines() {
                    if let Some((_, rest)) = line.trim_start().split_once("fn ") {
                        let test: &str = rest.split('(').next().unwrap_or_default();
                        cover(numbers(&test.replace('_', " "), false), format!("`{name}`: `{test}`"));
                    }
                }
            }
            Some("py" | "sh") => cover(numbers(&text, true), format!("`{name}`")),
            Some("toml") if name.starts_with("tests/scenarios/") => {
                let scenario = Scenario::parse(&name, &text).unwrap_or_else(|faults| panic!("{faults}"));
                cover(scenario.covers.into_iter().collect(), format!("`{name}`"));
            }
            _ => {}
        }
    }
    covered
}

#[test]
fn every_fault_of_the_list_has_a_test_or_a_reason_why_not() {
    let path = root().join("tests/FAULTS.md");
    let text = fs::read_to_string(&path).expect("the list is there");
    let covered = coverage();
    let (mut seen, mut rewritten, mut wrong) = (BTreeSet::new(), String::new(), Vec::new());
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|cell| cell.parse::<u32>().ok()).filter(|_| cells.len() == 6) else {
            rewritten += &format!("{line}\n");
            continue;
        };
        seen.insert(number);
        let tests = covered.get(&number).map(|tests| tests.iter().cloned().collect::<Vec<_>>().join("; "));
        let last = match tests {
            Some(tests) => tests,
            None if REASONS.iter().any(|reason| cells[4].starts_with(reason)) => cells[4].to_owned(),
            None => {
                wrong.push(format!("{number} has no test, and no reason that begins with one of {REASONS:?}"));
                cells[4].to_owned()
            }
        };
        rewritten += &format!("| {number} | {} | {} | {last} |\n", cells[2], cells[3]);
    }
    assert_eq!(seen, (1..=COUNT).collect(), "the numbers of the list");
    assert!(wrong.is_empty(), "{wrong:#?}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &rewritten).expect("the list can be written");
    } else {
        assert_eq!(text, rewritten, "tests/FAULTS.md is out of date; UPDATE_GOLDEN=1 rewrites it");
    }
}

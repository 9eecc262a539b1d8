//! Fuzzing on the stable toolchain: everything that reads bytes or text from outside, against a reference where
//! there is one, and against panics, hangs and memory everywhere.
//!
//! `cargo test` runs each target for some thousand inputs; `scripts/fuzz.sh TARGET SECONDS` for as long as is asked.
#![allow(clippy::disallowed_macros, reason = "figures are printed for whoever has asked for them")]

mod avro;
mod change;
mod config;
mod entries;
mod faults;
mod framing;
mod json;
mod meter;
mod mutate;
mod run;
mod schema;
mod topology;

use run::{Budget, Figures, Target, attempt, run};
use std::time::Duration;

#[global_allocator]
static METER: meter::Meter = meter::Meter;

const TARGETS: [Target; 7] =
    [avro::TARGET, schema::TARGET, framing::TARGET, json::TARGET, config::TARGET, topology::TARGET, entries::TARGET];

/// A few seconds' worth, the same in every run.
fn bounded(target: &Target, executions: u64) {
    let figures = run(target, 1, Budget::Executions(executions));
    println!("{}: {figures}", target.name);
    let Figures { good, good_accepted, kinds, .. } = figures;
    assert!(good_accepted * 3 > good, "{good_accepted} of {good} undamaged inputs were accepted: there is little to damage");
    assert!(kinds > 10, "only {kinds} kinds of verdict: the inputs are too much alike");
}

#[test]
fn avro_read_by_hand_agrees_with_apache_avro_on_any_bytes() {
    bounded(&avro::TARGET, 40_000);
}

#[test]
fn any_text_as_a_writers_schema_and_any_bytes_as_its_value_are_judged_within_bounds() {
    bounded(&schema::TARGET, 4_000);
}

#[test]
fn any_bytes_as_a_value_are_judged_within_bounds_whatever_their_schema() {
    bounded(&framing::TARGET, 20_000);
}

#[test]
fn json_changes_say_what_a_plain_reading_says() {
    bounded(&json::TARGET, 30_000);
}

#[test]
fn configurations_are_read_or_refused_with_places_and_remedies() {
    bounded(&config::TARGET, 4_000);
}

#[test]
fn topologies_can_run_or_are_refused_with_places_and_remedies() {
    bounded(&topology::TARGET, 8_000);
}

#[test]
fn what_changelogs_hold_is_read_back_and_any_bytes_are_read_or_refused() {
    bounded(&entries::TARGET, 30_000);
}

#[test]
fn equal_seeds_make_equal_runs() {
    let once = || run(&json::TARGET, 7, Budget::Executions(2_000));
    let (a, b) = (once(), once());
    assert_eq!((a.accepted, a.kinds, a.bytes_peak), (b.accepted, b.kinds, b.bytes_peak));
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    setting(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} = {text} is not a whole number")))
}

/// `FUZZ_TARGET` (else each in turn), `FUZZ_SECONDS` or `FUZZ_EXECUTIONS`, `FUZZ_SEED`.
#[test]
#[ignore = "runs for minutes: scripts/fuzz.sh"]
fn for_as_long_as_is_asked() {
    let budget = match (number("FUZZ_EXECUTIONS"), number("FUZZ_SECONDS")) {
        (Some(count), _) => Budget::Executions(count),
        (None, seconds) => Budget::Time(Duration::from_secs(seconds.unwrap_or(600))),
    };
    let wanted = setting("FUZZ_TARGET");
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| wanted.as_deref().is_none_or(|name| name == target.name)).collect();
    assert!(!targets.is_empty(), "there is no target {wanted:?}; there are {:?}", TARGETS.each_ref().map(|target| target.name));
    for target in targets {
        println!("{}: {}", target.name, run(target, number("FUZZ_SEED").unwrap_or(1), budget));
    }
}

/// `FUZZ_INPUT`, a file that a finding has left, on `FUZZ_TARGET`.
#[test]
#[ignore = "needs an input: scripts/fuzz.sh TARGET FILE"]
fn once_more_on_an_input() {
    let (name, file) = (setting("FUZZ_TARGET").expect("FUZZ_TARGET"), setting("FUZZ_INPUT").expect("FUZZ_INPUT"));
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    let input = std::fs::read(file).expect("a readable file");
    match attempt(target, &input) {
        Ok(verdict) => println!("nothing found; accepted: {}, {} bytes held", verdict.accepted, verdict.bytes),
        Err(finding) => panic!("{finding}"),
    }
}

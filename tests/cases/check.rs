//! Compares what came of a case with what it says.

use crate::file::Case;
use crate::play::{Piped, Played};
use driftless::base::ids::{RowKey, TopicPartition};
use driftless::testing::topology_driver::Logged;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// How often each dead letter and conflict may be there: after a crash more than once.
#[derive(Clone, Copy, PartialEq)]
pub enum Copies {
    One,
    Any,
}

/// Every difference, in words.
pub fn outcome(case: &Case, played: &Played, copies: Copies) -> Vec<String> {
    let mut wrong = rows(case, played);
    wrong.extend(changelogs(case, played));
    wrong.extend(kept(case, played, copies));
    if copies == Copies::One {
        let totals = played.driver.report().totals;
        for (verdict, expected) in &case.expect.verdicts {
            let found = totals.verdict(verdict);
            if found != *expected {
                wrong.push(format!("{found} times {verdict}, not {expected}"));
            }
        }
    }
    wrong
}

fn piped<'p>(played: &'p Played, name: &str) -> &'p Piped {
    played.piped.get(name).unwrap_or_else(|| panic!("no record is called {name}"))
}

/// The name that the case has for a place in a log.
fn name_at(played: &Played, at: &TopicPartition, offset: i64) -> String {
    let is_there = |piped: &Piped| piped.at == *at && (piped.offset == offset || piped.copies.contains(&offset));
    let named = played.piped.iter().find(|(_, piped)| is_there(piped));
    named.map_or_else(|| format!("{at} at {offset}"), |(name, _)| name.clone())
}

/// Vector, version and metadata of each, against what the case wrote.
fn rows(case: &Case, played: &Played) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found = BTreeMap::new();
    for collection in ["docs", "people"] {
        let rows = played.driver.rows(collection).expect("a collection of the cases");
        found.extend(rows.into_iter().map(|(id, row)| (id.to_string(), row)));
    }
    let ids = |ids: Vec<&String>| ids.into_iter().cloned().collect::<BTreeSet<_>>();
    let (held, expected) = (ids(found.keys().collect()), ids(case.expect.rows.keys().collect()));
    if held != expected {
        wrong.push(format!("rows {held:?}, not {expected:?}"));
    }
    for (id, name) in &case.expect.rows {
        let (Some(row), record) = (found.get(id), piped(played, name)) else { continue };
        let written = record.row.as_ref().unwrap_or_else(|| panic!("{name} can hold no row"));
        if row.vector != written.vector || Some(&row.version) != record.version.as_ref() {
            wrong.push(format!("row {id} holds {:?} of {:?}, not {name}", row.vector, row.version));
        }
        let metadata: Json = serde_json::from_slice(&row.metadata).expect("one JSON object");
        let told = case.expect.metadata.get(id).map(|table| serde_json::to_value(table).expect("scalars"));
        let expected = told.unwrap_or_else(|| written.metadata.clone());
        if metadata != expected {
            wrong.push(format!("row {id} has metadata {metadata}, not {expected}"));
        }
    }
    wrong
}

/// The last record of each key, in both changelogs, and the store beside them.
fn changelogs(case: &Case, played: &Played) -> Vec<String> {
    let driver = &played.driver;
    let id = |key: &RowKey| key.id.to_string();
    let entries: BTreeMap<String, (RowKey, Logged)> =
        driver.versions_changelog().into_iter().map(|(key, logged)| (id(&key), (key, logged))).collect();
    let vectors: BTreeMap<String, _> =
        driver.vectors_changelog().into_iter().map(|(key, record)| (id(&key), record.value)).collect();
    let store = driver.store("versions").expect("the task runs");
    let mut wrong = Vec::new();
    let mut found = BTreeMap::new();
    for (id, (key, logged)) in &entries {
        let (version, words) = match logged {
            Logged::Put(entry) => (&entry.version, if entry.refused { "refused " } else { "" }),
            Logged::Forgotten(version) => (version, "forgotten "),
        };
        let same = |piped: &&(&String, &Piped)| piped.1.version.as_ref() == Some(version);
        // Twins have one version: the bytes tell them apart.
        let candidates: Vec<_> = played.piped.iter().filter(|piped| same(&piped)).collect();
        let by_bytes = candidates.iter().find(|(_, piped)| vectors.get(id) == Some(&piped.value));
        let name = by_bytes.or(candidates.first()).map_or("an unknown version", |(name, _)| name.as_str());
        found.insert(id.clone(), format!("{words}{name}"));
        let held = store.get(key);
        match logged {
            Logged::Put(entry) => {
                if held.as_ref() != Some(entry) {
                    wrong.push(format!("the store holds {held:?} for {id}, its changelog {entry:?}"));
                }
                if by_bytes.is_none() {
                    wrong.push(format!("the vectors changelog has other bytes for {id} than {name}"));
                }
            }
            Logged::Forgotten(_) => {
                if held.is_some() || vectors.get(id) != Some(&None) {
                    wrong.push(format!("{id} is forgotten in the versions changelog alone"));
                }
            }
        }
    }
    if found != case.expect.changelog {
        wrong.push(format!("changelog {found:?}, not {:?}", case.expect.changelog));
    }
    wrong
}

/// Dead letters and conflicts: which record, and why.
fn kept(case: &Case, played: &Played, copies: Copies) -> Vec<String> {
    let letters = played.driver.dead_letters().into_iter();
    let letters = letters.map(|letter| (name_at(played, &letter.source, letter.source_offset), letter.reason)).collect();
    let conflicts = played.driver.conflicts().into_iter().map(|conflict| {
        let won = |piped: &Piped| piped.version.as_ref() == Some(&conflict.winner) && piped.key == conflict.record.key;
        let winner = played.piped.iter().find(|(_, piped)| won(piped));
        let winner = winner.map_or("an unknown version", |(name, _)| name.as_str());
        (name_at(played, &conflict.source, conflict.source_offset), winner.to_owned())
    });
    let mut wrong = differences("dead letters", letters, &case.expect.dead_letters, copies);
    wrong.extend(differences("conflicts", conflicts.collect(), &case.expect.conflicts, copies));
    wrong
}

fn differences(what: &str, mut found: Vec<(String, String)>, expected: &BTreeMap<String, String>, copies: Copies) -> Vec<String> {
    found.sort();
    if copies == Copies::Any {
        found.dedup();
    }
    let expected: Vec<(String, String)> = expected.clone().into_iter().collect();
    if found == expected { Vec::new() } else { vec![format!("{what} {found:?}, not {expected:?}")] }
}

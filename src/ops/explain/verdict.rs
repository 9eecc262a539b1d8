//! What became of each change, and why.

use super::{Admission, Findings, Kept, Offered, Seen};
use crate::merge::lww::{Verdict, judge};
use crate::merge::version::{ContentHash, Version};
use crate::record::change::Op;
use std::collections::HashSet;
use std::sync::Arc;

/// One change's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub offered: Offered,
    pub verdict: &'static str,
    pub why: String,
}

/// What one keeper of the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub keeper: &'static str,
    pub says: String,
    /// It says what the versions changelog says; none where it can't be asked.
    pub agrees: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub lines: Vec<Line>,
    pub held: Vec<Held>,
}

impl Explanation {
    pub fn agrees(&self) -> bool {
        self.held.iter().all(|held| held.agrees == Some(true))
    }
}

pub fn tell(findings: &Findings) -> Explanation {
    let mut seen_before = HashSet::new();
    let lines = findings.offered.iter().map(|offered| {
        let (verdict, why) = one(findings, offered, &mut seen_before);
        Line { offered: offered.clone(), verdict, why }
    });
    Explanation { lines: lines.collect(), held: held(findings) }
}

type Stamp = (Version, ContentHash);

/// The greatest that is known to have held the row.
fn holder(findings: &Findings) -> Option<Stamp> {
    let entry = findings.entry.as_ref().map(|entry| (entry.version.clone(), entry.content_hash));
    let winners = findings.winners.iter().map(|winner| (winner.version.clone(), winner.hash));
    winners.chain(entry).max()
}

fn one(findings: &Findings, offered: &Offered, seen_before: &mut HashSet<(Arc<str>, Stamp)>) -> (&'static str, String) {
    let place = (offered.source.topic.clone(), offered.source.partition, offered.offset);
    let unsettled = findings.settled.get(&offered.source.topic).is_none_or(|settled| offered.offset >= *settled);
    if let Admission::Refused(rejection) = &offered.admission {
        return ("dead-lettered", rejection.to_string());
    }
    if offered.admission == Admission::MisKeyed {
        return match offered.own {
            true => ("re-keyed", "its key or partition is not its id's: appended again under its own key".to_owned()),
            false => ("mis-keyed", "its key or partition is not its id's: its own region appends it again".to_owned()),
        };
    }
    let Some(seen) = &offered.seen else {
        return ("unreadable", "its header cannot be read".to_owned());
    };
    let stamp = (seen.version.clone(), seen.hash);
    let repeated = !seen_before.insert((offered.source.topic.clone(), stamp.clone()));
    if let Some(Kept { reason, detail }) = findings.dead_letters.get(&place) {
        let verdict = if reason == "refused-by-milvus" { "refused" } else { "dead-lettered" };
        return (verdict, format!("{reason}: {detail}"));
    }
    if repeated {
        return ("duplicate", "the same change was read before".to_owned());
    }
    if let Some(winner) = findings.conflicts.get(&place) {
        return ("conflict", format!("loses to {winner}"));
    }
    if won(findings, &stamp) {
        return ("winner", until(findings, &stamp));
    }
    if unsettled {
        return ("pending", "no progress record has passed it yet".to_owned());
    }
    lost(findings, seen)
}

fn won(findings: &Findings, stamp: &Stamp) -> bool {
    let entry = findings.entry.as_ref().map(|entry| (entry.version.clone(), entry.content_hash));
    entry.as_ref() == Some(stamp) || findings.winners.iter().any(|winner| (&winner.version, &winner.hash) == (&stamp.0, &stamp.1))
}

/// How long a winner held the row.
fn until(findings: &Findings, stamp: &Stamp) -> String {
    let next = findings.winners.iter().map(|winner| (winner.version.clone(), winner.hash)).filter(|winner| winner > stamp).min();
    match next {
        Some((version, _)) => format!("until {version}"),
        None if findings.entry.as_ref().is_some_and(|entry| entry.version == stamp.0) => "holds the row".to_owned(),
        None if findings.forgotten.as_ref().is_some_and(|forgotten| *forgotten >= stamp.0) => {
            "a delete that has been forgotten: no older change can still come".to_owned()
        }
        None => "its entry is not in the versions changelog yet".to_owned(),
    }
}

/// Neither among the winners nor kept as a conflict.
fn lost(findings: &Findings, seen: &Seen) -> (&'static str, String) {
    let Some((version, hash)) = holder(findings) else {
        let forgotten = findings.forgotten.as_ref();
        return match forgotten.filter(|forgotten| seen.version <= **forgotten) {
            Some(forgotten) => ("stale", format!("beaten by the delete {forgotten}, forgotten since")),
            None => ("below-floor", "older than what deletes are remembered for, and nothing holds the row".to_owned()),
        };
    };
    let verdict = judge(&seen.version, || seen.hash, &version, hash);
    let why = match verdict {
        Verdict::Wins => "it should hold the row and nothing says that it does: is a worker running?".to_owned(),
        Verdict::Duplicate => "the same change was read before".to_owned(),
        Verdict::TwinLoses => "another change has its version, and the greater content hash".to_owned(),
        Verdict::Stale | Verdict::Conflict => {
            format!("loses to {version}, or held the row before it and has been compacted away")
        }
    };
    let word = if verdict == Verdict::Wins { "missing" } else { verdict.word() };
    (word, why)
}

fn held(findings: &Findings) -> Vec<Held> {
    let entry = findings.entry.as_ref();
    let versions = match (entry, &findings.forgotten) {
        (Some(entry), _) => {
            let kind = if entry.tombstone { "a delete, " } else { "" };
            let refused = if entry.refused { ", refused by this Milvus" } else { "" };
            format!("{kind}{}{refused}; its vector at offset {}", entry.version, entry.vector_offset)
        }
        (None, Some(forgotten)) => format!("nothing: the delete {forgotten} has been forgotten"),
        (None, None) => "nothing".to_owned(),
    };
    vec![
        Held { keeper: "versions changelog", says: versions, agrees: Some(true) },
        vectors_changelog(findings),
        vector_store(findings),
    ]
}

fn vectors_changelog(findings: &Findings) -> Held {
    let greatest = findings.winners.iter().max_by_key(|winner| (&winner.version, winner.hash, winner.offset));
    let says = match greatest {
        None => "nothing".to_owned(),
        Some(winner) => {
            let kind = match winner.op {
                Some(Op::Upsert) => "",
                Some(Op::Delete) => "a delete, ",
                None => "forgotten: ",
            };
            format!("{kind}{} at offset {}", winner.version, winner.offset)
        }
    };
    let agrees = match (greatest, &findings.entry) {
        (Some(winner), Some(entry)) => winner.version == entry.version && winner.hash == entry.content_hash,
        (Some(winner), None) => findings.forgotten.as_ref().is_some_and(|forgotten| *forgotten >= winner.version),
        (None, entry) => entry.is_none(),
    };
    Held { keeper: "vectors changelog", says, agrees: Some(agrees) }
}

fn vector_store(findings: &Findings) -> Held {
    let (says, agrees) = match &findings.stored {
        None => ("not asked".to_owned(), None),
        Some(Err(why)) => (format!("cannot be asked: {why}"), None),
        Some(Ok(stored)) => {
            let expected = findings.entry.as_ref().filter(|entry| !entry.tombstone);
            let agrees = match (stored, expected) {
                // What this Milvus refuses it holds in an older version, or not at all.
                (_, Some(entry)) if entry.refused => true,
                (Some(row), Some(entry)) => row.version.as_ref() == Some(&entry.version),
                (stored, expected) => stored.is_none() && expected.is_none(),
            };
            let says = match stored {
                None => "no row".to_owned(),
                Some(row) => {
                    row.version.as_ref().map_or("a row of somebody else's, without a version".to_owned(), Version::to_string)
                }
            };
            (says, Some(agrees))
        }
    };
    Held { keeper: "Milvus", says, agrees }
}

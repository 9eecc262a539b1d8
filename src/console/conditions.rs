//! Findings that last: since when each holds, and when it ended.
//!
//! A finding counts once it has been seen for its kind's patience, and from when it began; it has ended when it has not
//! been seen for [`CALM_MS`]. So neither a single slow batch nor a flicker rings.

pub use super::findings::Level;
use super::findings::{Finding, Kind, Subject};
use crate::base::time::UnixMs;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// A finding that was not seen for so long has ended.
const CALM_MS: i64 = 2_500;
/// Ended ones that are remembered.
const ENDED_MAX: usize = 50;
/// Findings at once: more are not told apart by anybody.
const OPEN_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub level: Level,
    pub kind: Kind,
    pub region: String,
    pub origin: Option<String>,
    pub title: String,
    pub advice: String,
    pub since_ms: i64,
    /// None while it lasts.
    pub until_ms: Option<i64>,
}

struct Open {
    finding: Finding,
    first_seen: UnixMs,
    last_seen: UnixMs,
    counts: bool,
}

#[derive(Default)]
pub struct Conditions {
    open: BTreeMap<Subject, Open>,
    /// Newest first.
    ended: VecDeque<Condition>,
}

/// For how long a finding must be seen before it counts.
fn patience_ms(finding: &Finding) -> i64 {
    match (finding.subject.kind, finding.level) {
        (Kind::Behind, Level::Warning) => 10_000,
        (Kind::Behind, _) => 3_000,
        (Kind::NotJoined | Kind::Restoring | Kind::Absent, _) => 2_000,
        _ => 0,
    }
}

impl Conditions {
    /// Takes what a look has found.
    pub fn note(&mut self, found: Vec<Finding>, now: UnixMs) {
        for finding in found {
            self.note_one(finding, now);
        }
        let calm: Vec<Subject> =
            self.open.iter().filter(|(_, open)| now.since_ms(open.last_seen) > CALM_MS).map(|(s, _)| s.clone()).collect();
        for subject in calm {
            let Some(open) = self.open.remove(&subject) else { continue };
            if open.counts {
                self.ended.push_front(condition(&open, Some(open.last_seen)));
                self.ended.truncate(ENDED_MAX);
            }
        }
    }

    fn note_one(&mut self, finding: Finding, now: UnixMs) {
        if let Some(open) = self.open.get_mut(&finding.subject) {
            // It began when it began, whatever later looks would make of it; it is as bad as it ever was.
            let began = open.finding.began.min(finding.began);
            let level = open.finding.level.max(finding.level);
            open.finding = Finding { began, level, ..finding };
            open.last_seen = now;
            open.counts |= now.since_ms(open.first_seen) >= patience_ms(&open.finding);
        } else if self.open.len() < OPEN_MAX {
            let counts = patience_ms(&finding) == 0;
            self.open.insert(finding.subject.clone(), Open { finding, first_seen: now, last_seen: now, counts });
        }
    }

    /// Those that hold, the worst and oldest first.
    pub fn holding(&self) -> Vec<Condition> {
        let mut holding: Vec<Condition> =
            self.open.values().filter(|open| open.counts).map(|open| condition(open, None)).collect();
        holding.sort_by_key(|condition| (std::cmp::Reverse(condition.level), condition.since_ms));
        holding
    }

    /// Those that have ended, newest first.
    pub fn ended(&self) -> impl Iterator<Item = &Condition> {
        self.ended.iter()
    }
}

fn condition(open: &Open, until: Option<UnixMs>) -> Condition {
    let Finding { subject, level, began, title, advice } = &open.finding;
    Condition {
        level: *level,
        kind: subject.kind,
        region: subject.region.to_string(),
        origin: subject.origin.as_ref().map(ToString::to_string),
        title: title.clone(),
        advice: advice.clone(),
        since_ms: began.0,
        until_ms: until.map(|at| at.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;

    fn finding(kind: Kind, level: Level, began: i64) -> Finding {
        let subject = Subject { kind, region: Region::new("eu"), origin: Some(Region::new("us")), collection: None };
        Finding { subject, level, began: UnixMs(began), title: "t".to_owned(), advice: "a".to_owned() }
    }

    #[test]
    fn a_silent_link_counts_at_once_from_when_it_fell_silent_and_ends_once_it_is_calm() {
        let mut conditions = Conditions::default();
        for now in [10_000, 11_000, 12_000] {
            conditions.note(vec![finding(Kind::Silent, Level::Alarm, 8_000)], UnixMs(now));
            assert_eq!(conditions.holding()[0].since_ms, 8_000);
        }
        conditions.note(Vec::new(), UnixMs(14_000));
        assert_eq!(conditions.holding().len(), 1, "one look that finds nothing is no calm");
        conditions.note(Vec::new(), UnixMs(15_000));
        assert!(conditions.holding().is_empty());
        let ended: Vec<_> = conditions.ended().map(|ended| (ended.since_ms, ended.until_ms)).collect();
        assert_eq!(ended, [(8_000, Some(12_000))]);
    }

    #[test]
    fn one_slow_second_is_no_condition_and_ten_of_them_are() {
        let mut conditions = Conditions::default();
        let slow = |now| vec![finding(Kind::Behind, Level::Warning, now - 200)];
        for now in (0..9_000).step_by(1_000) {
            conditions.note(slow(now), UnixMs(now));
            assert!(conditions.holding().is_empty(), "at {now}");
        }
        conditions.note(slow(10_000), UnixMs(10_000));
        assert_eq!(conditions.holding()[0].since_ms, -200);
    }

    #[test]
    fn what_is_worst_stands_first_and_then_what_is_oldest() {
        let mut conditions = Conditions::default();
        let found = vec![
            finding(Kind::Clock, Level::Warning, 1_000),
            finding(Kind::Gap, Level::Alarm, 5_000),
            finding(Kind::Silent, Level::Alarm, 4_000),
        ];
        conditions.note(found, UnixMs(6_000));
        let order: Vec<Kind> = conditions.holding().iter().map(|condition| condition.kind).collect();
        assert_eq!(order, [Kind::Silent, Kind::Gap, Kind::Clock]);
    }
}

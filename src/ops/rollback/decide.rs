//! What is to be done about one row, as a function of what is known of its past.

use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};

/// Where a change lies: the number of its topic among those that are read, and its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: usize,
    pub offset: i64,
}

/// One change of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub version: Version,
    pub hash: ContentHash,
    pub at: Place,
    /// None: it deletes.
    pub content: Option<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Of vector and metadata: rows with equal ones are equal, whatever their versions.
    pub digest: u128,
    /// Of the record that writes it again.
    pub append_bytes: u64,
}

/// What is remembered of a row that something undone has touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowPast {
    /// The greatest change of all.
    newest: Option<Point>,
    /// The greatest that is older than R and is not undone.
    target: Option<Point>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is as it is to be.
    Nothing,
    /// Written again since R: that stays.
    LeftAlone,
    Restore(Point),
    Delete,
}

impl RowPast {
    /// Takes note of a change, in any order and any number of times. `undone` says whether it is to go.
    pub fn take(&mut self, point: Point, undone: bool, until: Hlc) {
        let is_target = !undone && point.version.hlc < until;
        if is_target && is_greater(&point, self.target.as_ref()) {
            self.target = Some(point.clone());
        }
        if is_greater(&point, self.newest.as_ref()) {
            self.newest = Some(point);
        }
    }

    pub fn newest(&self) -> Option<&Version> {
        self.newest.as_ref().map(|point| &point.version)
    }

    /// `ours` tells this roll-back's own changes, of an earlier attempt.
    pub fn decide(&self, until: Hlc, ours: impl Fn(&Version) -> bool) -> Decision {
        let Some(newest) = &self.newest else { return Decision::Nothing };
        if newest.version.hlc >= until && !ours(&newest.version) {
            return Decision::LeftAlone;
        }
        let digest = |point: Option<&Point>| point.and_then(|point| point.content).map(|content| content.digest);
        match &self.target {
            target if digest(target.as_ref()) == digest(Some(newest)) => Decision::Nothing,
            Some(target) if target.content.is_some() => Decision::Restore(target.clone()),
            _ => Decision::Delete,
        }
    }
}

/// Of equal ones the first is kept: its place was found earlier in the log, and is as good.
fn is_greater(point: &Point, held: Option<&Point>) -> bool {
    held.is_none_or(|held| (&point.version, point.hash) > (&held.version, held.hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use proptest::prelude::*;

    const AFTER: u64 = 10;
    const UNTIL: u64 = 20;

    fn point(hlc: u64, origin: usize, content: u64) -> Point {
        Point {
            version: Version { hlc: Hlc(hlc), origin: Region::new(["eu", "us"][origin]), sequence: 1 },
            hash: ContentHash(content),
            at: Place { topic: 0, offset: hlc as i64 },
            content: (content > 0).then_some(Content { digest: u128::from(content), append_bytes: 1 }),
        }
    }

    /// Contents are few, so that rows are often equal; 0 deletes.
    fn points() -> impl Strategy<Value = Vec<Point>> {
        let one = (1u64..26, 0usize..2, 0u64..4).prop_map(|(hlc, origin, content)| point(hlc, origin, content));
        proptest::collection::vec(one, 0..10)
    }

    fn undone(point: &Point, origin: Option<&str>) -> bool {
        let hlc = point.version.hlc.0;
        hlc > AFTER && hlc < UNTIL && origin.is_none_or(|origin| point.version.origin.as_str() == origin)
    }

    fn state(points: &[Point]) -> Option<u128> {
        let greatest = points.iter().max_by_key(|point| (&point.version, point.hash));
        greatest.and_then(|point| point.content).map(|content| content.digest)
    }

    fn past(points: &[Point], origin: Option<&str>) -> RowPast {
        let mut past = RowPast::default();
        for point in points {
            past.take(point.clone(), undone(point, origin), Hlc(UNTIL));
        }
        past
    }

    /// The compensation as it comes back from the log.
    fn compensated(points: &[Point], decision: &Decision) -> Vec<Point> {
        let content = match decision {
            Decision::Nothing | Decision::LeftAlone => return points.to_vec(),
            Decision::Restore(target) => target.content,
            Decision::Delete => None,
        };
        let version = Version { hlc: Hlc(UNTIL), origin: Region::new("eu"), sequence: 99 };
        let compensation = Point { version, hash: ContentHash(9), at: Place { topic: 0, offset: 99 }, content };
        points.iter().cloned().chain([compensation]).collect()
    }

    proptest! {
        /// The oracle: writes since R stay; otherwise the greatest change that is not undone holds the row.
        #[test]
        fn afterwards_the_row_is_as_if_the_undone_had_never_been_written(points in points(), by_origin in any::<bool>()) {
            let origin = by_origin.then_some("us");
            let decision = past(&points, origin).decide(Hlc(UNTIL), |_| false);
            let after = state(&compensated(&points, &decision));
            let kept: Vec<Point> = points.iter().filter(|point| !undone(point, origin)).cloned().collect();
            prop_assert_eq!(after, state(&kept));
            let changed_since = kept.iter().any(|point| point.version.hlc.0 >= UNTIL);
            prop_assert!(!changed_since || matches!(decision, Decision::LeftAlone));
        }

        #[test]
        fn a_second_time_there_is_nothing_to_do(points in points(), by_origin in any::<bool>()) {
            let origin = by_origin.then_some("us");
            let older: Vec<Point> = points.into_iter().filter(|point| point.version.hlc.0 < UNTIL).collect();
            let decision = past(&older, origin).decide(Hlc(UNTIL), |_| false);
            let after = compensated(&older, &decision);
            // Resumed under the same R; and begun anew, when the compensations themselves lie before R.
            let ours = |version: &Version| version.sequence == 99;
            prop_assert_eq!(past(&after, origin).decide(Hlc(UNTIL), ours), Decision::Nothing);
            let mut again = RowPast::default();
            for point in &after {
                let gone = undone(point, origin) || (point.version.sequence == 99 && !by_origin);
                again.take(point.clone(), gone, Hlc(UNTIL + 10));
            }
            prop_assert_eq!(again.decide(Hlc(UNTIL + 10), |_| false), Decision::Nothing);
        }

        #[test]
        fn the_order_of_reading_and_repetitions_change_nothing(points in points()) {
            let mut backwards: Vec<Point> = points.iter().rev().cloned().collect();
            backwards.extend(points.clone());
            let decide = |points: &[Point]| past(points, None).decide(Hlc(UNTIL), |_| false);
            let (one, other) = (decide(&points), decide(&backwards));
            let content = |decision: &Decision| match decision {
                Decision::Restore(point) => Some((point.version.clone(), point.hash)),
                _ => None,
            };
            prop_assert_eq!(std::mem::discriminant(&one), std::mem::discriminant(&other));
            prop_assert_eq!(content(&one), content(&other));
        }
    }
}

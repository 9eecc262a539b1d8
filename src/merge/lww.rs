//! Last writer wins: the greatest `(version, content hash)`, in every region, in whatever order the
//! changes arrive.

use crate::merge::version::{ContentHash, Version};

/// How a change compares with the one that holds its row key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is newer: it takes the row.
    Wins,
    /// The same change again: equal version and equal content.
    Duplicate,
    /// It loses to a version of its own origin.
    Stale,
    /// It loses to a version of another origin.
    Conflict,
    /// Equal version, other content: a producer gave one version to two changes. This one has the smaller
    /// hash and loses. (The greater one simply [wins](Verdict::Wins).)
    TwinLoses,
}

impl Verdict {
    /// The word used in metrics, logs and `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Wins => "winner",
            Verdict::Duplicate => "duplicate",
            Verdict::Stale => "stale",
            Verdict::Conflict => "conflict",
            Verdict::TwinLoses => "twin",
        }
    }
}

/// Judges `change` against `holder`. The content hash is only asked for where versions are equal, so that a
/// stale change's bytes are never read.
pub fn judge(change: &Version, change_hash: impl FnOnce() -> ContentHash, holder: &Version, holder_hash: ContentHash) -> Verdict {
    match change.cmp(holder) {
        std::cmp::Ordering::Greater => Verdict::Wins,
        std::cmp::Ordering::Less if change.origin == holder.origin => Verdict::Stale,
        std::cmp::Ordering::Less => Verdict::Conflict,
        std::cmp::Ordering::Equal => match change_hash().cmp(&holder_hash) {
            std::cmp::Ordering::Greater => Verdict::Wins,
            std::cmp::Ordering::Equal => Verdict::Duplicate,
            std::cmp::Ordering::Less => Verdict::TwinLoses,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::merge::hlc::Hlc;
    use proptest::prelude::*;

    type Stamp = (Version, ContentHash);

    /// Few distinct values, so that equal versions and equal stamps are common.
    fn stamp() -> impl Strategy<Value = Stamp> {
        (0u64..4, 0usize..3, 0u64..3, 0u64..3).prop_map(|(hlc, origin, sequence, hash)| {
            let origin = Region::new(["ap", "eu", "us"][origin]);
            // The sign bit of one sequence is set: it must compare as the greatest, not as negative.
            let sequence = if sequence == 2 { u64::MAX } else { sequence };
            (Version { hlc: Hlc(hlc), origin, sequence }, ContentHash(hash))
        })
    }

    fn merge(holder: Stamp, change: &Stamp) -> Stamp {
        match judge(&change.0, || change.1, &holder.0, holder.1) {
            Verdict::Wins => change.clone(),
            _ => holder,
        }
    }

    fn merge_all<'a>(changes: impl IntoIterator<Item = &'a Stamp>) -> Option<Stamp> {
        changes.into_iter().fold(None, |holder, change| match holder {
            None => Some(change.clone()),
            Some(holder) => Some(merge(holder, change)),
        })
    }

    proptest! {
        #[test]
        fn commutative(a in stamp(), b in stamp()) {
            prop_assert_eq!(merge(a.clone(), &b), merge(b, &a));
        }

        #[test]
        fn associative(a in stamp(), b in stamp(), c in stamp()) {
            prop_assert_eq!(merge(merge(a.clone(), &b), &c), merge(a, &merge(b, &c)));
        }

        #[test]
        fn idempotent(a in stamp()) {
            prop_assert_eq!(merge(a.clone(), &a), a);
        }

        #[test]
        fn total(a in stamp(), b in stamp()) {
            let forth = judge(&a.0, || a.1, &b.0, b.1);
            let back = judge(&b.0, || b.1, &a.0, a.1);
            let equal = forth == Verdict::Duplicate && back == Verdict::Duplicate;
            prop_assert_eq!(equal, a == b);
            prop_assert!(equal || (forth == Verdict::Wins) != (back == Verdict::Wins));
        }

        /// INV-3: any order, any duplication, any batching of one multiset gives one state.
        #[test]
        fn the_same_multiset_in_any_order_gives_the_same_state(
            changes in proptest::collection::vec(stamp(), 1..12),
            order in proptest::collection::vec((0usize..12, any::<bool>()), 0..24),
        ) {
            let mut shuffled = changes.clone();
            for (index, swap) in order {
                let index = index % changes.len();
                if swap {
                    shuffled.swap(0, index);
                } else {
                    shuffled.push(changes[index].clone());
                }
            }
            prop_assert_eq!(merge_all(&changes), merge_all(&shuffled));
            prop_assert_eq!(merge_all(&changes), changes.iter().max().cloned());
        }
    }

    #[test]
    fn a_loser_is_stale_or_a_conflict_by_its_origin() {
        let version = |hlc, origin: &str| Version { hlc: Hlc(hlc), origin: Region::new(origin), sequence: 1 };
        let judge_one = |change: &Version, holder: &Version| {
            judge(change, || unreachable!("versions differ: the content must not be read"), holder, ContentHash(0))
        };
        assert_eq!(judge_one(&version(1, "us"), &version(2, "us")), Verdict::Stale);
        assert_eq!(judge_one(&version(1, "us"), &version(2, "eu")), Verdict::Conflict);
        assert_eq!(judge_one(&version(2, "eu"), &version(2, "us")), Verdict::Conflict);
        assert_eq!(judge_one(&version(2, "us"), &version(2, "eu")), Verdict::Wins);
    }
}

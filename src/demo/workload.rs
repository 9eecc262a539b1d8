//! What the demo's writers do: a pure function of seed, count, vectors and dimension.
//!
//! Times are planned, not read from a clock: `due` says when in the course of the run a change is sent,
//! and its stamp is an offset to the run's start. So the winner of every row is known beforehand
//! (see [`oracle`](super::oracle)), however fast the run is and however its threads interleave.

use crate::record::reason::Reason;
use crate::testing::random::SplitMix64;

/// The regions and how far each one's clock is off: within what admission takes for good.
pub(super) const REGIONS: [(&str, i64); 3] = [("us", 0), ("eu", 20_000), ("ap", -15_000)];

/// The stretch of planned time over which the changes are stamped.
const SPAN_MS: i64 = 15_000;
/// How far a late change's stamp lies behind.
const LATE_MS_MAX: usize = 8_000;
/// Stamps that no region may admit: two hours off, where one hour is allowed.
const FAR_OFF_MS: i64 = 2 * 60 * 60 * 1000;

// The mix, in percent of the changes.
const BAD_PERCENT: usize = 1;
const DUPLICATE_PERCENT: usize = 15;
const STALE_PERCENT: usize = 12;
const CONFLICT_PERCENT: usize = 6;
const LATE_PERCENT: usize = 5;
const DELETE_PERCENT: usize = 6;
/// How often a vector is written in the region where it belongs.
const HOME_PERCENT: usize = 80;

/// A stamp relative to the run's start; the HLC's counter beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlannedStamp {
    pub ms: i64,
    pub counter: u16,
}

/// What is wrong with a change that every region must refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Early,
    Late,
    UnknownCollection,
    UnknownSchema,
    WrongDimension,
    NotANumber,
    CutShort,
    UpperCaseId,
    ForeignOrigin,
}

impl Flaw {
    const ALL: [Flaw; 9] = [
        Flaw::Early,
        Flaw::Late,
        Flaw::UnknownCollection,
        Flaw::UnknownSchema,
        Flaw::WrongDimension,
        Flaw::NotANumber,
        Flaw::CutShort,
        Flaw::UpperCaseId,
        Flaw::ForeignOrigin,
    ];

    pub fn reason(self) -> Reason {
        match self {
            Flaw::Early => Reason::Early,
            Flaw::Late => Reason::Late,
            Flaw::UnknownCollection => Reason::UnknownCollection,
            Flaw::UnknownSchema => Reason::UnknownSchema,
            Flaw::WrongDimension => Reason::BadDimension,
            Flaw::NotANumber => Reason::NotFinite,
            Flaw::CutShort => Reason::Malformed,
            Flaw::UpperCaseId => Reason::BadId,
            Flaw::ForeignOrigin => Reason::ForeignOrigin,
        }
    }
}

/// One record that one region's writer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedChange {
    /// When, in planned ms since the start; the run's pace stretches it.
    pub due_ms: i64,
    /// Its place in [`REGIONS`].
    pub region: usize,
    pub vector_id: u128,
    pub delete: bool,
    pub stamp: PlannedStamp,
    pub sequence: u64,
    /// Seed of vector and metadata.
    pub content: u64,
    pub flaw: Option<Flaw>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub dim: usize,
    /// In order of `due_ms`.
    pub changes: Vec<PlannedChange>,
}

impl Workload {
    pub fn generate(seed: u64, changes: usize, vectors: usize, dim: usize) -> Self {
        Self::round(seed, 0, changes, vectors, dim)
    }

    /// One of endlessly many about the same vectors: round 0 is what [`generate`](Self::generate) gives.
    pub fn round(seed: u64, round: u32, changes: usize, vectors: usize, dim: usize) -> Self {
        let mut generator = Generator::new(seed, round, changes, vectors.max(1));
        while generator.changes.len() < changes {
            generator.next();
        }
        generator.changes.truncate(changes);
        Self { dim, changes: generator.changes }
    }

    /// The planned length of the run.
    pub fn span_ms(&self) -> i64 {
        SPAN_MS
    }
}

struct Generator {
    random: SplitMix64,
    id_seed: u64,
    count: usize,
    vectors: usize,
    changes: Vec<PlannedChange>,
    /// Per region, the places of its good changes.
    sent: [Vec<usize>; REGIONS.len()],
    sequences: [u64; REGIONS.len()],
    flaws: usize,
}

impl Generator {
    fn new(seed: u64, round: u32, count: usize, vectors: usize) -> Self {
        let mut random = SplitMix64::new(seed);
        let id_seed = random.next();
        if round > 0 {
            random = SplitMix64::new(random.next() ^ u64::from(round));
        }
        let sent = Default::default();
        // Fewer changes than that are in a round, so no sequence is used twice.
        let sequences = [u64::from(round) << 24; REGIONS.len()];
        Self { random, id_seed, count, vectors, changes: Vec::with_capacity(count + 1), sent, sequences, flaws: 0 }
    }

    fn next(&mut self) {
        let mut draw = self.random.below(100);
        let mut falls_to = |percent: usize| {
            let hit = draw < percent;
            draw = draw.wrapping_sub(percent);
            hit
        };
        if falls_to(BAD_PERCENT) {
            self.bad();
        } else if falls_to(DUPLICATE_PERCENT) {
            self.duplicate();
        } else if falls_to(STALE_PERCENT) {
            self.stale();
        } else if falls_to(CONFLICT_PERCENT) {
            self.conflict();
        } else if falls_to(LATE_PERCENT) {
            self.late();
        } else {
            let delete = falls_to(DELETE_PERCENT);
            let fresh = PlannedChange { delete, ..self.fresh() };
            self.send(fresh);
        }
    }

    /// A good upsert stamped by its region's clock.
    fn fresh(&mut self) -> PlannedChange {
        let vector = self.random.below(self.vectors);
        let at_home = self.random.percent(HOME_PERCENT);
        let region = if at_home { vector % REGIONS.len() } else { self.random.below(REGIONS.len()) };
        let due_ms = self.due_ms();
        PlannedChange {
            due_ms,
            region,
            vector_id: self.vector_id(vector),
            delete: false,
            stamp: PlannedStamp { ms: due_ms + REGIONS[region].1, counter: self.random.below(4) as u16 },
            sequence: self.sequence(region),
            content: self.random.next(),
            flaw: None,
        }
    }

    /// The same record again, as a gateway sends it whose first attempt seemed to fail.
    fn duplicate(&mut self) {
        let due_ms = self.due_ms();
        match self.recent() {
            Some(earlier) => self.send(PlannedChange { due_ms, ..earlier }),
            None => self.conflict(),
        }
    }

    /// An older change of the same origin behind a newer one: two gateways appended out of order.
    fn stale(&mut self) {
        let Some(newer) = self.recent() else { return self.conflict() };
        let behind = 1 + self.random.below(500) as i64;
        let stamp = PlannedStamp { ms: newer.stamp.ms - behind, ..newer.stamp };
        let (due_ms, content) = (self.due_ms(), self.random.next());
        let sequence = self.sequence(newer.region);
        self.send(PlannedChange { due_ms, stamp, sequence, content, ..newer });
    }

    /// Two regions write one vector at once, half of the time with the very same stamp.
    fn conflict(&mut self) {
        let first = self.fresh();
        let region = (first.region + 1 + self.random.below(REGIONS.len() - 1)) % REGIONS.len();
        let apart = if self.random.percent(50) { 0 } else { self.random.below(7) as i64 - 3 };
        let second = PlannedChange {
            region,
            delete: self.random.percent(10),
            stamp: PlannedStamp { ms: first.stamp.ms + apart, ..first.stamp },
            sequence: self.sequence(region),
            content: self.random.next(),
            ..first.clone()
        };
        self.send(first);
        self.send(second);
    }

    /// Sent long after it was stamped.
    fn late(&mut self) {
        let mut change = self.fresh();
        change.stamp.ms -= self.random.below(LATE_MS_MAX) as i64;
        self.send(change);
    }

    /// Each flaw in turn, on an id of its own: whether it wins must not depend on anything else.
    fn bad(&mut self) {
        let flaw = Flaw::ALL[self.flaws % Flaw::ALL.len()];
        let mut change = self.fresh();
        change.vector_id = self.vector_id(self.vectors + self.flaws);
        change.flaw = Some(flaw);
        match flaw {
            Flaw::Early => change.stamp.ms += FAR_OFF_MS,
            Flaw::Late => change.stamp.ms -= FAR_OFF_MS,
            _ => {}
        }
        self.flaws += 1;
        self.changes.push(change);
    }

    fn send(&mut self, change: PlannedChange) {
        self.sent[change.region].push(self.changes.len());
        self.changes.push(change);
    }

    /// One of the last good changes of some region.
    fn recent(&mut self) -> Option<PlannedChange> {
        let region = self.random.below(REGIONS.len());
        let back = 1 + self.random.below(50);
        let place = self.sent[region].len().checked_sub(back)?;
        Some(self.changes[self.sent[region][place]].clone())
    }

    fn due_ms(&self) -> i64 {
        (self.changes.len() as i64 * SPAN_MS) / (self.count.max(1) as i64)
    }

    fn sequence(&mut self, region: usize) -> u64 {
        self.sequences[region] += 1;
        ((region as u64 + 1) << 48) | self.sequences[region]
    }

    fn vector_id(&self, vector: usize) -> u128 {
        let mut random = SplitMix64::new(self.id_seed ^ vector as u64);
        u128::from(random.next()) << 64 | u128::from(random.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_is_a_workload_and_another_seed_another_one() {
        let workload = Workload::generate(7, 1_000, 100, 4);
        assert_eq!(workload, Workload::generate(7, 1_000, 100, 4));
        assert_ne!(workload, Workload::generate(8, 1_000, 100, 4));
        assert_eq!(workload.changes.len(), 1_000);
    }

    #[test]
    fn rounds_differ_and_are_about_the_same_vectors() {
        let ids = |round| {
            let workload = Workload::round(7, round, 1_000, 20, 4);
            let good = workload.changes.iter().filter(|change| change.flaw.is_none());
            good.map(|change| change.vector_id).collect::<HashSet<u128>>()
        };
        assert_eq!(ids(0), ids(3));
        let counters = |round| {
            let changes = Workload::round(7, round, 1_000, 20, 4).changes;
            changes.into_iter().map(|change| change.sequence & ((1 << 48) - 1)).collect::<HashSet<u64>>()
        };
        assert!(counters(0).is_disjoint(&counters(1)));
        assert_ne!(Workload::round(7, 1, 1_000, 20, 4).changes, Workload::round(7, 2, 1_000, 20, 4).changes);
    }

    #[test]
    fn no_version_is_given_to_two_different_changes() {
        let workload = Workload::generate(3, 5_000, 200, 4);
        let mut versions = std::collections::HashMap::new();
        for change in &workload.changes {
            let version = (change.vector_id, change.region, change.sequence);
            let content = (change.content, change.delete, change.stamp);
            assert_eq!(*versions.entry(version).or_insert(content), content);
        }
        assert!(versions.len() < workload.changes.len(), "there are duplicates");
    }

    /// The winner must not hang on real time: only stamps far off the bounds may be refused.
    #[test]
    fn good_stamps_are_admissible_at_any_pace_up_to_half_an_hour_and_far_off_ones_never_are() {
        let workload = Workload::generate(5, 5_000, 200, 4);
        for change in &workload.changes {
            for appended_ms in [0, 1_800_000] {
                let lateness = appended_ms - change.stamp.ms;
                let admissible = (-60_000..=3_600_000).contains(&lateness);
                let refused = matches!(change.flaw, Some(Flaw::Early | Flaw::Late));
                assert_eq!(admissible, !refused, "{change:?}");
            }
        }
    }

    #[test]
    fn every_flaw_occurs_on_an_id_of_its_own() {
        let workload = Workload::generate(5, 5_000, 200, 4);
        let (bad, good): (Vec<_>, Vec<_>) = workload.changes.iter().partition(|change| change.flaw.is_some());
        let good_ids: HashSet<u128> = good.iter().map(|change| change.vector_id).collect();
        assert!(bad.iter().all(|change| !good_ids.contains(&change.vector_id)));
        assert!(Flaw::ALL.iter().all(|flaw| bad.iter().any(|change| change.flaw == Some(*flaw))));
    }
}

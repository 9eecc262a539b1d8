//! What a partition lacks: records that were deleted before they were settled, and the resync that brings what they
//! said from a peer. It rides in the progress record, so that a restart forgets none of it and no region takes an
//! incomplete partition for the truth.

use crate::store::progress::Gap;

#[derive(Debug, Default)]
pub struct Completeness {
    /// One for each topic at most: a second one widens it.
    gaps: Vec<Gap>,
    resync_from: Option<String>,
}

impl Completeness {
    pub fn new(gaps: Vec<Gap>, resync_from: Option<String>) -> Self {
        let mut completeness = Self { gaps: Vec::new(), resync_from };
        for gap in gaps {
            completeness.lacks(gap);
        }
        completeness
    }

    pub fn lacks(&mut self, gap: Gap) {
        match self.gaps.iter_mut().find(|known| known.topic == gap.topic) {
            Some(known) => (known.from, known.until) = (known.from.min(gap.from), known.until.max(gap.until)),
            None => self.gaps.push(gap),
        }
    }

    /// A resync begins; what it is to fill is known to it.
    pub fn resync_begun(&mut self, peer: String) {
        self.resync_from = Some(peer);
    }

    /// What lay in these gaps is here now. One that has become wider since stays.
    pub fn resync_ended(&mut self, filled: &[Gap]) {
        self.resync_from = None;
        self.gaps.retain(|gap| !filled.contains(gap));
    }

    /// Nothing is lacking, as far as is known here, and nothing is being brought: what is not known here was never
    /// said.
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.resync_from.is_none()
    }

    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    pub fn resync_from(&self) -> Option<&str> {
        self.resync_from.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: i64, until: i64) -> Gap {
        Gap { topic: "us.vector-cdc".to_owned(), from, until }
    }

    #[test]
    fn a_gap_that_has_become_wider_while_it_was_filled_stays() {
        let mut partition = Completeness::new(vec![gap(5, 9)], None);
        partition.resync_begun("us".to_owned());
        let known = partition.gaps().to_vec();
        partition.lacks(gap(20, 30));
        partition.resync_ended(&known);
        assert_eq!((partition.gaps(), partition.resync_from()), (&[gap(5, 30)][..], None));
        partition.resync_ended(&[gap(5, 30)]);
        assert!(partition.gaps().is_empty());
    }
}

//! How far a region is behind each origin, as a table of source regions and stages: looked up in the region's log alone
//! ([`outside`]), so that it needs no worker, or put together from what workers tell ([`told`]).
//!
//! Of a region's partitions the worst counts, stage by stage; records behind are added up.

pub mod outside;
pub mod told;

use serde::Serialize;
use std::collections::BTreeMap;

/// By the names of their stages, in their order: where a change is, and what that says.
pub type Stages = &'static [&'static str];

/// What one look has found.
#[derive(Debug, Clone, Serialize)]
pub struct LagTable {
    #[serde(skip)]
    pub stages: Stages,
    /// In Unix ms.
    pub at_ms: i64,
    pub sources: Vec<SourceLag>,
}

/// One origin's changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceLag {
    pub source: String,
    /// By stage, in ms; a stage that nothing is known of is left out.
    pub lag_ms: BTreeMap<&'static str, i64>,
    /// Heartbeats included.
    pub records_behind: i64,
    pub partitions: usize,
    /// Those whose newest heartbeat is more than two intervals old.
    pub silent_partitions: usize,
    /// Those that nothing has ever been heard or settled of.
    pub unknown_partitions: usize,
    /// By how much the origin's clock is ahead, at least and at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<[i64; 2]>,
    /// How often heartbeats have shown that something before them never came; only workers know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<u64>,
}

impl SourceLag {
    fn of(source: &str) -> Self {
        Self { source: source.to_owned(), ..Self::default() }
    }

    /// A partition's lag at a stage: the worst one counts.
    fn note(&mut self, stage: &'static str, lag_ms: i64) {
        let held = self.lag_ms.entry(stage).or_insert(lag_ms);
        *held = lag_ms.max(*held);
    }
}

//! The last ten minutes: for each link its lag, and how many rows took how long, a column a second.

use super::links::{LinkView, StageLags};
use crate::base::ids::Region;
use crate::base::time::UnixMs;
use crate::task::metrics::{LATENCY_BOUNDS_MS, Latencies};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// At one each second, ten minutes.
pub const COLUMNS_MAX: usize = 600;

const CLASSES: usize = LATENCY_BOUNDS_MS.len() + 1;

/// Its numbers are by link, in the order of [`History::links`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    pub tick: u64,
    pub at_ms: i64,
    /// Polled, merged, acknowledged; none if nothing is known of the link.
    pub lag_ms: Vec<Option<[i64; 3]>>,
    /// Rows acknowledged since the column before, by class of latency; none if there were none.
    pub rows: Vec<Option<[u64; CLASSES]>>,
}

#[derive(Debug, Default)]
pub struct History {
    /// `(from, to)`, fixed by the first look.
    links: Vec<(Region, Region)>,
    before: BTreeMap<(Region, Region), Latencies>,
    columns: VecDeque<Column>,
}

#[derive(Serialize)]
pub struct HistoryView<'a> {
    pub links: &'a [(Region, Region)],
    /// Of the classes of latency, in ms; the last class has none.
    pub bounds_ms: [u64; CLASSES - 1],
    pub columns: Vec<&'a Column>,
}

impl History {
    /// `totals`: of a link, all rows that were ever acknowledged.
    pub fn note(&mut self, tick: u64, now: UnixMs, links: &[LinkView], totals: impl Fn(&LinkView) -> Latencies) {
        if self.links.is_empty() {
            self.links = links.iter().map(|link| (link.from.clone(), link.to.clone())).collect();
        }
        let mut column = Column { tick, at_ms: now.0, lag_ms: Vec::new(), rows: Vec::new() };
        for (from, to) in &self.links {
            let link = links.iter().find(|link| link.from == *from && link.to == *to);
            let lags = link.and_then(|link| link.lag_ms);
            column.lag_ms.push(lags.map(|StageLags { polled, merged, acknowledged }| [polled, merged, acknowledged]));
            let total = link.map(&totals).unwrap_or_default();
            // The first look is no second's work.
            let before = self.before.insert((from.clone(), to.clone()), total).unwrap_or(total);
            column.rows.push(difference(total, before));
        }
        if self.columns.len() == COLUMNS_MAX {
            self.columns.pop_front();
        }
        self.columns.push_back(column);
    }

    pub fn all(&self) -> HistoryView<'_> {
        self.view(self.columns.iter().collect())
    }

    pub fn newest(&self) -> HistoryView<'_> {
        self.view(self.columns.back().into_iter().collect())
    }

    fn view<'a>(&'a self, columns: Vec<&'a Column>) -> HistoryView<'a> {
        HistoryView { links: &self.links, bounds_ms: LATENCY_BOUNDS_MS, columns }
    }
}

fn difference(now: Latencies, before: Latencies) -> Option<[u64; CLASSES]> {
    let mut rows = [0; CLASSES];
    for (class, row) in rows.iter_mut().enumerate() {
        // Less than before: a task took its totals with it.
        *row = now.0[class].saturating_sub(before.0[class]);
    }
    (rows != [0; CLASSES]).then_some(rows)
}

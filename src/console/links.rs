//! A link: what a region hears of one origin, over all partitions that it holds. A region's own topic is one, too.

use super::plant::{Observation, RegionObserved};
use crate::base::ids::Region;
use crate::base::time::UnixMs;
use crate::stream::report::SourceReport;
use crate::task::lag::Stage;
use serde::Serialize;

/// Lags by stage in ms; each stage's includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StageLags {
    pub polled: i64,
    pub merged: i64,
    pub acknowledged: i64,
}

/// Between which two moments of a change most of the lag lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// Appended at the origin and not polled here: MirrorMaker, the network, the local log.
    Link,
    /// Polled and not judged: our own work.
    Merge,
    /// Judged and not acknowledged: the vector store, the changelogs.
    Sink,
}

impl StageLags {
    pub fn worst_leg(self) -> Leg {
        let (link, merge, sink) = (self.polled, self.merged - self.polled, self.acknowledged - self.merged);
        if link >= merge && link >= sink {
            Leg::Link
        } else if sink >= merge {
            Leg::Sink
        } else {
            Leg::Merge
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkView {
    pub from: Region,
    pub to: Region,
    /// Cut by hand or not; unknown where the link is not ours.
    pub up: Option<bool>,
    /// The worst partition's; none if nothing was ever heard of the origin.
    pub lag_ms: Option<StageLags>,
    /// Where most of the lag lies.
    pub leg: Option<Leg>,
    /// Partitions of it that this process holds.
    pub partitions: usize,
    /// Those of which neither a heartbeat has come for two intervals nor anything else.
    pub silent: usize,
    /// Those whose topic is not there.
    pub absent: usize,
    /// Polled and not settled.
    pub open_records: usize,
    /// Holes in what came: records were deleted before they were read.
    pub gaps: u64,
    /// By how much the origin's clock is ahead of ours, at least and at most.
    pub clock_ahead_ms: Option<[i64; 2]>,
    /// In what the origin says that it is configured otherwise.
    pub disagreements: Vec<String>,
}

/// Of every region of this process, by the origins that it knows.
pub fn links(observation: &Observation, origins: &[Region]) -> Vec<LinkView> {
    let mut links = Vec::new();
    for to in &observation.regions {
        for from in origins {
            let up = observation.links.iter().find(|link| link.from == *from && link.to == to.region).map(|link| link.up);
            links.push(link(from, to, up, observation.now));
        }
    }
    links
}

fn link(from: &Region, to: &RegionObserved, up: Option<bool>, now: UnixMs) -> LinkView {
    let mut view = LinkView {
        from: from.clone(),
        to: to.region.clone(),
        up,
        lag_ms: None,
        leg: None,
        partitions: 0,
        silent: 0,
        absent: 0,
        open_records: 0,
        gaps: 0,
        clock_ahead_ms: None,
        disagreements: Vec::new(),
    };
    let sources = to.report.tasks.iter().flat_map(|task| &task.sources);
    for source in sources.filter(|source| source.region == from.as_str()) {
        view.partitions += 1;
        view.silent += usize::from(source.heartbeat_overdue && source.lag.is_quiet(now));
        view.absent += usize::from(!source.present);
        view.open_records += source.open_records;
        view.gaps += source.gaps;
        view.note_lag(source);
        view.note_clock(source.clock_ahead_ms);
        let new = source.disagreements.iter().filter(|sentence| !view.disagreements.contains(sentence)).cloned();
        let new: Vec<String> = new.collect();
        view.disagreements.extend(new);
    }
    view.leg = view.lag_ms.map(StageLags::worst_leg);
    view
}

impl LinkView {
    pub fn is_own(&self) -> bool {
        self.from == self.to
    }

    fn note_lag(&mut self, source: &SourceReport) {
        let of = |stage: Stage| source.lag_ms.get(stage.name()).copied();
        let (Some(polled), Some(merged), Some(acknowledged)) = (of(Stage::Polled), of(Stage::Merged), of(Stage::Acknowledged))
        else {
            return;
        };
        let worst = self.lag_ms.unwrap_or_default();
        self.lag_ms = Some(StageLags {
            polled: worst.polled.max(polled),
            merged: worst.merged.max(merged),
            acknowledged: worst.acknowledged.max(acknowledged),
        });
    }

    /// What all partitions allow; a clock that was set meanwhile leaves the last word to the last of them.
    fn note_clock(&mut self, bounds: Option<[i64; 2]>) {
        let Some([least, most]) = bounds else { return };
        let both = self.clock_ahead_ms.map(|[held_least, held_most]| [held_least.max(least), held_most.min(most)]);
        self.clock_ahead_ms = Some(both.filter(|[least, most]| least <= most).unwrap_or([least, most]));
    }
}

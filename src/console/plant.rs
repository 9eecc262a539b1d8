//! What a console looks at.

use crate::base::ids::Region;
use crate::base::time::UnixMs;
use crate::stream::report::ThreadReport;
use serde::Serialize;

/// What does not change while the process lives.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub mode: Mode,
    /// `driftless --version` says the same.
    pub version: &'static str,
    pub application: String,
    /// The topology as `driftless topology describe --json` prints it.
    pub topology: serde_json::Value,
    /// The regions that there are by the configuration, those of this process first.
    pub regions: Vec<Region>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One region's share of the work.
    Worker,
    /// Every region, in one process.
    Demo,
}

/// One look.
#[derive(Debug, Clone)]
pub struct Observation {
    pub now: UnixMs,
    /// The regions that run in this process.
    pub regions: Vec<RegionObserved>,
    /// The links that this process itself keeps: none of a worker's.
    pub links: Vec<LinkObserved>,
}

#[derive(Debug, Clone)]
pub struct RegionObserved {
    pub region: Region,
    /// Of all its threads together, with its lags reckoned for now.
    pub report: ThreadReport,
    /// Rows in its vector store, where that is known without asking it.
    pub rows: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkObserved {
    pub from: Region,
    pub to: Region,
    pub up: bool,
}

/// Looks at the process.
pub trait Plant: Send + Sync {
    fn observe(&self) -> Observation;
}

/// Cuts links and heals them. Only the demo can.
pub trait Switchboard: Send + Sync {
    /// Answers what happened, as a sentence; `None` if there is no such link.
    fn switch(&self, from: &str, to: &str, up: bool) -> Option<String>;
}

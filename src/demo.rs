//! `driftless demo`: three regions in one process, under trouble, and the proof that they end up the same.
//!
//! The engine is the real one: a [`worker`] runs the production stream thread over the embedded log and
//! vector store. Everything else here is its surroundings: the [`workload`] that [`writer`]s send, the
//! [`network`] between the regions, the [`oracle`] and the [`verdict`]. [`serve`] runs the same regions until it is
//! stopped, to be looked at.

mod board;
mod content;
mod network;
mod oracle;
mod pace;
mod report;
mod retention;
mod run;
mod serve;
mod status;
mod verdict;
mod view;
mod worker;
mod workload;
mod world;
mod writer;

pub use report::{Counts, PairReport, RegionReport, Report};
pub use run::run;
pub use serve::serve;
pub use view::is_page;

use crate::adapter::embedded::broker::BrokerError;
use std::io;
use std::net::SocketAddr;

/// What to run. The changes are a function of `seed`, `changes`, `vectors` and `dim` alone; `seconds` paces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    pub seed: u64,
    pub changes: usize,
    pub vectors: usize,
    pub dim: usize,
    /// How long the writers write; the regions settle within a moment after that.
    pub seconds: u64,
    /// The report is for a machine: progress goes in plain lines. (The caller prints the report.)
    pub json: bool,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { seed: 1, changes: 20_000, vectors: 2_000, dim: 64, seconds: 15, json: false }
    }
}

/// Up to here the planned stamps are admissible whatever the pace: see [`workload`].
pub const SECONDS_MAX: u64 = 1_800;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("--{option} {given} is out of range: choose from {from} to {to}")]
    OutOfRange { option: &'static str, given: u64, from: u64, to: u64 },
    #[error("interrupted")]
    Interrupted,
    #[error("a worker or writer of the demo failed: {0}")]
    Failed(String),
    #[error("the embedded log refused: {0}")]
    Broker(#[from] BrokerError),
    #[error("--serve {listen}: {error}; name a free address of this machine, such as 127.0.0.1:0")]
    Listen { listen: SocketAddr, error: io::Error },
    #[error("the terminal can't be used: {0}; redirect standard error to get plain lines")]
    Terminal(#[from] io::Error),
}

impl DemoError {
    pub fn exit_code(&self) -> u8 {
        match self {
            DemoError::OutOfRange { .. } | DemoError::Listen { .. } => 2,
            DemoError::Interrupted => 130,
            DemoError::Failed(_) | DemoError::Broker(_) | DemoError::Terminal(_) => 1,
        }
    }
}

impl DemoOptions {
    fn check(&self) -> Result<(), DemoError> {
        let ranges = [
            ("changes", self.changes as u64, 1, 10_000_000),
            ("vectors", self.vectors as u64, 1, 10_000_000),
            ("dim", self.dim as u64, 1, 32_768),
            ("seconds", self.seconds, 1, SECONDS_MAX),
        ];
        for (option, given, from, to) in ranges {
            if !(from..=to).contains(&given) {
                return Err(DemoError::OutOfRange { option, given, from, to });
            }
        }
        Ok(())
    }
}

//! What a roll-back goes on with: its R above all.

use super::Undo;
use crate::merge::hlc::Hlc;
use crate::ops::job::JobFile;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// R, as an HLC.
    pub until: u64,
    pub writer: u16,
    pub stamps: Vec<u64>,
}

impl Job {
    pub fn new(until: Hlc, writer: u16) -> Self {
        Self { until: until.0, writer, stamps: vec![until.0] }
    }

    pub fn stamps(&self) -> Vec<Hlc> {
        self.stamps.iter().map(|stamp| Hlc(*stamp)).collect()
    }
}

/// The same for the same question; R is no part of it.
pub fn file_of(state_dir: &Path, undo: &Undo) -> JobFile {
    let request = format!("{}|{:?}|{:?}|{:?}", undo.to, undo.collections, undo.origin, undo.marked);
    JobFile::of(state_dir, "rollback", &request)
}

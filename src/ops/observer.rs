//! Whoever looks on while a long command works: told how far it is, asked whether it should go on.

use crate::base::error::Result;
use crate::base::time::Clock;
use std::time::Duration;

/// How far a command over all partitions is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Of the partitions of all shards.
    pub partition: usize,
    pub partitions: usize,
    /// `reading the changelogs`
    pub doing: &'static str,
    /// What is done in this partition, and of how much.
    pub done: u64,
    pub of: u64,
    /// Bytes that have come from the peer so far.
    pub bytes: u64,
}

pub trait Observer {
    /// Called often. An error ends the command: somebody wants it to stop.
    fn at(&mut self, step: &Step) -> Result<()>;

    /// The command waits for a worker to go on; returns after a moment.
    fn wait(&mut self, step: &Step) -> Result<()>;
}

/// Waits until something is so, at most for `patience`. False: it is not so yet.
pub(super) fn wait_until(
    clock: &dyn Clock,
    patience: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
    mut wait: impl FnMut() -> Result<()>,
) -> Result<bool> {
    let begun = clock.now().monotonic;
    loop {
        if is_so()? {
            return Ok(true);
        }
        if clock.now().monotonic.saturating_sub(begun) >= patience {
            return Ok(false);
        }
        wait()?;
    }
}

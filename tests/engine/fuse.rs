//! Kills a worker between two of its steps: the port call at which the fuse blows, and each one after it, does
//! nothing any more. What the calls before it had handed over stays with the outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone)]
pub struct Fuse {
    burnt: Arc<AtomicU64>,
    length: Arc<AtomicU64>,
}

impl Fuse {
    pub fn endless() -> Self {
        Self::after(u64::MAX)
    }

    /// `steps` steps take place, then none.
    pub fn after(steps: u64) -> Self {
        Self { burnt: Arc::default(), length: Arc::new(AtomicU64::new(steps)) }
    }

    /// Takes one step with an effect outside. False: the process is dead.
    pub fn step(&self) -> bool {
        if self.has_blown() {
            return false;
        }
        self.burnt.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub fn has_blown(&self) -> bool {
        self.steps() >= self.length.load(Ordering::Relaxed)
    }

    pub fn steps(&self) -> u64 {
        self.burnt.load(Ordering::Relaxed)
    }
}

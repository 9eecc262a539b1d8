//! What the run's threads tell each other: how far each is, and that something has changed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Incident {
    pub at: Duration,
    pub what: String,
}

#[derive(Default)]
pub(super) struct BoardState {
    pub sent: usize,
    /// Links that were cut while there was something to carry, and healed.
    pub cuts: u64,
    /// What happened and when in the run, oldest first.
    pub events: Vec<Incident>,
    pub failure: Option<String>,
    version: u64,
}

#[derive(Default)]
pub(super) struct Board {
    state: Mutex<BoardState>,
    changed: Condvar,
}

impl Board {
    pub fn read(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sent_one(&self) {
        self.read().sent += 1;
    }

    pub fn healed(&self, held_back: i64) {
        self.change(|state| state.cuts += u64::from(held_back > 0));
    }

    pub fn event(&self, at: Duration, what: String) {
        self.change(|state| state.events.push(Incident { at, what }));
    }

    /// Takes a thread's result. The first failure counts: others follow from it.
    pub fn note<E: ToString>(&self, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.change(|state| {
                state.failure.get_or_insert_with(|| error.to_string());
            });
        }
    }

    pub fn changed(&self) {
        self.change(|_| {});
    }

    /// Waits for a change after `seen`; answers the version that there is now.
    pub fn wait(&self, seen: u64, at_most: Duration) -> u64 {
        let waited = self.changed.wait_timeout_while(self.read(), at_most, |state| state.version == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.version
    }

    fn change(&self, act: impl FnOnce(&mut BoardState)) {
        let mut state = self.read();
        act(&mut state);
        state.version += 1;
        drop(state);
        self.changed.notify_all();
    }
}

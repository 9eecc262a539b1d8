//! What happened, in order: as a digest always, as text when somebody wants to read it.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3Default;

/// How much text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Last(usize),
    All,
}

struct State {
    keep: Keep,
    digest: Xxh3Default,
    lines: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
}

/// Shared by everything in a world. A cheap handle.
#[derive(Clone)]
pub(super) struct Trace(Arc<Mutex<State>>);

/// A safety property that was seen broken.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// The checker's name.
    pub check: &'static str,
    /// Virtual ms since the beginning.
    pub at_ms: u64,
    pub detail: String,
}

impl Trace {
    pub fn new(keep: Keep) -> Self {
        Self(Arc::new(Mutex::new(State { keep, digest: Xxh3Default::new(), lines: VecDeque::new(), counts: BTreeMap::new() })))
    }

    /// One event. `numbers` are what makes it this one, for the digest; `text` is asked for only if it is kept.
    pub fn note(&self, at: Duration, kind: &'static str, numbers: &[u64], text: impl FnOnce() -> String) {
        let mut state = self.lock();
        state.digest.update(kind.as_bytes());
        state.digest.update(&(at.as_millis() as u64).to_le_bytes());
        for number in numbers {
            state.digest.update(&number.to_le_bytes());
        }
        if state.keep == Keep::Nothing {
            return;
        }
        let line = format!("{:>9.3} s  {kind:<22} {}", at.as_secs_f64(), text());
        state.lines.push_back(line);
        if let Keep::Last(count) = state.keep
            && state.lines.len() > count
        {
            state.lines.pop_front();
        }
    }

    /// Something that must have happened now and then for a run to be worth anything.
    pub fn count(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.lock().counts.entry(what).or_default() += times;
        }
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    pub fn digest(&self) -> u64 {
        self.lock().digest.digest()
    }

    pub fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lines).into()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where checkers leave what they have found. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(super) struct Violations(Arc<Mutex<Vec<Violation>>>);

impl Violations {
    /// More than a few of one run say no more than the first ones.
    const KEPT_MAX: usize = 20;

    pub fn add(&self, check: &'static str, at: Duration, detail: impl Into<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < Self::KEPT_MAX {
            found.push(Violation { check, at_ms: at.as_millis() as u64, detail: detail.into() });
        }
    }

    pub fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn take(&self) -> Vec<Violation> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

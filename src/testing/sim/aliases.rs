//! Aliases of a vector store that may turn back: Milvus' proxies, told to forget an alias before it is altered, may
//! learn the old collection again, and keep it.

use super::scenario::FaultKind;
use super::trace::Trace;
use crate::adapter::embedded::vector::{Database, EmbeddedCollections};
use crate::base::error::Result;
use crate::port::vector::VectorAdmin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
struct State {
    /// So many of the next swaps turn back.
    turns_left: u64,
    /// How long each of them takes.
    after: Duration,
    /// When, which alias, and to which collection.
    to_come: Vec<(Duration, String, String)>,
}

/// One region's. A cheap handle.
#[derive(Clone)]
pub(super) struct SimAliases {
    database: Arc<Database>,
    state: Arc<Mutex<State>>,
}

impl SimAliases {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database, state: Arc::default() }
    }

    pub fn arm(&self, turns: u64, after: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.turns_left, state.after) = (turns, after);
    }

    pub fn disarm(&self) {
        self.arm(0, Duration::ZERO);
    }

    pub fn point(&self, name: &str, physical: &str, now: Duration) -> Result<()> {
        let mut collections = EmbeddedCollections(self.database.clone());
        let before = collections.alias(name)?;
        collections.point_alias(name, physical)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before.filter(|before| before != physical && state.turns_left > 0) {
            state.turns_left -= 1;
            let at = now + state.after;
            state.to_come.push((at, name.to_owned(), before));
        }
        Ok(())
    }

    /// Who asks what an alias reaches hears of a turn that is about to come: so the port has it.
    pub fn reaches(&self, name: &str, physical: &str, trace: &Trace) -> Result<bool> {
        self.turn(Duration::MAX, trace);
        EmbeddedCollections(self.database.clone()).reaches(name, physical)
    }

    /// When one turns next.
    pub fn due(&self) -> Option<Duration> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).to_come.iter().map(|(at, ..)| *at).min()
    }

    /// Those that are due turn back.
    pub fn turn(&self, now: Duration, trace: &Trace) {
        let due: Vec<_> =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).to_come.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, name, before) in due {
            // It may be dropped already: then nobody can turn back to it.
            if EmbeddedCollections(self.database.clone()).point_alias(&name, &before).is_ok() {
                trace.count(FaultKind::AliasTurnsBack.name(), 1);
            }
        }
    }
}

//! A worker that is killed or stopped between two of its effects, in the middle of a round.

use super::clock::NodeClock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens at the chosen effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// kill -9: this effect and all after it do not happen.
    Kill,
    /// SIGSTOP right before this effect: it, and what the round does after it, happens so much later.
    Pause(Duration),
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(u64, Blow)>,
    struck: Option<Blow>,
}

/// Counts the effects of one worker; shared by its ports.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    state: Arc<Mutex<State>>,
    clock: NodeClock,
}

impl Interrupt {
    pub fn new(clock: NodeClock) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// Strikes at the effect after the next `effects` ones.
    pub fn arm(&self, effects: u64, blow: Blow) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).armed = Some((effects, blow));
    }

    pub fn disarm(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).armed = None;
    }

    /// To be asked before each effect: does it still happen?
    pub fn allows(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.armed {
            Some((0, blow)) => {
                let blow = *blow;
                state.armed = None;
                state.struck = Some(blow);
                if let Blow::Pause(span) = blow {
                    self.clock.set_ahead(span);
                }
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        state.struck != Some(Blow::Kill)
    }

    /// How much later than now an effect happens.
    pub fn delay(&self) -> Duration {
        self.clock.ahead()
    }

    /// What struck in the round that has ended, if anything did.
    pub fn take_struck(&self) -> Option<Blow> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).struck.take()
    }
}

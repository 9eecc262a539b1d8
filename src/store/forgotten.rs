//! Which keys were forgotten, and up to which version: a null in the changelog says it, and a former owner that has not
//! read it may still put something older behind it. Remembered in memory for as long as the log itself remembers it.

use crate::base::ids::RowKey;
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

#[derive(Debug)]
pub struct Forgotten {
    horizon: Duration,
    up_to: HashMap<RowKey, Mark>,
    /// Keys forgotten since the last position was told, and before it by position.
    fresh: Vec<RowKey>,
    aged: VecDeque<(u64, UnixMs, Vec<RowKey>)>,
    generation: u64,
}

#[derive(Debug)]
struct Mark {
    version: Version,
    generation: u64,
}

impl Forgotten {
    pub fn new(horizon: Duration) -> Self {
        Self { horizon, up_to: HashMap::new(), fresh: Vec::new(), aged: VecDeque::new(), generation: 0 }
    }

    pub fn get(&self, key: &RowKey) -> Option<&Version> {
        // Nearly always there is none, and a restore asks for every key.
        if self.up_to.is_empty() {
            return None;
        }
        self.up_to.get(key).map(|mark| &mark.version)
    }

    pub fn remember(&mut self, key: &RowKey, version: &Version) {
        let version = match self.up_to.get(key) {
            Some(known) if known.version > *version => known.version.clone(),
            _ => version.clone(),
        };
        self.up_to.insert(key.clone(), Mark { version, generation: self.generation });
        self.fresh.push(key.clone());
    }

    /// Something newer was put.
    pub fn lift(&mut self, key: &RowKey) {
        if !self.up_to.is_empty() {
            self.up_to.remove(key);
        }
    }

    /// The log has come to this time: what is older than the horizon is dropped.
    pub fn age(&mut self, at: UnixMs) {
        if !self.fresh.is_empty() {
            self.aged.push_back((self.generation, at, std::mem::take(&mut self.fresh)));
            self.generation += 1;
        }
        let oldest = at.minus(self.horizon);
        while self.aged.front().is_some_and(|(_, then, _)| *then < oldest) {
            let Some((generation, _, keys)) = self.aged.pop_front() else { break };
            for key in keys {
                if self.up_to.get(&key).is_some_and(|mark| mark.generation == generation) {
                    self.up_to.remove(&key);
                }
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.horizon);
    }

    pub fn len(&self) -> usize {
        self.up_to.len()
    }

    pub fn is_empty(&self) -> bool {
        self.up_to.is_empty()
    }
}

//! INV-2: within one life of a task the versions of a row only grow on their way to the vector store, and one batch
//! of a collection is under way at a time.

use crate::base::ids::{CollectionId, VectorId};
use crate::merge::version::Version;
use crate::port::vector::RowBatch;
use crate::task::command::{Purpose, Token};
use crate::testing::sim::trace::Violations;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Worker, life, collection.
type Sender = (u64, u32, CollectionId);

pub(super) struct KeyOrder {
    violations: Violations,
    sent: HashMap<(Sender, VectorId), Version>,
    under_way: HashSet<Sender>,
}

impl KeyOrder {
    pub fn new(violations: Violations) -> Self {
        Self { violations, sent: HashMap::new(), under_way: HashSet::new() }
    }

    pub fn batch_sent(&mut self, now: Duration, worker: u64, token: u64, collection: CollectionId, batch: &RowBatch) {
        let Some(token) = Token::unpack(token) else {
            return self.violations.add(
                "key order",
                now,
                format!("worker {worker} sent a batch with the unknown token {token:#x}"),
            );
        };
        let sender = (worker, token.life, collection);
        if !self.under_way.insert(sender) {
            let detail =
                format!("worker {worker}, life {}: a second batch of collection {} is under way", token.life, collection.0);
            self.violations.add("key order", now, detail);
        }
        let mut seen = HashSet::new();
        for id in batch.ids.iter().chain(&batch.deletes) {
            if !seen.insert(id) {
                self.violations.add("key order", now, format!("worker {worker}: {id} is in one batch twice"));
            }
        }
        for (id, version) in batch.ids.iter().zip(&batch.versions) {
            let last = self.sent.entry((sender, id.clone())).or_insert_with(|| version.clone());
            if *version < *last {
                let detail = format!("worker {worker}, life {}: {id} {version} after {last}", token.life);
                self.violations.add("key order", now, detail);
            }
            *last = version.clone();
        }
    }

    pub fn answered(&mut self, worker: u64, token: u64) {
        // Reads are answered under tokens of their own.
        if let Some(token) = Token::unpack(token).filter(|token| token.purpose == Purpose::Batch) {
            self.under_way.remove(&(worker, token.life, CollectionId(token.id as u16)));
        }
    }
}

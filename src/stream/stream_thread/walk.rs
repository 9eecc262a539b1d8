//! The thread's walk through the vector store's rows: asked for when there is time, its rows handed to their tasks.

use super::{Slot, StreamThread};
use crate::base::ids::{CollectionId, ID_TEXT_BYTES, TaskId};
use crate::base::time::Now;
use crate::port::vector::{StoreError, StoreReply, StoreResponse, StoredVersion};
use crate::region::partitioner::partition_for_key;
use crate::task::command::{Purpose, Token};
use crate::task::stream_task::StreamTask;
use std::time::Duration;

/// No task's life: they begin with 1.
const NO_LIFE: u32 = 0;
/// With one topic a collection, a row's partition says whose it is. With several shards nothing in the row says which
/// one it came by, and what is a stranger to all but one would be deleted by the others.
const SHARD: u16 = 0;

impl StreamThread {
    /// It walks where rows can be judged: all of them come by one shard, and through a topology that remembers versions.
    fn may_walk(&self) -> bool {
        let judged = self.settings.topics.shards() == 1 && !self.topology.stores.is_empty();
        judged && !self.stopping && self.slots.values().any(|slot| matches!(slot, Slot::Active { .. }))
    }

    pub(super) fn walk_due(&self) -> Option<Duration> {
        self.walk.due().filter(|_| self.may_walk())
    }

    pub(super) fn walk_rows(&mut self, now: Now) {
        if !self.may_walk() {
            return;
        }
        let busy = !self.commands.is_empty() || self.full_since.is_some();
        if let Some((collection, request)) = self.walk.next(now, busy) {
            let token = Token { life: NO_LIFE, purpose: Purpose::Walk, id: u32::from(collection.0) };
            self.ports.vectors.submit(collection, request, token.pack());
        }
    }

    pub(super) fn walk_answered(&mut self, response: StoreResponse, now: Now) {
        match response.outcome {
            Ok(StoreReply::Scanned(page)) => {
                let known = self.rows_known();
                let Some(step) = self.walk.read(page, known, now) else { return };
                if step.began {
                    self.for_each_active(|task| task.walk_began(step.collection));
                }
                for row in step.rows {
                    self.hand_over(step.collection, row, now);
                }
                if let Some(end) = step.ended {
                    self.for_each_active(|task| task.walk_ended(step.collection, end.unversioned));
                }
            }
            Ok(other) => {
                tracing::error!(?other, "the walk through the rows was answered with something else");
                self.walk.failed(now);
            }
            Err(error) => {
                match error {
                    StoreError::Throttled(_) | StoreError::Unavailable(_) => {
                        tracing::debug!(%error, "the walk through the rows waits")
                    }
                    _ => tracing::warn!(%error, "the walk through the rows gets no further; it is tried again"),
                }
                self.walk.failed(now);
            }
        }
    }

    fn hand_over(&mut self, collection: CollectionId, row: StoredVersion, now: Now) {
        // All tasks of a shard have as many partitions.
        let mut partitions = self.slots.values().filter_map(|slot| match slot {
            Slot::Active { partitions, .. } => Some(*partitions),
            _ => None,
        });
        let Some(partitions) = partitions.next() else { return };
        let partition = partition_for_key(row.id.text(&mut [0; ID_TEXT_BYTES]).as_bytes(), partitions);
        if let Some(Slot::Active { task, .. }) = self.slots.get_mut(&TaskId { shard: SHARD, partition }) {
            task.met_in_walk(collection, row, now);
        }
    }

    fn for_each_active(&mut self, mut tell: impl FnMut(&mut StreamTask)) {
        for slot in self.slots.values_mut() {
            if let Slot::Active { task, .. } = slot {
                tell(task);
            }
        }
    }

    /// Rows that the collections should have in this region: as many for each partition as for those held here.
    fn rows_known(&self) -> usize {
        let (mut entries, mut held, mut all) = (0, 0, 1);
        for slot in self.slots.values() {
            if let Slot::Active { task, partitions, .. } = slot {
                entries += task.store().len();
                held += 1;
                all = *partitions as usize;
            }
        }
        entries * all / held.max(1)
    }
}

//! Tasks come and go with the group's assignment: restored, activated, drained, released.

use super::restoring::{Asked, Unserved};
use super::{Slot, StoreOrigin, StreamThread};
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, TaskId, TopicPartition};
use crate::base::metric;
use crate::base::time::Now;
use crate::region::topics::REPAIR;
use crate::stream::restore::{RestoreRequest, RestoreResult};
use crate::stream::restorer::Request;
use crate::stream::settings::StreamSettings;
use crate::stream::source_check::Checked;
use crate::stream::standby::InHand;
use crate::task::graph::Graph;
use crate::task::settings::TaskTopics;
use crate::task::stream_task::{StreamTask, TaskSetup};
use crate::topology::node::TaskContext;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a restore that was refused waits before it is tried again.
const RESTORE_RETRY: Duration = Duration::from_secs(5);

/// A revocation that the group waits for: released as one when the last of its tasks is done.
pub(super) struct PendingRelease {
    partitions: Vec<TopicPartition>,
    waiting: BTreeSet<TaskId>,
}

/// Region and topic of each source of a shard, the own region's first, the repair topic last.
pub(super) fn sources(settings: &StreamSettings, shard: u16) -> Vec<(Region, Arc<str>)> {
    let own = (settings.region.clone(), settings.topics.local(shard));
    let peers = settings.regions.iter().filter(|region| **region != settings.region);
    let mirrors = peers.map(|peer| (peer.clone(), settings.topics.mirror(peer, shard)));
    let repair = (Region::new(REPAIR), settings.topics.repair(shard));
    std::iter::once(own).chain(mirrors).chain([repair]).collect()
}

impl StreamThread {
    fn task_of(&self, partition: &TopicPartition) -> Option<TaskId> {
        let shard = self.settings.topics.shard_of_local(&partition.topic)?;
        Some(TaskId { shard, partition: partition.partition })
    }

    pub(super) fn assigned(&mut self, partitions: &[TopicPartition], now: Now) {
        if !partitions.is_empty() {
            tracing::info!(?partitions, "assigned");
            metrics::counter!(metric::ASSIGNMENTS).increment(1);
        }
        if self.stopping {
            // Another member has left before us. They are given back with the rest when this one leaves.
            return;
        }
        for partition in partitions {
            if let Some(task) = self.task_of(partition) {
                self.begin(task, now.monotonic, Unserved::new_here(now));
            }
        }
    }

    /// A new life for a task.
    fn begin(&mut self, task: TaskId, ask_at: Duration, unserved: Unserved) {
        self.next_life = (self.next_life + 1) & 0x00ff_ffff;
        self.lives.insert(self.next_life, task);
        self.slots.insert(task, Slot::Restoring { life: self.next_life, ask_at, asked: None, unserved });
    }

    pub(super) fn ask_restores(&mut self, now: Now) -> Result<()> {
        let mut due = Vec::new();
        for (task, slot) in &mut self.slots {
            if let Slot::Restoring { life, ask_at, asked, .. } = slot
                && asked.is_none()
                && *ask_at <= now.monotonic
            {
                let waiting = asked.insert(Asked::new(now.monotonic));
                due.push((*task, *life, waiting.cancelled(), waiting.meter()));
            }
        }
        for (task, life, cancelled, meter) in due {
            self.restorer.ask(Request::Restore(RestoreRequest {
                task,
                life,
                topics: TaskTopics::new(&self.settings.topics, task),
                sources: sources(&self.settings, task.shard),
                collections: self.settings.collections.clone(),
                stores: self.ports.stores.clone(),
                horizon: self.settings.horizon,
                safety_window: self.settings.task.safety_window,
                meter,
                cancelled,
            }))?;
        }
        Ok(())
    }

    pub(super) fn tell_what_is_in_hand(&mut self) {
        let pending = |slot: &Slot| matches!(slot, Slot::Restoring { .. });
        let slots = &self.slots;
        self.restorer.tell(|| InHand {
            held: slots.keys().copied().collect(),
            pending: slots.iter().filter(|(_, slot)| pending(slot)).map(|(task, _)| *task).collect(),
            restoring: slots.values().any(|slot| matches!(slot, Slot::Restoring { asked: Some(_), .. })),
        });
    }

    pub(super) fn restore_failed(&mut self, task: TaskId, life: u32, error: &Error, now: Now) {
        if let Some(Slot::Restoring { life: current, ask_at, asked, .. }) = self.slots.get_mut(&task)
            && *current == life
        {
            tracing::error!(%task, %error, "the task can't be restored; it is tried again");
            (*ask_at, *asked) = (now.monotonic + RESTORE_RETRY, None);
        }
    }

    pub(super) fn activate(&mut self, id: TaskId, life: u32, result: RestoreResult, now: Now) -> Result<()> {
        let Some(Slot::Restoring { life: current, ask_at, .. }) = self.slots.get(&id) else { return Ok(()) };
        if *current != life {
            return Ok(());
        }
        metrics::histogram!(metric::RESTORE_SECONDS).record(now.monotonic.saturating_sub(*ask_at));
        metrics::counter!(metric::RESTORED_ENTRIES).increment(result.entries_read);
        for warning in &result.warnings {
            tracing::warn!(task = %id, "{warning}");
        }
        let RestoreResult { restored, partitions, entries_read, warm_from, from_standby, .. } = result;
        let origin = StoreOrigin { from_standby, up_to: restored.versions_end };
        tracing::info!(task = %id, entries_read, warm_from, from_standby, held = restored.store.len(), epoch = restored.epoch, reassert = restored.reassert_from.is_some(), "restored");
        let context = TaskContext {
            task: id,
            region: self.settings.region.clone(),
            partitions,
            collections: self.settings.collections.clone(),
            max_lateness_ms: self.settings.max_lateness.as_millis() as i64,
            schema_id: self.settings.schema_id,
        };
        let setup = TaskSetup {
            context,
            topics: TaskTopics::new(&self.settings.topics, id),
            settings: self.settings.task.clone(),
            life,
            graph: Graph::instantiate(&self.topology),
        };
        let task = Box::new(StreamTask::new(setup, restored, now));
        let starts = (0..task.source_count()).filter(|index| task.is_present(*index)).map(|index| {
            let (_, topic) = task.source(index);
            (TopicPartition::new(topic.clone(), id.partition), task.settled(index).next_offset)
        });
        let starts: Vec<(TopicPartition, i64)> = starts.collect();
        let paused = vec![false; task.source_count()];
        self.slots.insert(id, Slot::Active { task, partitions, paused, origin });
        for (partition, offset) in starts {
            let fetched = self.ports.consumer.fetch_from(&partition, offset);
            self.cure(fetched.err().map(|error| (id, error)), now)?;
        }
        Ok(())
    }

    pub(super) fn source_checked(&mut self, life: u32, index: usize, checked: Checked, now: Now) -> Result<()> {
        let Some(id) = self.lives.get(&life).copied() else { return Ok(()) };
        let Some(Slot::Active { task, paused, .. }) = self.slots.get_mut(&id) else { return Ok(()) };
        let (was_present, settled) = (task.is_present(index), task.settled(index).next_offset);
        let from = task.source_checked(index, &checked.start, checked.replay);
        let topic = checked.start.topic;
        if from.is_some() || was_present != checked.start.present {
            let deleted = || {
                let last = checked.start.next_offset - 1;
                format!("records {settled} to {last} were deleted before they were settled; this partition is incomplete")
            };
            let appeared = || "it is there and agrees with the others".to_owned();
            let why = checked.warning.unwrap_or_else(|| if was_present { deleted() } else { appeared() });
            tracing::warn!(task = %id, %topic, from, "{why}");
        }
        let Some(offset) = from else { return Ok(()) };
        if let Some(paused) = paused.get_mut(index) {
            // To fetch anew is to resume.
            *paused = false;
        }
        let partition = TopicPartition::new(topic, id.partition);
        let fetched = self.ports.consumer.fetch_from(&partition, offset);
        self.cure(fetched.err().map(|error| (id, error)), now)
    }

    pub(super) fn revoked(&mut self, partitions: Vec<TopicPartition>, now: Now) {
        tracing::info!(?partitions, "revoked");
        let waiting: BTreeSet<TaskId> = partitions.iter().filter_map(|partition| self.task_of(partition)).collect();
        for task in &waiting {
            self.drain(*task, now);
        }
        self.releases.push(PendingRelease { partitions, waiting });
    }

    /// Lets a task finish what is under way; one that is not active has nothing to finish.
    pub(super) fn drain(&mut self, id: TaskId, now: Now) {
        match self.slots.remove(&id) {
            Some(Slot::Active { mut task, .. }) => {
                task.begin_draining();
                let deadline = now.monotonic + self.settings.drain_timeout;
                self.slots.insert(id, Slot::Draining { task, deadline });
            }
            Some(Slot::Restoring { life, asked, .. }) => self.cancel(life, asked),
            Some(draining @ Slot::Draining { .. }) => {
                self.slots.insert(id, draining);
            }
            None => {}
        }
    }

    /// Ownership is gone already: nothing may be settled or committed any more.
    pub(super) fn lost(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        tracing::warn!(?partitions, "lost to the group");
        let tasks: Vec<TaskId> = partitions.iter().filter_map(|partition| self.task_of(partition)).collect();
        for task in tasks {
            self.close(task, "dirty");
        }
        self.ports.consumer.release(partitions)
    }

    /// Drops a task and begins it anew from its changelogs; its partitions stay ours.
    pub(super) fn restart(&mut self, id: TaskId, ask_at: Duration) {
        let unserved = match self.slots.get_mut(&id) {
            Some(Slot::Active { task, .. }) => Some(Unserved::after(task, self.ports.clock.now())),
            Some(Slot::Restoring { unserved, .. }) => Some(std::mem::take(unserved)),
            Some(Slot::Draining { .. }) | None => None,
        };
        self.close(id, "dirty");
        let Some(unserved) = unserved else { return };
        let (own, mirrors): (Vec<_>, Vec<_>) = sources(&self.settings, id.shard)
            .into_iter()
            .map(|(region, topic)| (region, TopicPartition::new(topic, id.partition)))
            .partition(|(region, _)| *region == self.settings.region);
        let own: Vec<TopicPartition> = own.into_iter().map(|(_, partition)| partition).collect();
        let mirrors: Vec<TopicPartition> = mirrors.into_iter().map(|(_, partition)| partition).collect();
        let quiet = self.ports.consumer.pause(&own).and_then(|()| self.ports.consumer.stop_fetching(&mirrors));
        if let Err(error) = quiet {
            // What still comes in is dropped: the task is not active.
            tracing::warn!(task = %id, %error, "its sources could not be paused");
        }
        self.begin(id, ask_at, unserved);
    }

    /// Forgets a task. What it had under way is dropped with it: nothing was remembered as done (INV-1).
    pub(super) fn close(&mut self, id: TaskId, kind: &'static str) {
        match self.slots.remove(&id) {
            Some(Slot::Active { task, .. } | Slot::Draining { task, .. }) => {
                self.lives.remove(&task.life());
                self.ended.add(&task.totals());
                self.committed.remove(&id);
                metrics::counter!(metric::TASK_CLOSES, "kind" => kind).increment(1);
                tracing::info!(task = %id, kind, "closed");
            }
            Some(Slot::Restoring { life, asked, .. }) => self.cancel(life, asked),
            None => {}
        }
        let mut commands = std::mem::take(&mut self.commands);
        commands.retain(|command| self.is_wanted(command));
        self.commands = commands;
    }

    fn cancel(&mut self, life: u32, restore: Option<Asked>) {
        self.lives.remove(&life);
        if let Some(restore) = restore {
            restore.cancel();
        }
    }

    pub(super) fn finish_drains(&mut self, now: Now) {
        let mut done = Vec::new();
        for (id, slot) in &self.slots {
            if let Slot::Draining { task, deadline } = slot {
                if task.is_drained() {
                    done.push((*id, "clean"));
                } else if *deadline <= now.monotonic {
                    tracing::warn!(task = %id, in_flight = task.items_in_flight(), "not drained in time; its successor will read again what is not settled");
                    done.push((*id, "dirty"));
                }
            }
        }
        for (id, kind) in done {
            self.offsets_of(id);
            self.close(id, kind);
        }
        let mut releases = std::mem::take(&mut self.releases);
        releases.retain(|release| {
            if release.waiting.iter().any(|task| self.slots.contains_key(task)) {
                return true;
            }
            if let Err(error) = self.ports.consumer.release(&release.partitions) {
                tracing::error!(%error, partitions = ?release.partitions, "partitions could not be released");
            }
            false
        });
        self.releases = releases;
    }
}

//! Carrying out what tasks command, holding back when a buffer is full, and committing offsets for tools.

use super::{Slot, StreamThread};
use crate::base::error::Result;
use crate::base::ids::{TaskId, TopicPartition};
use crate::base::time::Now;
use crate::port::log::AppendRefused;
use crate::stream::restorer::Request;
use crate::stream::stream_thread::membership::sources;
use crate::task::command::Command;

impl StreamThread {
    /// In order; stops where the appender's queue is full, and goes on there in the next round.
    pub(super) fn carry_out_commands(&mut self, now: Now) -> Result<bool> {
        let mut worked = false;
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Append(append, token) => match self.ports.appender.append(append, token.pack()) {
                    Ok(()) => {}
                    Err(AppendRefused::QueueFull(append)) => {
                        self.commands.push_front(Command::Append(append, token));
                        break;
                    }
                    Err(AppendRefused::Failed(error)) => {
                        let failed = self.lives.get(&token.life).map(|task| (*task, error));
                        self.cure(failed, now)?;
                    }
                },
                Command::Store { collection, request, token } => self.ports.vectors.submit(collection, request, token.pack()),
                Command::Read { life, partition, from, until, reading } => {
                    if let Some(task) = self.lives.get(&life).copied() {
                        self.restorer.ask(Request::Read { task, life, partition, from, until, reading });
                    }
                }
                Command::CheckSource { life, source } => self.ask_source_check(life, source),
            }
            worked = true;
        }
        Ok(worked)
    }

    fn ask_source_check(&mut self, life: u32, index: usize) {
        let Some(id) = self.lives.get(&life).copied() else { return };
        let Some(Slot::Active { task, partitions, .. }) = self.slots.get(&id) else { return };
        let start = task.source_start(index);
        self.restorer.ask(Request::CheckSource { task: id, life, index, start, partitions: *partitions });
    }

    /// Is the command still wanted by a living task?
    pub(super) fn is_wanted(&self, command: &Command) -> bool {
        let life = match command {
            Command::Append(_, token) | Command::Store { token, .. } => token.life,
            Command::Read { life, .. } | Command::CheckSource { life, .. } => *life,
        };
        self.lives.contains_key(&life)
    }

    /// Pausing throws away what was prefetched, so a full buffer is borne for a moment by not polling at all;
    /// if it stays full its sources are paused, and resumed when it is half empty (INV-8).
    pub(super) fn regulate(&mut self, now: Now) {
        let full: Vec<TaskId> = self.tasks_where(|task, paused| !paused && task.wants_pause());
        if full.is_empty() {
            self.full_since = None;
        } else if now.monotonic.saturating_sub(*self.full_since.get_or_insert(now.monotonic)) >= self.settings.pause_after {
            self.set_paused(&full, true);
            self.full_since = None;
        }
        let relaxed: Vec<TaskId> = self.tasks_where(|task, paused| paused && task.may_resume());
        self.set_paused(&relaxed, false);
    }

    fn tasks_where(&self, wanted: impl Fn(&crate::task::stream_task::StreamTask, bool) -> bool) -> Vec<TaskId> {
        let active = self.slots.iter().filter_map(|(id, slot)| match slot {
            Slot::Active { task, paused, .. } => wanted(task, *paused).then_some(*id),
            _ => None,
        });
        active.collect()
    }

    fn set_paused(&mut self, tasks: &[TaskId], pause: bool) {
        for id in tasks {
            let Some(Slot::Active { task, paused, .. }) = self.slots.get_mut(id) else { continue };
            let present = sources(&self.settings, id.shard).into_iter().enumerate().filter(|(index, _)| task.is_present(*index));
            let partitions: Vec<TopicPartition> =
                present.map(|(_, (_, topic))| TopicPartition::new(topic, id.partition)).collect();
            let done = match pause {
                true => self.ports.consumer.pause(&partitions),
                false => self.ports.consumer.resume(&partitions),
            };
            match done {
                Ok(()) => *paused = pause,
                Err(error) => tracing::warn!(task = %id, %error, pause, "sources could not be paused or resumed; tried again"),
            }
        }
    }

    /// Step 4 of the commit order, for tools alone: our own progress record rules. Unchanged offsets are
    /// committed again now and then, since those of topics the group does not subscribe to expire.
    pub(super) fn commit_offsets(&mut self, now: Now) {
        if now.monotonic < self.next_offsets {
            return;
        }
        self.next_offsets = now.monotonic + self.settings.offsets_interval;
        let mut offsets = Vec::new();
        for (id, slot) in &self.slots {
            let Slot::Active { task, .. } = slot else { continue };
            let committable = task.committable();
            let positions: Vec<i64> = committable.iter().map(|(_, offset)| *offset).collect();
            let refresh = self.settings.offsets_refresh;
            let known = self.committed.get(id).is_some_and(|(last, at)| *last == positions && now.monotonic < *at + refresh);
            if !known && !positions.is_empty() {
                self.committed.insert(*id, (positions, now.monotonic));
                offsets.extend(committable);
            }
        }
        if !offsets.is_empty() {
            self.ports.consumer.commit(&offsets);
        }
    }

    /// The last commit of a task that is about to be closed.
    pub(super) fn offsets_of(&mut self, id: TaskId) {
        if let Some(Slot::Draining { task, .. }) = self.slots.get(&id) {
            let offsets = task.committable();
            if !offsets.is_empty() {
                self.ports.consumer.commit(&offsets);
            }
        }
    }
}

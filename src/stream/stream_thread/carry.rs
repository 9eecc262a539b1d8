//! Carrying out what tasks command, holding back when a buffer is full, and committing offsets for tools.

use super::{Slot, StreamThread};
use crate::base::error::Result;
use crate::base::ids::{TaskId, TopicPartition};
use crate::base::time::Now;
use crate::port::log::AppendRefused;
use crate::stream::restorer::Request;
use crate::task::command::Command;
use crate::task::stream_task::StreamTask;

/// Commands that are carried out on one look at the clock.
const LOOK_EVERY: u32 = 16;

impl StreamThread {
    /// In order; stops where the appender's queue is full, and goes on there in the next round.
    pub(super) fn carry_out_commands(&mut self, now: Now) -> Result<bool> {
        let mut worked = false;
        let mut carried = 0u32;
        while let Some(command) = self.commands.pop_front() {
            // Stopped between the decision and now, and the partition may be another's: the next round sees the
            // gap and drops what is left.
            carried += 1;
            if carried % LOOK_EVERY == 1 && self.ports.clock.now().since(now) > self.settings.pause_max {
                self.commands.push_front(command);
                break;
            }
            match command {
                Command::Append(append, token) => match self.ports.appender.append(append, token.pack()) {
                    Ok(()) => worked = true,
                    Err(AppendRefused::QueueFull(append)) => {
                        self.commands.push_front(Command::Append(*append, token));
                        break;
                    }
                    Err(AppendRefused::Failed(error)) => {
                        let failed = self.lives.get(&token.life).map(|task| (*task, error));
                        self.cure(failed, now)?;
                    }
                },
                Command::Store { collection, request, token } => {
                    self.ports.vectors.submit(collection, request, token.pack());
                    worked = true;
                }
                Command::Read { life, partition, from, until, reading } => {
                    if let Some(task) = self.lives.get(&life).copied() {
                        self.restorer.ask(Request::Read { task, life, partition, from, until, reading })?;
                    }
                }
                Command::CheckSource { life, source } => self.ask_source_check(life, source)?,
            }
        }
        Ok(worked)
    }

    fn ask_source_check(&mut self, life: u32, index: usize) -> Result<()> {
        let Some(id) = self.lives.get(&life).copied() else { return Ok(()) };
        let Some(Slot::Active { task, partitions, .. }) = self.slots.get(&id) else { return Ok(()) };
        let start = task.source_start(index);
        self.restorer.ask(Request::CheckSource { task: id, life, index, start, partitions: *partitions })
    }

    /// Is the command still wanted by a living task?
    pub(super) fn is_wanted(&self, command: &Command) -> bool {
        let life = match command {
            Command::Append(_, token) | Command::Store { token, .. } => token.life,
            Command::Read { life, .. } | Command::CheckSource { life, .. } => *life,
        };
        self.lives.contains_key(&life)
    }

    /// Pausing throws away what was prefetched, so a full buffer is borne for a moment first; if it stays full,
    /// its source is paused, and resumed when it is half empty (INV-8). A source that waits for a schema is
    /// paused at once: it may wait for long, and the others are not to wait with it.
    pub(super) fn regulate(&mut self, now: Now) {
        let full = self.sources_where(|task, source, paused| !paused && task.wants_pause(source));
        let (blocked, full): (Vec<_>, Vec<_>) = full.into_iter().partition(|(id, source)| self.is_blocked(*id, *source));
        self.set_paused(&blocked, true);
        if full.is_empty() {
            self.full_since = None;
        } else if now.monotonic.saturating_sub(*self.full_since.get_or_insert(now.monotonic)) >= self.settings.pause_after {
            self.set_paused(&full, true);
            self.full_since = None;
        }
        let relaxed = self.sources_where(|task, source, paused| paused && task.may_resume(source));
        self.set_paused(&relaxed, false);
    }

    /// A buffer is so far over its limit that nothing more may be polled, whatever the wait.
    pub(super) fn is_overfull(&self) -> bool {
        !self.sources_where(|task, source, paused| !paused && task.is_overfull(source)).is_empty()
    }

    fn is_blocked(&self, id: TaskId, source: usize) -> bool {
        matches!(self.slots.get(&id), Some(Slot::Active { task, .. }) if task.is_blocked(source))
    }

    fn sources_where(&self, wanted: impl Fn(&StreamTask, usize, bool) -> bool) -> Vec<(TaskId, usize)> {
        let mut found = Vec::new();
        for (id, slot) in &self.slots {
            if let Slot::Active { task, paused, .. } = slot {
                let sources = paused.iter().enumerate().filter(|(source, paused)| wanted(task, *source, **paused));
                found.extend(sources.map(|(source, _)| (*id, source)));
            }
        }
        found
    }

    fn set_paused(&mut self, sources: &[(TaskId, usize)], pause: bool) {
        for (id, source) in sources {
            let Some(Slot::Active { task, paused, .. }) = self.slots.get_mut(id) else { continue };
            let (_, topic) = task.source(*source);
            let partition = [TopicPartition::new(topic.clone(), id.partition)];
            let done = match pause {
                true => self.ports.consumer.pause(&partition),
                false => self.ports.consumer.resume(&partition),
            };
            match done {
                Ok(()) => paused[*source] = pause,
                Err(error) => {
                    tracing::warn!(task = %id, partition = %partition[0], %error, pause, "a source could not be paused or resumed; tried again");
                }
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
                if self.restarts.get(id).is_some_and(|restarts| restarts.is_over(&task.positions())) {
                    self.restarts.remove(id);
                }
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

//! One thread's loop: takes what the ports bring to the tasks, and what the tasks command to the ports.
//!
//! ```text
//!              Assigned              restored                Revoked, stop            drained, or too late
//!   (nothing) ─────────► Restoring ───────────► Active ─────────────────► Draining ─────────────► released
//!                            ▲                    │  Lost: closed dirty, released at once
//!                            └────────────────────┘  an error or a pause that only a restore cures
//! ```
//!
//! `run_once` is plain synchronous code: production, the demo and a simulator drive the same function.

mod carry;
mod membership;
mod restoring;
mod walk;

use crate::base::error::{Error, Remedy, Result};
use crate::base::ids::TaskId;
use crate::base::time::{Clock, Now};
use crate::port::log::{Ack, Appender, GroupConsumer, LogEvent};
use crate::port::vector::{StoreResponse, VectorStore};
use crate::record::schema::SchemaSource;
use crate::store::{Stores, VersionStore};
use crate::stream::report::{TaskReport, ThreadReport};
use crate::stream::restorer::{Reply, RestorerHandle};
use crate::stream::row_walk::RowWalk;
use crate::stream::settings::StreamSettings;
use crate::task::command::{Commands, Purpose, Token};
use crate::task::metrics::Totals;
use crate::task::stream_task::StreamTask;
use crate::topology::build::Topology;
use membership::PendingRelease;
use restoring::{Asked, Unserved};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Waits between restarts of a task that does not get on.
const RESTART_MIN: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);

/// Everything outside that a thread works with.
pub struct Ports {
    pub consumer: Box<dyn GroupConsumer>,
    pub appender: Box<dyn Appender>,
    pub vectors: Box<dyn VectorStore>,
    pub schemas: Box<dyn SchemaSource>,
    /// Where the tasks' state is kept.
    pub stores: Arc<dyn Stores>,
    /// Looked at once more right before something is sent; everything else goes by the round's time.
    pub clock: Box<dyn Clock>,
}

/// How often a task was restarted since it last got on, and how far it was settled at the last time.
#[derive(Default)]
struct Restarts {
    count: u32,
    positions: Vec<i64>,
}

impl Restarts {
    fn is_over(&self, positions: &[i64]) -> bool {
        positions.iter().zip(&self.positions).any(|(now, then)| now > then)
    }
}

/// A task and what its state needs.
enum Slot {
    /// Its restore is asked for at `ask_at` (later than now where the group must first be heard).
    Restoring {
        life: u32,
        ask_at: Duration,
        asked: Option<Asked>,
        unserved: Unserved,
    },
    Active {
        task: Box<StreamTask>,
        partitions: i32,
        paused: Vec<bool>,
        origin: StoreOrigin,
    },
    /// Finishing what is under way, until the deadline.
    Draining {
        task: Box<StreamTask>,
        deadline: Duration,
    },
}

/// Where a task's store came from when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOrigin {
    /// From a standby, which had read all but the last of the changelog.
    pub from_standby: bool,
    /// The end of the versions changelog up to which it was read.
    pub up_to: i64,
}

/// What a round did, and when the next one is due at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    pub worked: bool,
    pub due: Option<Duration>,
    /// The thread has stopped: its tasks are closed and it has left the group.
    pub stopped: bool,
}

pub struct StreamThread {
    settings: StreamSettings,
    topology: Arc<Topology>,
    ports: Ports,
    restorer: RestorerHandle,
    slots: BTreeMap<TaskId, Slot>,
    /// Which task a life belongs to, for answers; ended lives are not in it.
    lives: HashMap<u32, TaskId>,
    next_life: u32,
    /// Shard and source of each topic.
    routes: HashMap<Arc<str>, (u16, usize)>,
    releases: Vec<PendingRelease>,
    commands: Commands,
    walk: RowWalk,
    last_run: Option<Now>,
    full_since: Option<Duration>,
    next_offsets: Duration,
    committed: HashMap<TaskId, (Vec<i64>, Duration)>,
    /// Restarts of a task since it last made progress.
    restarts: HashMap<TaskId, Restarts>,
    /// The group has answered: what is assigned now, be it nothing, is what this member has.
    joined: bool,
    /// All that it was given at first has been restored.
    began: bool,
    stopping: bool,
    left: bool,
    ended: Totals,
    events: Vec<LogEvent>,
    acks: Vec<Ack>,
    responses: Vec<StoreResponse>,
}

impl StreamThread {
    pub fn new(settings: StreamSettings, topology: Arc<Topology>, ports: Ports, restorer: RestorerHandle) -> Self {
        let mut routes = HashMap::new();
        for shard in 0..settings.topics.shards() {
            for (index, (_, topic)) in membership::sources(&settings, shard).into_iter().enumerate() {
                routes.insert(topic, (shard, index));
            }
        }
        let walk = RowWalk::new(settings.task.scrub.clone(), settings.collections.len());
        Self {
            settings,
            topology,
            ports,
            restorer,
            slots: BTreeMap::new(),
            lives: HashMap::new(),
            next_life: 0,
            routes,
            releases: Vec::new(),
            commands: Commands::new(),
            walk,
            last_run: None,
            full_since: None,
            next_offsets: Duration::ZERO,
            committed: HashMap::new(),
            restarts: HashMap::new(),
            joined: false,
            began: false,
            stopping: false,
            left: false,
            ended: Totals::default(),
            events: Vec::new(),
            acks: Vec::new(),
            responses: Vec::new(),
        }
    }

    /// Drains the tasks, says so in the log, leaves the group; `run_once` goes on to be called until it reports
    /// `stopped`.
    pub fn stop(&mut self, now: Now) {
        if !self.stopping {
            self.stopping = true;
            let tasks: Vec<TaskId> = self.slots.keys().copied().collect();
            for task in tasks {
                self.drain(task, now);
            }
        }
    }

    /// One round. An error means that the process must end.
    pub fn run_once(&mut self, now: Now) -> Result<Round> {
        self.mind_the_gap(now);
        let mut worked = self.poll_consumer(now)?;
        worked |= self.take_acks(now)?;
        worked |= self.take_responses(now)?;
        worked |= self.take_restored(now)?;
        worked |= self.process(now)?;
        self.ask_restores(now)?;
        self.tick(now);
        self.check_stores(now)?;
        self.walk_rows(now);
        worked |= self.carry_out_commands(now)?;
        self.regulate(now);
        self.commit_offsets(now);
        self.finish_drains(now);
        self.tell_what_is_in_hand();
        self.began |= self.joined && !self.slots.values().any(|slot| matches!(slot, Slot::Restoring { .. }));
        if self.stopping && self.slots.is_empty() && !self.left {
            self.ports.consumer.leave();
            self.left = true;
        }
        Ok(Round { worked, due: self.due(), stopped: self.left })
    }

    /// After a pause of the whole process (SIGSTOP, a frozen machine) the partitions may be another's, and the
    /// group has not told us yet: nothing that is held is to be sent any more.
    fn mind_the_gap(&mut self, now: Now) {
        let gap = self.last_run.map(|last| now.since(last));
        self.last_run = Some(now);
        if let Some(gap) = gap.filter(|gap| *gap > self.settings.pause_max) {
            tracing::warn!(gap_ms = gap.as_millis() as u64, "this thread stood still; all tasks are restored again");
            let tasks: Vec<TaskId> = self.slots.keys().copied().collect();
            for task in tasks {
                self.restart(task, now.monotonic + self.settings.rejoin_grace);
            }
        }
    }

    fn poll_consumer(&mut self, now: Now) -> Result<bool> {
        let bearing = self.full_since.is_some_and(|since| now.monotonic.saturating_sub(since) < self.settings.pause_after);
        if self.left || (bearing && self.is_overfull()) {
            return Ok(false);
        }
        let mut events = std::mem::take(&mut self.events);
        self.ports.consumer.poll(self.settings.poll_max, &mut events);
        let worked = !events.is_empty();
        for event in events.drain(..) {
            self.take_event(event, now)?;
        }
        self.events = events;
        Ok(worked)
    }

    fn take_event(&mut self, event: LogEvent, now: Now) -> Result<()> {
        match event {
            LogEvent::Record(record) => {
                let Some(&(shard, source)) = self.routes.get(&record.topic) else { return Ok(()) };
                let task = TaskId { shard, partition: record.partition };
                // Of a task that is not active it is too early or too late: it will be fetched again.
                if let Some(Slot::Active { task, .. }) = self.slots.get_mut(&task) {
                    task.offer(source, record, now);
                }
            }
            LogEvent::Assigned(partitions) => {
                self.joined = true;
                self.assigned(&partitions, now);
            }
            LogEvent::Revoked(partitions) => self.revoked(partitions, now),
            LogEvent::Lost(partitions) => self.lost(&partitions)?,
            LogEvent::OffsetOutOfRange(partition) => {
                if let Some(&(shard, _)) = self.routes.get(&partition.topic) {
                    tracing::error!(%partition, "the position is outside of the log: records were deleted before they were read, or the topic was created again");
                    self.restart(TaskId { shard, partition: partition.partition }, now.monotonic);
                }
            }
            LogEvent::Fault(error) => match error.remedy {
                Remedy::Retry | Remedy::Skip => tracing::warn!(%error, "the log consumer reports a fault"),
                Remedy::Restore | Remedy::Rejoin => self.restart_all(now, &error),
                Remedy::Refuse | Remedy::Fatal => return Err(error),
            },
        }
        Ok(())
    }

    fn restart_all(&mut self, now: Now, error: &Error) {
        tracing::warn!(%error, "the log consumer reports a fault; all tasks are restored again");
        let tasks: Vec<TaskId> = self.slots.keys().copied().collect();
        for task in tasks {
            self.restart(task, now.monotonic + self.settings.rejoin_grace);
        }
    }

    fn take_acks(&mut self, now: Now) -> Result<bool> {
        let mut acks = std::mem::take(&mut self.acks);
        self.ports.appender.poll_acks(&mut acks);
        let worked = !acks.is_empty();
        for ack in acks.drain(..) {
            let Some(token) = Token::unpack(ack.token) else {
                return Err(Error::fatal(format_args!("an ack with the unknown token {:#x}", ack.token)));
            };
            let mut commands = std::mem::take(&mut self.commands);
            let done = self.with_life(token.life, |task| task.appended(token, ack.outcome, now, &mut commands));
            self.commands = commands;
            self.cure(done, now)?;
        }
        self.acks = acks;
        Ok(worked)
    }

    fn take_responses(&mut self, now: Now) -> Result<bool> {
        let mut responses = std::mem::take(&mut self.responses);
        self.ports.vectors.poll(&mut responses);
        let worked = !responses.is_empty();
        for response in responses.drain(..) {
            let asked =
                |token: &Token| matches!(token.purpose, Purpose::Batch | Purpose::ReadBack | Purpose::Scrub | Purpose::Walk);
            let Some(token) = Token::unpack(response.token).filter(asked) else {
                return Err(Error::fatal(format_args!("a vector store's answer with the unknown token {:#x}", response.token)));
            };
            if token.purpose == Purpose::Walk {
                self.walk_answered(response, now);
                continue;
            }
            let mut commands = std::mem::take(&mut self.commands);
            let done = self.with_life(token.life, |task| task.answered(token, response.outcome, now, &mut commands));
            self.commands = commands;
            self.cure(done, now)?;
        }
        self.responses = responses;
        Ok(worked)
    }

    fn take_restored(&mut self, now: Now) -> Result<bool> {
        let mut worked = false;
        while let Some(reply) = self.restorer.poll() {
            worked = true;
            match reply {
                Reply::Restored { task, life, result } => self.activate(task, life, *result, now)?,
                Reply::RestoreFailed { task, life, error } => self.restore_failed(task, life, &error, now),
                Reply::Read { life, part, .. } => {
                    let mut commands = std::mem::take(&mut self.commands);
                    let mut schemas = std::mem::replace(&mut self.ports.schemas, Box::new(NoSchemas));
                    let done = self.with_life(life, |task| task.read(part, now, schemas.as_mut(), &mut commands));
                    self.ports.schemas = schemas;
                    self.commands = commands;
                    self.cure(done, now)?;
                }
                Reply::SourceChecked { life, index, checked, .. } => self.source_checked(life, index, *checked, now)?,
            }
        }
        Ok(worked)
    }

    /// Runs `act` on the task of that life, if it still lives. Answers with the task where it failed.
    fn with_life(&mut self, life: u32, act: impl FnOnce(&mut StreamTask) -> Result<()>) -> Option<(TaskId, Error)> {
        let id = *self.lives.get(&life)?;
        match self.slots.get_mut(&id) {
            Some(Slot::Active { task, .. } | Slot::Draining { task, .. }) => act(task).err().map(|error| (id, error)),
            _ => None,
        }
    }

    /// The one place that turns a remedy into its cure.
    fn cure(&mut self, failed: Option<(TaskId, Error)>, now: Now) -> Result<()> {
        let Some((task, error)) = failed else { return Ok(()) };
        match error.remedy {
            Remedy::Fatal | Remedy::Refuse => Err(error.context(format_args!("task {task}"))),
            Remedy::Restore | Remedy::Rejoin | Remedy::Retry | Remedy::Skip => {
                let wait = self.restart_wait(task);
                tracing::error!(%task, %error, wait_ms = wait.as_millis() as u64, "the task is closed and restored");
                self.restart(task, now.monotonic + wait);
                Ok(())
            }
        }
    }

    /// Doubles with each restart, until the task has made progress again.
    fn restart_wait(&mut self, task: TaskId) -> Duration {
        let positions = match self.slots.get(&task) {
            Some(Slot::Active { task, .. } | Slot::Draining { task, .. }) => task.positions(),
            _ => Vec::new(),
        };
        let restarts = self.restarts.entry(task).or_default();
        let wait = RESTART_MIN.saturating_mul(1 << restarts.count.min(16)).min(RESTART_MAX);
        *restarts = Restarts { count: restarts.count + 1, positions };
        if restarts.count == 1 { Duration::ZERO } else { wait }
    }

    fn process(&mut self, now: Now) -> Result<bool> {
        if !self.commands.is_empty() {
            // The appender's queue is full: what it could not take goes first.
            return Ok(false);
        }
        let mut worked = false;
        let mut failed = Vec::new();
        for (id, slot) in &mut self.slots {
            if let Slot::Active { task, .. } = slot {
                match task.process(self.settings.poll_max, now, self.ports.schemas.as_mut(), &mut self.commands) {
                    Ok(processed) => worked |= processed > 0,
                    Err(error) => failed.push((*id, error)),
                }
            }
        }
        for failure in failed {
            self.cure(Some(failure), now)?;
        }
        Ok(worked)
    }

    fn tick(&mut self, now: Now) {
        for (id, slot) in &mut self.slots {
            match slot {
                Slot::Active { task, .. } | Slot::Draining { task, .. } => task.tick(now, &mut self.commands),
                Slot::Restoring { asked: Some(asked), .. } => asked.look(*id, now.monotonic),
                Slot::Restoring { asked: None, .. } => {}
            }
        }
    }

    /// What a task has decided on a store that could not be read is dropped with it, before anything of it is sent.
    fn check_stores(&mut self, now: Now) -> Result<()> {
        let mut failed = Vec::new();
        for (id, slot) in &self.slots {
            if let Slot::Active { task, .. } | Slot::Draining { task, .. } = slot
                && let Err(error) = task.check_store()
            {
                failed.push((*id, error));
            }
        }
        for failure in failed {
            self.cure(Some(failure), now)?;
        }
        Ok(())
    }

    fn due(&self) -> Option<Duration> {
        let tasks = self.slots.values().filter_map(|slot| match slot {
            Slot::Restoring { ask_at, asked, .. } => asked.is_none().then_some(*ask_at),
            Slot::Active { task, .. } => task.due(),
            Slot::Draining { deadline, task } => Some(task.due().unwrap_or(*deadline).min(*deadline)),
        });
        let full = self.full_since.map(|since| since + self.settings.pause_after);
        tasks.chain(full).chain(self.walk_due()).min()
    }

    pub fn report(&self) -> ThreadReport {
        let now = self.ports.clock.now();
        let mut report = ThreadReport {
            joined: self.joined,
            began: self.began,
            tasks: Vec::new(),
            totals: self.ended.clone(),
            busy: Vec::new(),
            walks: vec![self.walk.report()],
        };
        for (id, slot) in &self.slots {
            report.tasks.push(match slot {
                Slot::Restoring { asked, unserved, .. } => unserved.report(*id, asked.as_ref(), now),
                Slot::Active { task, .. } => TaskReport::of(task, "running", now),
                Slot::Draining { task, .. } => TaskReport::of(task, "draining", now),
            });
            if let Slot::Active { task, .. } | Slot::Draining { task, .. } = slot {
                report.totals.add(&task.totals());
            }
        }
        report
    }

    /// Of a task that runs: for tests, which compare its store with the log.
    pub fn store_origin(&self, id: TaskId) -> Option<StoreOrigin> {
        match self.slots.get(&id)? {
            Slot::Active { origin, .. } => Some(*origin),
            _ => None,
        }
    }

    /// The versions store of a task that is held and restored: for tests, which look into it from outside.
    pub fn store(&self, id: TaskId) -> Option<&dyn VersionStore> {
        match self.slots.get(&id)? {
            Slot::Active { task, .. } | Slot::Draining { task, .. } => Some(task.store()),
            Slot::Restoring { .. } => None,
        }
    }
}

/// Stands in while the schemas are lent to a task; nothing asks it.
struct NoSchemas;

impl SchemaSource for NoSchemas {
    fn lookup(&mut self, _origin: &crate::base::ids::Region, _id: u32) -> crate::record::schema::SchemaLookup {
        crate::record::schema::SchemaLookup::Pending
    }
}

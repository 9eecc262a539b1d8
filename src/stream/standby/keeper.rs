//! The keeper: looks at the group, decides by [`placement`](super::placement) what this process keeps, and reads on,
//! a chunk of each standby in turn.

use super::placement::{Member, standby_tasks};
use super::{Standby, StandbyReport, Standbys};
use crate::base::error::{Remedy, Result};
use crate::base::ids::{TaskId, TopicPartition};
use crate::base::time::Now;
use crate::port::group::{GroupMember, GroupView};
use crate::port::log::{Bounds, LogReader};
use crate::record::collection::Collections;
use crate::region::topics::TopicNames;
use crate::store::{StoreOf, Stores};
use crate::stream::restorer::Stepped;
use crate::stream::tail::Tail;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of a changelog that are read in one go: some tenths of a second, in which nobody can claim that standby.
const CHUNK_BYTES_MAX: usize = 8 << 20;
/// Reads without any record after which it is left for now: a log out of reach says nothing.
const SILENT_READS_MAX: u32 = 10;
/// A standby that is at the end of its log looks for more so often: what a fail-over has to read is no more than this.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);
/// After a changelog could not be reached, and after it holds what can't be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// How often the group is looked at: now and then, and until it has settled after tasks have come or gone.
const VIEW_INTERVAL: Duration = Duration::from_secs(10);
const UNSETTLED_INTERVAL: Duration = Duration::from_millis(500);
/// Looks after which a group with tasks that nobody has is taken as it is.
const UNSETTLED_MAX: u32 = 20;

/// What a keeper is told once.
#[derive(Debug, Clone)]
pub struct StandbySettings {
    /// Standbys of each task, over all processes.
    pub replicas: usize,
    /// What this process is called in the view of the group.
    pub process: String,
    pub topics: TopicNames,
    pub collections: Arc<Collections>,
    pub stores: Arc<dyn Stores>,
    /// How long a changelog remembers that a key was forgotten (its topic's `delete.retention.ms`).
    pub horizon: Duration,
}

pub struct StandbyKeeper {
    settings: StandbySettings,
    standbys: Standbys,
    next_view: Duration,
    /// The view could not be had at the last time: told once.
    is_blind: bool,
    /// Tasks that somebody had at the last look, and how often some of them have had nobody since.
    seen: BTreeSet<TaskId>,
    unsettled: u32,
    /// Whose turn it was last.
    last: Option<TaskId>,
}

impl StandbyKeeper {
    pub fn new(settings: StandbySettings, standbys: Standbys) -> Self {
        Self { settings, standbys, next_view: Duration::ZERO, is_blind: false, seen: BTreeSet::new(), unsettled: 0, last: None }
    }

    /// A look at the group if one is due, and a chunk of the standby whose turn it is.
    pub fn run_once(&mut self, reader: &mut dyn LogReader, group: &mut dyn GroupView, now: Now) -> Stepped {
        if self.standbys.lock().ended {
            return Stepped::Ended;
        }
        self.look_at_group(group, now);
        let Some((task, standby)) = self.next(now) else { return Stepped::Idle };
        let read = {
            let mut standby = standby.lock().unwrap_or_else(PoisonError::into_inner);
            let read = self.read_on(task, &mut standby, reader, now);
            if read.as_ref().is_err_and(|error| error.remedy != Remedy::Retry) {
                standby.tail = None;
            }
            read
        };
        reader.close();
        let (stepped, wait) = match &read {
            Ok(Some(report)) if report.state == "following" => (Stepped::Worked, FOLLOW_INTERVAL),
            Ok(_) => (Stepped::Worked, Duration::ZERO),
            Err(error) => {
                let wait = if error.remedy == Remedy::Retry { RETRY_INTERVAL } else { REFUSED_INTERVAL };
                tracing::warn!(%task, %error, wait_ms = wait.as_millis() as u64, "a standby can't be read on; it is tried again");
                (Stepped::Failing, wait)
            }
        };
        self.tell(task, read.ok().flatten(), now.monotonic + wait);
        stepped
    }

    fn look_at_group(&mut self, group: &mut dyn GroupView, now: Now) {
        let rebalanced = std::mem::take(&mut self.standbys.lock().rebalanced);
        if !rebalanced && now.monotonic < self.next_view {
            return;
        }
        match group.members() {
            Ok(members) => {
                self.is_blind = false;
                let settled = members.and_then(|members| self.settled(members));
                self.next_view = now.monotonic + if settled.is_some() { VIEW_INTERVAL } else { UNSETTLED_INTERVAL };
                // What is kept stays meanwhile.
                let Some(members) = settled else { return };
                let mut shared = self.standbys.lock();
                shared.wanted = standby_tasks(&members, self.settings.replicas, &self.settings.process);
                shared.settle();
            }
            Err(error) => {
                self.next_view = now.monotonic + RETRY_INTERVAL;
                if !std::mem::replace(&mut self.is_blind, true) {
                    tracing::warn!(%error, "the group's members can't be asked for; standbys stay where they are until they can");
                }
            }
        }
    }

    /// The members with their tasks, unless one of the tasks has nobody: a cooperative group looks settled between its
    /// two rounds, when some have given up and nobody has got, and who acted on that would drop what is needed next.
    fn settled(&mut self, members: Vec<GroupMember>) -> Option<Vec<Member>> {
        let members: Vec<Member> = members.into_iter().map(|member| self.member(member)).collect();
        let owned: BTreeSet<TaskId> = members.iter().flat_map(|member| member.tasks.iter().copied()).collect();
        self.unsettled = if self.seen.is_subset(&owned) { 0 } else { self.unsettled + 1 };
        if (1..UNSETTLED_MAX).contains(&self.unsettled) {
            return None;
        }
        self.seen = owned;
        Some(members)
    }

    fn member(&self, member: GroupMember) -> Member {
        let tasks = member.partitions.iter().filter_map(|at| {
            let shard = self.settings.topics.shard_of_local(&at.topic)?;
            Some(TaskId { shard, partition: at.partition })
        });
        let tasks: BTreeSet<TaskId> = tasks.collect();
        Member { id: member.id, process: member.process, tasks }
    }

    /// The next one that is due, after the last one.
    fn next(&mut self, now: Now) -> Option<(TaskId, Arc<Mutex<Standby>>)> {
        let shared = self.standbys.lock();
        if shared.is_restoring() {
            return None;
        }
        let after = shared.kept.iter().filter(|(task, _)| Some(**task) > self.last);
        let before = shared.kept.iter().filter(|(task, _)| Some(**task) <= self.last);
        for (task, kept) in after.chain(before) {
            if !shared.is_held(*task) && kept.due <= now.monotonic {
                self.last = Some(*task);
                return Some((*task, kept.standby.clone()));
            }
        }
        None
    }

    /// One chunk. It ends at the end that the log has now, which is no end for a standby.
    fn read_on(
        &self,
        task: TaskId,
        standby: &mut Standby,
        reader: &mut dyn LogReader,
        now: Now,
    ) -> Result<Option<StandbyReport>> {
        if standby.claimed {
            return Ok(None);
        }
        let changelog = TopicPartition::new(self.settings.topics.versions_changelog(task.shard), task.partition);
        let mut bounds = reader.bounds(&changelog)?;
        let doubt = match &standby.tail {
            // Before anything is read behind a place that is not what it was.
            Some(tail) if tail.position() != bounds.end => tail.doubt(reader, bounds, now, self.settings.horizon)?,
            _ => None,
        };
        if standby.tail.is_none() || doubt.is_some() {
            // Its store must be closed before it can be opened again.
            standby.tail = None;
            let (tail, seen) = self.begin(task, changelog, doubt, reader, now)?;
            (standby.tail, bounds) = (Some(tail), seen);
        }
        let Some(tail) = &mut standby.tail else { return Ok(None) };
        if tail.position() < bounds.end {
            tail.open(reader)?;
            read_chunk(tail, reader, bounds.end)?;
        }
        if tail.position() >= bounds.end {
            tail.is_whole_as_of(now);
        }
        Ok(Some(standby.report(task, Some(bounds.end))))
    }

    /// The topic's id is asked for before its bounds: if it is created again in the middle of this, its successor finds
    /// another id, and not a place of the old one in the new.
    fn begin(
        &self,
        task: TaskId,
        changelog: TopicPartition,
        doubt: Option<String>,
        reader: &mut dyn LogReader,
        now: Now,
    ) -> Result<(Tail, Bounds)> {
        let topic_id = reader.describe(&changelog.topic)?.and_then(|found| found.id);
        let bounds = reader.bounds(&changelog)?;
        let StandbySettings { collections, stores, horizon, .. } = &self.settings;
        let of = StoreOf { task, changelog, topic_id, collections: collections.clone(), horizon: *horizon };
        let mut tail = match doubt {
            None => Tail::begin(&of, stores.as_ref(), reader, bounds, now)?,
            Some(why) => {
                Tail::begin_anew(&of, stores.as_ref(), bounds, now, format!("what a standby had read is of no use: {why}"))?
            }
        };
        if let Some(warning) = tail.warning.take() {
            tracing::warn!(%task, "{warning}");
        }
        Ok((tail, bounds))
    }

    fn tell(&self, task: TaskId, report: Option<StandbyReport>, due: Duration) {
        let mut shared = self.standbys.lock();
        let Some(kept) = shared.kept.get_mut(&task) else { return };
        kept.due = due;
        let Some(report) = report else { return };
        if kept.report.entries == 0 && report.entries > 0 && report.state == "following" {
            tracing::info!(%task, entries = report.entries, position = report.position, "standby has caught up");
        }
        kept.report = report;
    }
}

fn read_chunk(tail: &mut Tail, reader: &mut dyn LogReader, end: i64) -> Result<()> {
    let (mut bytes, mut silent) = (0, 0);
    while tail.position() < end && bytes < CHUNK_BYTES_MAX && silent < SILENT_READS_MAX {
        let before = tail.position();
        bytes += tail.read(reader, end)?;
        silent = if tail.position() > before { 0 } else { silent + 1 };
    }
    Ok(())
}

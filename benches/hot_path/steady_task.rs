//! The production task with the built-in topology between two plain queues: what it commands is acknowledged
//! at once, and nothing is kept of it, so that all that is measured is the task's own.

use super::changes::{APPENDED_AT, Changes, OurSchema};
use driftless::base::ids::{Region, TaskId};
use driftless::base::time::{Now, UnixMs};
use driftless::port::vector::{StoreReply, StoreRequest};
use driftless::processor::register_standard;
use driftless::record::raw::RawRecord;
use driftless::region::topics::{REPAIR, TopicNames};
use driftless::store::VersionStore;
use driftless::store::memory::MemoryStore;
use driftless::task::command::{Command, Commands, Purpose};
use driftless::task::graph::Graph;
use driftless::task::settings::{TaskSettings, TaskTopics};
use driftless::task::stream_task::{Restored, SourceStart, StreamTask, TaskSetup};
use driftless::topology::build::{NodeTypes, Topology};
use driftless::topology::node::TaskContext;
use std::sync::Arc;
use std::time::Duration;

const TASK: TaskId = TaskId { shard: 0, partition: 0 };
const NEVER: Duration = Duration::from_secs(1 << 32);
/// A row that was sent in one round is not held in the next.
const ROUND: Duration = Duration::from_millis(1);
/// Keys that the store holds: more than are written.
const HELD_KEYS: usize = 10_000;

pub struct SteadyTask {
    task: StreamTask,
    schemas: OurSchema,
    commands: Commands,
    next_offset: i64,
    vectors_next: i64,
    versions_next: i64,
    now: Now,
}

impl SteadyTask {
    /// `sink`: the type of the topology's sink.
    pub fn new(changes: &Changes, sink: &str, held: usize) -> Self {
        let now = Now { wall: APPENDED_AT, monotonic: Duration::ZERO };
        let context = TaskContext {
            task: TASK,
            region: changes.region.clone(),
            partitions: 1,
            collections: changes.collections.clone(),
            max_lateness_ms: 3_600_000,
            schema_id: 1,
        };
        let mut settings =
            TaskSettings { linger: Duration::ZERO, hold: ROUND, heartbeat_interval: NEVER, ..TaskSettings::default() };
        settings.scrub.enabled = false;
        let names = TopicNames::new("bench", 1);
        let setup = TaskSetup { context, topics: TaskTopics::new(&names, TASK), settings, life: 1, graph: graph(sink) };
        let mut task = Self {
            task: StreamTask::new(setup, restored(changes, &names, held), now),
            schemas: OurSchema::default(),
            commands: Commands::new(),
            next_offset: 0,
            vectors_next: HELD_KEYS as i64,
            versions_next: 0,
            now,
        };
        // The opening progress record and the first heartbeat.
        task.take(&mut Vec::new());
        task
    }

    /// One round: what was polled, to its last acknowledgement. It takes time, so that what is done now and then has its
    /// part.
    pub fn take(&mut self, records: &mut Vec<RawRecord>) {
        self.now.wall.0 += ROUND.as_millis() as i64;
        self.now.monotonic += ROUND;
        for mut record in records.drain(..) {
            record.offset = self.next_offset;
            self.next_offset += 1;
            self.task.offer(0, record, self.now);
        }
        let processed = self.task.process(usize::MAX, self.now, &mut self.schemas, &mut self.commands);
        processed.expect("no processor of the topology fails");
        self.task.tick(self.now, &mut self.commands);
        while let Some(command) = self.commands.pop_front() {
            self.acknowledge(command);
        }
    }

    fn acknowledge(&mut self, command: Command) {
        match command {
            Command::Append(_, token) => {
                let next = match token.purpose {
                    Purpose::Vector => &mut self.vectors_next,
                    _ => &mut self.versions_next,
                };
                let offset = if token.purpose == Purpose::Heartbeat { 0 } else { std::mem::replace(next, *next + 1) };
                self.task.appended(token, Ok(offset), self.now, &mut self.commands).expect("the append was taken");
            }
            Command::Store { request: StoreRequest::Write(_), token, .. } => {
                let reply = Ok(StoreReply::Written { written_at: 1 });
                self.task.answered(token, reply, self.now, &mut self.commands).expect("the batch was taken");
            }
            Command::Store { .. } | Command::Read { .. } | Command::CheckSource { .. } => {}
        }
    }

    /// Every record offered so far is settled, and each had this verdict.
    pub fn assert_all(&self, verdict: &str) {
        assert_eq!(self.task.positions()[0], self.next_offset, "all is settled");
        assert_eq!(self.task.totals().verdict(verdict), self.next_offset as u64, "each is a {verdict}");
    }
}

/// What every worker runs, but for its sink.
fn graph(sink: &str) -> Graph {
    let mut types = NodeTypes::default();
    register_standard(&mut types);
    let text = include_str!("../../topologies/replicate.toml").replace("milvus_sink", sink);
    Graph::instantiate(&Topology::parse("replicate.toml", &text, &types).expect("the built-in topology is good"))
}

fn restored(changes: &Changes, names: &TopicNames, held: usize) -> Restored {
    let mut store = MemoryStore::new(&changes.collections, Duration::from_secs(86_400));
    let any = changes.entry(0);
    for number in 0..HELD_KEYS {
        let entry = if number < held { changes.entry(number) } else { any.clone() };
        store.put(&changes.key(number), entry);
    }
    store.activate();
    let eu = Region::new("eu");
    let mirror = names.mirror(&eu, 0);
    let sources = [(changes.region.clone(), names.local(0)), (eu, mirror), (Region::new(REPAIR), names.repair(0))];
    Restored {
        store: Box::new(store),
        sources: sources.map(|(region, topic)| source_start(region, topic)).into(),
        incomplete: Vec::new(),
        resync_from: None,
        floor: None,
        epoch: 1,
        written_at: 0,
        versions_end: 0,
        vectors_next: HELD_KEYS as i64,
        reassert_from: None,
        misplaced: Vec::new(),
        forgotten: Vec::new(),
        held_back: None,
    }
}

fn source_start(region: Region, topic: Arc<str>) -> SourceStart {
    SourceStart {
        region,
        topic,
        topic_id: None,
        next_offset: 0,
        mark: None,
        frontier: Some(UnixMs(0)),
        since: None,
        present: true,
    }
}

//! A running stream task: records in, commands out, answers back. It never waits, never asks a clock and
//! never touches the log or the vector store itself.
//!
//! ```text
//!  offer ► process ► (effects) ► lane ► Batch ──► vector store
//!                        │                            │ answered
//!                        │                            ▼
//!                        │         vectors changelog ► versions changelog ► store, tickets released
//!          │             └► dead letter, conflict, re-key (each holds its ticket)
//!          └► parked, while the vector store takes other collections' rows and not this one's
//!  tick ► batches due, progress, heartbeat, tombstones, re-assertions
//! ```
//!
//! The order of these acknowledgements is the commit order: INV-1, INV-2 and INV-4 rest on it.

mod answers;
mod commit;
mod effects;
mod heartbeats;
mod parked;
mod repair;
mod resync;
mod scrub;

use crate::base::error::Result;
use crate::base::ids::{Region, RowKey, TaskId, TopicId, TopicPartition};
use crate::base::time::{Now, UnixMs};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::decode::Decoded;
use crate::record::headers::is_heartbeat_key;
use crate::record::raw::RawRecord;
use crate::record::schema::SchemaSource;
use crate::store::progress::Gap;
use crate::store::{Position, VersionStore};
use crate::task::command::{Command, Commands, Purpose, Token};
use crate::task::completeness::Completeness;
use crate::task::graph::{Graph, NodeEffect, run};
use crate::task::heartbeat::Pulse;
use crate::task::items::{Items, VersionsView};
use crate::task::lag::{SourceLag, Stage};
use crate::task::lane::Lane;
use crate::task::metrics::{TaskMetrics, Totals};
use crate::task::parking::Parking;
use crate::task::partition_group::PartitionGroup;
use crate::task::reassert::Reassert;
use crate::task::scrub::Scrub;
use crate::task::settings::{TaskSettings, TaskTopics};
use crate::task::settlement::{Mark, Place, Settlement, Ticket};
use crate::task::skew::Skew;
use crate::task::winner_bytes::WinnerBytes;
use crate::topology::node::{Context, Message, SpareRows, TaskContext};
use commit::Committing;
use std::sync::Arc;
use std::time::Duration;

/// Where a source begins, as the restore found it.
#[derive(Debug, Clone)]
pub struct SourceStart {
    pub region: Region,
    pub topic: Arc<str>,
    /// The topic that the offsets are meant of, if it is known.
    pub topic_id: Option<TopicId>,
    pub next_offset: i64,
    pub mark: Option<Mark>,
    pub frontier: Option<UnixMs>,
    /// A of the first record that was ever taken from it.
    pub since: Option<UnixMs>,
    /// The topic is there and agrees with the others; otherwise it is taken up when it does.
    pub present: bool,
}

impl SourceStart {
    fn place(&self) -> Place {
        Place { next_offset: self.next_offset, mark: self.mark, frontier: self.frontier }
    }
}

/// What the restore hands over.
pub struct Restored {
    pub store: Box<dyn VersionStore>,
    pub sources: Vec<SourceStart>,
    /// What the partition lacks.
    pub incomplete: Vec<Gap>,
    pub resync_from: Option<String>,
    pub floor: Option<Hlc>,
    /// One more than the greatest epoch found: ours.
    pub epoch: u64,
    pub written_at: u64,
    /// End of the versions changelog as it was read: what is appended at or after it and not by us is a zombie's.
    pub versions_end: i64,
    /// After this offset of the vectors changelog nothing is any entry's: what is there was left by somebody who
    /// did not get to the entry, or is a zombie's that nobody has answered.
    pub vectors_next: i64,
    /// The former owner did not say that it was done: from here on its writes are written again.
    pub reassert_from: Option<i64>,
    /// Keys whose last record in the versions changelog is not their greatest: to be appended again.
    pub misplaced: Vec<RowKey>,
    /// Forgotten keys for which a zombie has put something since, with what was forgotten.
    pub forgotten: Vec<(RowKey, Version)>,
    /// Before the first record that these two are to answer: the store's position stays there.
    pub held_back: Option<Position>,
}

/// A settled offset and what lies before it.
type Anchor = (i64, Option<Mark>);

struct Source {
    region: Region,
    topic: Arc<str>,
    /// As it was when reading began: all offsets here are meant of that topic, whatever has been fetched since.
    topic_id: Option<TopicId>,
    settlement: Settlement,
    /// The offset after the last record that was offered.
    next_offered: i64,
    /// The repair topic: it has no frontier, and holds the floor back nowhere.
    repair: bool,
    since: Option<UnixMs>,
    /// A place that was read before the last check of the topic, and the place to be checked after it: what was
    /// read since says nothing, a topic that was created anew would vouch for itself.
    anchor: Anchor,
    next_anchor: Anchor,
    present: bool,
    lag: SourceLag,
    /// Seen in this life.
    gaps: u64,
    skew: Skew,
    /// In what the origin's newest heartbeat says that it is configured otherwise than we are.
    disagreements: Vec<String>,
    /// Disagreements already told, so that each is told once.
    warned: Vec<String>,
}

pub struct StreamTask {
    pub context: TaskContext,
    topics: TaskTopics,
    settings: TaskSettings,
    life: u32,
    graph: Graph,
    sources: Vec<Source>,
    group: PartitionGroup,
    store: Box<dyn VersionStore>,
    items: Items,
    winner_bytes: WinnerBytes,
    spare_rows: SpareRows,
    lanes: Vec<Lane>,
    parking: Parking,
    /// Tickets held open by an append that is not an item's, by the id in its token.
    holds: Vec<Option<Ticket>>,
    free_holds: Vec<u32>,
    /// Appends whose acknowledgement is still due.
    outstanding: usize,
    /// Reads whose answer is still due.
    reads: usize,
    /// Re-assertions in the lanes.
    reasserting: usize,
    committing: Committing,
    pulse: Pulse,
    reassert: Reassert,
    completeness: Completeness,
    scrub: Scrub,
    metrics: TaskMetrics,
    draining: bool,
    scratch: Vec<NodeEffect>,
}

/// What a task is made of, besides what was restored.
pub struct TaskSetup {
    pub context: TaskContext,
    pub topics: TaskTopics,
    pub settings: TaskSettings,
    /// Numbers this life of the task within its thread.
    pub life: u32,
    pub graph: Graph,
}

impl StreamTask {
    pub fn new(setup: TaskSetup, restored: Restored, now: Now) -> Self {
        let TaskSetup { context, topics, settings, life, graph } = setup;
        let regions: Vec<Region> = restored.sources.iter().map(|source| source.region.clone()).collect();
        let lanes: Vec<Lane> = context.collections.iter().map(|(id, _)| Lane::new(id, &settings)).collect();
        let mut reassert = Reassert::default();
        if let Some(from) = restored.reassert_from {
            reassert.after_unclean_end(from, now.monotonic + settings.safety_window);
        }
        let mut task = Self {
            group: PartitionGroup::new(regions.len(), settings.buffer_bytes_max),
            parking: Parking::new(lanes.len(), regions.len(), settings.buffer_bytes_max / 4),
            metrics: TaskMetrics::new(&regions, &context.collections),
            committing: Committing::new(&restored, now),
            pulse: Pulse::new(settings.heartbeat_interval),
            completeness: Completeness::new(restored.incomplete, restored.resync_from),
            scrub: Scrub::new(settings.scrub.clone(), lanes.len(), context.task.partition, context.partitions, now),
            sources: Vec::new(),
            store: restored.store,
            items: Items::default(),
            winner_bytes: WinnerBytes::default(),
            spare_rows: SpareRows::default(),
            holds: Vec::new(),
            free_holds: Vec::new(),
            outstanding: 0,
            reads: 0,
            reasserting: 0,
            draining: false,
            scratch: Vec::new(),
            context,
            topics,
            settings,
            life,
            graph,
            lanes,
            reassert,
        };
        for (index, start) in restored.sources.into_iter().enumerate() {
            task.sources.push(Source {
                settlement: Settlement::new(index, start.place()),
                lag: SourceLag::new(start.frontier, task.settings.heartbeat_interval),
                gaps: 0,
                skew: Skew::default(),
                next_offered: start.next_offset,
                anchor: (start.next_offset, start.mark),
                next_anchor: (start.next_offset, start.mark),
                repair: start.topic == task.topics.repair.topic,
                since: start.since,
                region: start.region,
                topic: start.topic,
                topic_id: start.topic_id,
                present: start.present,
                disagreements: Vec::new(),
                warned: Vec::new(),
            });
        }
        task.committing.misplaced = restored.misplaced;
        task.committing.forgotten = restored.forgotten;
        task
    }

    pub fn id(&self) -> TaskId {
        self.context.task
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    /// Takes a polled record of one of its sources. One that was offered before is dropped: settled twice, it
    /// would take the settled offset back (INV-4).
    pub fn offer(&mut self, source: usize, record: RawRecord, now: Now) {
        let known = &mut self.sources[source];
        if !known.present || record.offset < known.next_offered {
            return;
        }
        known.next_offered = record.offset + 1;
        if known.since.is_none() && known.settlement.taken().mark.is_none() {
            known.since = Some(record.appended_at);
        }
        if known.repair {
            // Nothing of it was appended at an origin: it has no lag.
        } else if is_heartbeat_key(record.key.as_deref()) {
            known.lag.heard(record.appended_at);
            let delay_ms = known.skew.delay_ms(record.appended_at, now.wall);
            self.metrics.heartbeat_polled(source, Duration::from_millis(delay_ms));
        } else {
            known.lag.heard(record.appended_at);
            known.lag.passed(Stage::Polled, record.appended_at, now);
        }
        self.metrics.polled(source);
        self.group.push(source, record);
    }

    /// Processes at most `max` records, and as many parked ones; answers how many. Stops early where a buffer is at its
    /// limit (INV-8).
    pub fn process(&mut self, max: usize, now: Now, schemas: &mut dyn SchemaSource, commands: &mut Commands) -> Result<usize> {
        let parked = self.process_parked(max, now, schemas, commands)?;
        let mut processed = 0;
        self.group.unblock();
        while processed < max && self.has_room(now) {
            let Some((source, record)) = self.group.pop() else { break };
            if let Some(mark) = self.mark_of_resync(source, &record) {
                self.take_mark(source, &record, mark, commands);
                processed += 1;
                continue;
            }
            match self.read_source(source, record, schemas) {
                Decoded::NeedsSchema(record) => {
                    self.group.block(source, record);
                    continue;
                }
                Decoded::Change(change) if self.must_park(change.key.collection, now) => self.park(source, change),
                Decoded::Change(change) => {
                    let ticket = self.sources[source].settlement.open(&change.record);
                    self.take_change(ticket, Message { change, row: None }, now, commands)?;
                }
                Decoded::Heartbeat(heartbeat) => self.take_heartbeat(source, &heartbeat, now),
                Decoded::IgnoredHeartbeat(record, _) => self.settle_at_once(source, &record, "ignored-heartbeat"),
                Decoded::Rejected(record, rejection) => {
                    let ticket = self.sources[source].settlement.open(&record);
                    self.dead_letter("decode", ticket, &record, &rejection, commands);
                    self.release(ticket);
                }
            }
            processed += 1;
        }
        Ok(parked + processed)
    }

    /// Judges a change and carries out what is decided. `ticket` is open.
    fn take_change(&mut self, ticket: Ticket, message: Message, now: Now, commands: &mut Commands) -> Result<()> {
        let source = ticket.source;
        let key = message.change.key.clone();
        let record = message.change.record.clone();
        let mut effects = std::mem::take(&mut self.scratch);
        let view = VersionsView::new(&self.items, self.store.as_ref());
        let (context, region, repair) = (&self.context, &self.sources[source].region, self.sources[source].repair);
        let (floor, source_floor) = (self.floor(), self.floor_of(source));
        let spare_rows = &self.spare_rows;
        let walked = self.graph.walk(message, &mut effects, |processor, message, forwarded, effects| {
            run(
                processor,
                message,
                Context {
                    now,
                    task: context,
                    source: region,
                    repair,
                    floor,
                    source_floor,
                    versions: &view,
                    forwarded,
                    effects,
                    spare: spare_rows,
                },
            )
        });
        if let Err(error) = walked {
            return Err(error.context(format_args!("{}[{}] at offset {}", record.topic, record.partition, record.offset)));
        }
        self.sources[source].lag.passed(Stage::Merged, record.appended_at, now);
        self.carry_out(ticket, &key, &record, &mut effects, now, commands);
        self.scratch = effects;
        self.release(ticket);
        Ok(())
    }

    fn settle_at_once(&mut self, source: usize, record: &RawRecord, word: &'static str) {
        self.metrics.verdict(source, word);
        let ticket = self.sources[source].settlement.open(record);
        self.release(ticket);
    }

    /// One thing more must be acknowledged on the ticket's account.
    fn hold_open(&mut self, ticket: Ticket) {
        if let Some(settlement) = self.settlement_of(ticket) {
            settlement.hold(ticket);
        }
    }

    fn release(&mut self, ticket: Ticket) {
        if let Some(settlement) = self.settlement_of(ticket) {
            settlement.release(ticket);
        }
    }

    /// Sends what is due: batches, re-assertions, the progress record, a heartbeat, forgotten tombstones.
    pub fn tick(&mut self, now: Now, commands: &mut Commands) {
        if !self.draining {
            self.beat(now, commands);
            self.forget_tombstones(now, commands);
            self.look_for_what_was_undone(now, commands);
            self.scrub(now, commands);
            self.check_sources(now, commands);
            self.answer_misplaced(now, commands);
            self.read_parked(commands);
        } else {
            self.let_go_of_what_is_turned_down();
        }
        for index in 0..self.lanes.len() {
            if !self.committing.is_open() {
                break;
            }
            let Some(rows) = self.lanes[index].next_batch(&self.items, now, self.draining) else { continue };
            let collection = self.lanes[index].collection;
            let token = self.token(Purpose::Batch, u32::from(collection.0));
            commands.push_back(Command::Store { collection, request: crate::port::vector::StoreRequest::Write(rows), token });
        }
        self.commit(now, commands);
    }

    fn token(&self, purpose: Purpose, id: u32) -> Token {
        Token { life: self.life, purpose, id }
    }

    /// When it wants to be ticked next, if nothing happens before.
    pub fn due(&self) -> Option<Duration> {
        let lanes = self.lanes.iter().filter_map(Lane::due).filter(|_| self.committing.is_open());
        let repairs = self.reassert.due().into_iter().chain(self.scrub.due()).filter(|_| self.may_repair());
        let pulse = (!self.draining).then(|| self.pulse.due());
        lanes.chain(repairs).chain(pulse).chain(self.committing.due()).min()
    }

    /// Records that are polled and not yet processed, parked ones included.
    pub fn buffered_bytes(&self) -> usize {
        self.group.bytes() + self.parking.bytes()
    }

    pub fn wants_pause(&self, source: usize) -> bool {
        self.group.is_full(source)
    }

    pub fn is_overfull(&self, source: usize) -> bool {
        self.group.is_overfull(source)
    }

    pub fn may_resume(&self, source: usize) -> bool {
        self.group.is_half_empty(source)
    }

    /// The source waits for a writer schema.
    pub fn is_blocked(&self, source: usize) -> bool {
        self.group.is_blocked(source)
    }

    /// Takes no more records; what is under way is finished. The buffer is dropped: it is not settled.
    pub fn begin_draining(&mut self) {
        self.draining = true;
        for source in 0..self.sources.len() {
            self.group.clear(source);
        }
    }

    /// Nothing is under way any more, and the log knows it.
    pub fn is_drained(&self) -> bool {
        self.draining && self.items.is_empty() && self.outstanding == 0 && self.committing.is_closed()
    }

    pub fn totals(&self) -> Totals {
        self.metrics.totals()
    }

    pub fn store(&self) -> &dyn VersionStore {
        self.store.as_ref()
    }

    /// Fails if what was decided since the last time may rest on something that the store could not read.
    pub fn check_store(&self) -> Result<()> {
        self.store.check()
    }

    /// The settled offset of each source.
    pub fn positions(&self) -> Vec<i64> {
        (0..self.sources.len()).map(|source| self.settled(source).next_offset).collect()
    }

    pub fn source_count(&self) -> usize {
        self.sources.len()
    }

    /// Region and topic of a source.
    pub fn source(&self, index: usize) -> (&Region, &Arc<str>) {
        let source = &self.sources[index];
        (&source.region, &source.topic)
    }

    fn source_partition(&self, index: usize) -> TopicPartition {
        TopicPartition::new(self.sources[index].topic.clone(), self.context.task.partition)
    }

    pub fn is_present(&self, index: usize) -> bool {
        self.sources[index].present
    }

    /// Winners under way.
    pub fn items_in_flight(&self) -> usize {
        self.items.len()
    }

    /// Nothing is buffered and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.group.is_empty() && self.items.is_empty() && self.parking.is_empty()
    }
}

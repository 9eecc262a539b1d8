//! Collections that the vector store does not take block only themselves: their changes are parked, the others go
//! on. And up to where a source is settled with some of its changes parked.

use super::StreamTask;
use crate::base::error::{Error, Result};
use crate::base::ids::CollectionId;
use crate::base::time::{Now, UnixMs};
use crate::record::change::Change;
use crate::record::decode::Decoded;
use crate::record::reason::Reason;
use crate::record::schema::SchemaSource;
use crate::task::command::{Command, Commands, Part, Reading};
use crate::task::lane::Lane;
use crate::task::settlement::{Place, Settlement, Ticket};
use crate::topology::node::Message;
use std::collections::BTreeMap;

impl StreamTask {
    /// May another record be taken in without passing a limit? A lane that is full for a moment is waited for; one
    /// that is held up is not, as long as there is another that is not full.
    pub(super) fn has_room(&self, now: Now) -> bool {
        let open_max = self.settings.items_max * 4;
        let mut full = self.lanes.iter().filter(|lane| self.is_full(lane));
        let full_count = full.clone().count();
        self.items.len() < self.settings.items_max
            && (full_count == 0 || full_count < self.lanes.len())
            && full.all(|lane| self.must_park(lane.collection, now))
            && self.sources.iter().all(|source| source.settlement.open_records() < open_max)
    }

    /// As much waits in the lane as may. Where there are several, none takes more rows than it leaves free, so that
    /// those which are held up leave room for the others.
    fn is_full(&self, lane: &Lane) -> bool {
        let free = || self.settings.items_max.saturating_sub(self.items.len());
        lane.is_full() || (self.lanes.len() > 1 && lane.rows() >= free())
    }

    /// Are changes of the collection to be parked now?
    pub(super) fn must_park(&self, collection: CollectionId, now: Now) -> bool {
        let lane = &self.lanes[collection.index()];
        self.parking.is_parked(collection) || (self.lanes.len() > 1 && lane.is_held_up(now) && self.is_full(lane))
    }

    pub(super) fn park(&mut self, source: usize, change: Change) {
        let settlement = &mut self.sources[source].settlement;
        let (collection, taken) = (change.key.collection, settlement.taken());
        let ticket = settlement.open(&change.record);
        let offset = change.record.offset;
        if self.parking.park(collection, source, change.record, taken) {
            let name = &self.context.collections.get(collection).name;
            tracing::warn!(task = %self.context.task, collection = %name, topic = %self.sources[source].topic, offset, "the vector store does not take this collection's rows: its changes wait in the log, those of others go on");
        }
        self.release(ticket);
    }

    /// Judges parked changes of collections whose lanes take rows again; answers how many records left the queues.
    pub(super) fn process_parked(
        &mut self,
        max: usize,
        now: Now,
        schemas: &mut dyn SchemaSource,
        commands: &mut Commands,
    ) -> Result<usize> {
        let mut processed = 0;
        for index in 0..self.lanes.len() {
            let collection = self.lanes[index].collection;
            while processed < max && self.items.len() < self.settings.items_max && !self.is_full(&self.lanes[index]) {
                let Some((ticket, record)) = self.parking.next(collection) else { break };
                match self.read_source(ticket.source, record, schemas) {
                    Decoded::NeedsSchema(record) => {
                        self.parking.put_back(collection, ticket, record);
                        break;
                    }
                    Decoded::Change(change) if change.key.collection == collection => {
                        self.parking.judged(collection, ticket.source);
                        self.take_change(ticket, Message { change, row: None }, now, commands)?;
                    }
                    // It was readable when it was parked, perhaps: kept twice rather than not at all.
                    Decoded::Rejected(record, rejection) if rejection.reason == Reason::UnknownSchema => {
                        self.dead_letter("decode", ticket, &record, &rejection, commands);
                        self.release(ticket);
                    }
                    // Taken when the source came to it.
                    _ => self.release(ticket),
                }
                processed += 1;
            }
        }
        Ok(processed)
    }

    /// Asks for what is parked in the log, where the lane takes rows and the queue has room.
    pub(super) fn read_parked(&mut self, commands: &mut Commands) {
        if self.parking.is_empty() {
            return;
        }
        let taken = self.sources.iter().map(|source| source.present.then_some(source.settlement.taken().next_offset));
        let taken: Vec<Option<i64>> = taken.collect();
        for index in 0..self.lanes.len() {
            let collection = self.lanes[index].collection;
            if self.is_full(&self.lanes[index]) {
                continue;
            }
            for read in self.parking.next_reads(collection, &taken) {
                commands.push_back(Command::Read {
                    life: self.life,
                    partition: self.source_partition(read.source),
                    from: read.from,
                    until: read.until,
                    reading: Reading::Parked { collection, source: read.source, id: read.id },
                });
            }
        }
    }

    /// The answer to such a read. What is not there any more was not settled: the task is restored, and says so.
    pub(super) fn parked_read(&mut self, collection: CollectionId, source: usize, id: u32, part: Part) -> Result<()> {
        self.parking.read(collection, source, id, part).map_err(|missing| {
            let (partition, name) = (self.source_partition(source), &self.context.collections.get(collection).name);
            Error::restore(format_args!(
                "{partition}: offsets {} to {} are gone, and changes of collection {name} waited there for the vector store: this partition is incomplete; lengthen the topic's retention",
                missing.from,
                missing.until - 1
            ))
        })
    }

    /// A drain does not wait for rows that the vector store has turned down: unsettled as they are, they are the
    /// successor's to read again, like parked ones.
    pub(super) fn let_go_of_what_is_turned_down(&mut self) {
        for index in 0..self.lanes.len() {
            for id in self.lanes[index].let_go() {
                // A re-assertion among them stays counted, and what it was to undo suspected.
                self.items.remove(id);
            }
        }
    }

    /// A topic that begins at `first` now: has it lost what is parked? Told as soon as it is known; what is left is
    /// read when the collection is back.
    pub(super) fn tell_what_is_lost(&self, source: usize, first: i64) {
        for collection in self.parking.parked_before(source, first) {
            let name = &self.context.collections.get(collection).name;
            let partition = self.source_partition(source);
            tracing::error!(task = %self.context.task, collection = %name, %partition, first, "changes that wait for the vector store were deleted from the topic: lengthen its retention, and make the collection take rows");
        }
    }

    /// Up to where a source is settled: nothing that is parked lies before it.
    pub fn settled(&self, source: usize) -> Place {
        let mut settled = self.sources[source].settlement.settled();
        for parked in self.parking.settlements(source).map(Settlement::settled) {
            let frontier = settled.frontier.min(parked.frontier);
            let least = if parked.next_offset < settled.next_offset { parked } else { settled };
            settled = Place { frontier, ..least };
        }
        settled
    }

    /// Records of a source that are under way.
    pub fn open_records(&self, source: usize) -> usize {
        let parked: usize = self.parking.settlements(source).map(Settlement::open_records).sum();
        self.sources[source].settlement.open_records() + parked
    }

    /// **A** of the oldest record of a source that is under way.
    pub fn oldest_open(&self, source: usize) -> Option<UnixMs> {
        let parked = self.parking.settlements(source).filter_map(Settlement::oldest_open);
        parked.chain(self.sources[source].settlement.oldest_open()).min()
    }

    /// By name of the collection: changes that are parked.
    pub fn parked(&self) -> BTreeMap<String, u64> {
        let waiting = self.context.collections.iter().map(|(id, spec)| (spec.name.clone(), self.parking.waiting(id)));
        waiting.filter(|(_, waiting)| *waiting > 0).collect()
    }

    /// Where a ticket is accounted for.
    pub(super) fn settlement_of(&mut self, ticket: Ticket) -> Option<&mut Settlement> {
        match ticket.parked {
            None => Some(&mut self.sources[ticket.source].settlement),
            Some(collection) => self.parking.settlement(collection, ticket.source),
        }
    }
}

//! Collections whose rows the vector store does not take, unloaded or throttled as they are, while it takes those
//! of others. So that they block only themselves, their changes are *parked*: passed over by the task, in a queue
//! of their own, and what the queue has no room for stays in the log, where it is read again later.
//!
//! ```text
//!                    no room                 room in queue and lane
//!   Queued ────────────────────────► InLog ─────────────────────────► Reading
//!      ▲                               ▲                                │  │
//!      │        all of it was read     └──── there is more in the log ──┘  │
//!      └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! This alone knows which changes are parked. A collection that has one is parked as a whole, so its changes are
//! judged in the order of each source; a parked change is judged once, when it leaves the queue. What it takes does
//! not depend on how many changes wait (INV-8): the queue has a limit, and of the log's part only the ends are
//! known. Each source of a parked collection has a [`Settlement`] of its own, and a source is settled no further
//! than the least of them (INV-4).

use crate::base::ids::CollectionId;
use crate::base::time::UnixMs;
use crate::record::raw::RawRecord;
use crate::task::command::Part;
use crate::task::settlement::{Mark, Place, Settlement, Ticket};
use std::collections::VecDeque;

/// Where what is parked of one source lies.
#[derive(Debug)]
enum Rest {
    /// In the queue, all of it.
    Queued,
    /// From this offset on in the log alone.
    InLog { from: i64 },
    /// `[from, until)` is being read. What was parked since is in `later`, and from `beyond` on in the log alone.
    Reading { from: i64, until: i64, id: u32, later: VecDeque<RawRecord>, beyond: Option<i64> },
}

/// One source of a parked collection.
#[derive(Debug)]
struct Cursor {
    settlement: Settlement,
    rest: Rest,
    /// Changes that are parked and not yet judged.
    waiting: u64,
}

impl Cursor {
    fn is_idle(&self) -> bool {
        matches!(self.rest, Rest::Queued) && self.settlement.open_records() == 0
    }

    /// Where the log's part begins.
    fn log_from(&self) -> Option<i64> {
        match self.rest {
            Rest::Queued => None,
            Rest::InLog { from } | Rest::Reading { from, .. } => Some(from),
        }
    }

    fn later_bytes(&self) -> usize {
        match &self.rest {
            Rest::Reading { later, .. } => later.iter().map(size).sum(),
            Rest::Queued | Rest::InLog { .. } => 0,
        }
    }
}

#[derive(Debug)]
struct Parked {
    queue: VecDeque<(Ticket, RawRecord)>,
    /// Of the queue, and of what is to follow it.
    bytes: usize,
    cursors: Vec<Cursor>,
}

/// A read that is due: `[from, until)` of a source. The answer comes back with `id`.
#[derive(Debug, PartialEq, Eq)]
pub struct DueRead {
    pub source: usize,
    pub from: i64,
    pub until: i64,
    pub id: u32,
}

/// Parked changes that the log does not have any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    pub from: i64,
    pub until: i64,
}

/// All parked changes of a task.
#[derive(Debug)]
pub struct Parking {
    /// Of those collections that were parked before; their settlements' tickets stay unique.
    collections: Vec<Option<Box<Parked>>>,
    sources: usize,
    queue_bytes_max: usize,
    reads: u32,
}

/// What a record takes, with all that is kept beside its content.
fn size(record: &RawRecord) -> usize {
    record.bytes() + size_of::<(Ticket, RawRecord)>()
}

impl Parking {
    pub fn new(collections: usize, sources: usize, queue_bytes_max: usize) -> Self {
        Self { collections: (0..collections).map(|_| None).collect(), sources, queue_bytes_max, reads: 0 }
    }

    fn get(&self, collection: CollectionId) -> Option<&Parked> {
        self.collections[collection.index()].as_deref()
    }

    /// **A** of the oldest change of a source that is parked and not judged; of one that is in the log alone, of what
    /// lies before it.
    pub fn oldest(&self, source: usize) -> Option<UnixMs> {
        let cursors = self.collections.iter().flatten().map(|parked| &parked.cursors[source]);
        let oldest = cursors.filter(|cursor| cursor.waiting > 0).filter_map(|cursor| {
            let queued = cursor.settlement.oldest_open();
            queued.or(cursor.settlement.settled().frontier)
        });
        oldest.min()
    }

    /// Something of it is parked and not yet judged: what comes now goes behind that.
    pub fn is_parked(&self, collection: CollectionId) -> bool {
        let waits = |parked: &Parked| !parked.queue.is_empty() || parked.cursors.iter().any(|cursor| cursor.log_from().is_some());
        self.get(collection).is_some_and(waits)
    }

    /// Parks a change. `taken`: the place of its source before it. True: it is the collection's first to be left in
    /// the log.
    pub fn park(&mut self, collection: CollectionId, source: usize, record: RawRecord, taken: Place) -> bool {
        let (sources, max) = (self.sources, self.queue_bytes_max);
        let parked = self.collections[collection.index()].get_or_insert_with(|| {
            let cursors = (0..sources).map(|source| {
                let settlement = Settlement::of_parked(source, collection, Place::default());
                Cursor { settlement, rest: Rest::Queued, waiting: 0 }
            });
            Box::new(Parked { queue: VecDeque::new(), bytes: 0, cursors: cursors.collect() })
        });
        let cursor = &mut parked.cursors[source];
        if cursor.is_idle() {
            cursor.settlement.move_to(taken);
        }
        cursor.waiting += 1;
        let has_room = parked.bytes < max;
        match &mut cursor.rest {
            Rest::Queued if has_room => {
                parked.bytes += size(&record);
                parked.queue.push_back((cursor.settlement.open(&record), record));
            }
            Rest::Queued => {
                let first = parked.cursors.iter().all(|cursor| cursor.log_from().is_none());
                parked.cursors[source].rest = Rest::InLog { from: record.offset };
                return first;
            }
            Rest::Reading { later, beyond: None, .. } if has_room => {
                parked.bytes += size(&record);
                later.push_back(record);
            }
            Rest::Reading { beyond: beyond @ None, .. } => *beyond = Some(record.offset),
            // Behind what is in the log already.
            Rest::Reading { .. } | Rest::InLog { .. } => {}
        }
        false
    }

    /// The first in the collection's queue. Its ticket is open.
    pub fn next(&mut self, collection: CollectionId) -> Option<(Ticket, RawRecord)> {
        let parked = self.collections[collection.index()].as_deref_mut()?;
        let (ticket, record) = parked.queue.pop_front()?;
        parked.bytes -= size(&record);
        Some((ticket, record))
    }

    /// It can't be read yet.
    pub fn put_back(&mut self, collection: CollectionId, ticket: Ticket, record: RawRecord) {
        if let Some(parked) = self.collections[collection.index()].as_deref_mut() {
            parked.bytes += size(&record);
            parked.queue.push_front((ticket, record));
        }
    }

    /// One change of the collection has left the queue and is judged.
    pub fn judged(&mut self, collection: CollectionId, source: usize) {
        if let Some(parked) = self.collections[collection.index()].as_deref_mut() {
            // One that could not be told to be of the collection when it was passed over was not counted.
            let waiting = &mut parked.cursors[source].waiting;
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// What is to be read for a collection whose lane takes rows, if its queue has room. `taken` of each source that
    /// is there: up to where the task has taken it.
    pub fn next_reads(&mut self, collection: CollectionId, taken: &[Option<i64>]) -> Vec<DueRead> {
        let Some(parked) = self.collections[collection.index()].as_deref_mut() else { return Vec::new() };
        let mut due = Vec::new();
        for (source, cursor) in parked.cursors.iter_mut().enumerate() {
            let (Rest::InLog { from }, Some(until)) = (&cursor.rest, taken[source]) else { continue };
            if parked.bytes > self.queue_bytes_max / 2 {
                break;
            }
            self.reads = self.reads.wrapping_add(1);
            let (id, from) = (self.reads, *from);
            cursor.rest = Rest::Reading { from, until, id, later: VecDeque::new(), beyond: None };
            due.push(DueRead { source, from, until, id });
        }
        due
    }

    /// Takes the answer to a read. An error: what was parked was deleted meanwhile.
    pub fn read(&mut self, collection: CollectionId, source: usize, id: u32, part: Part) -> Result<(), Missing> {
        let Some(parked) = self.collections[collection.index()].as_deref_mut() else { return Ok(()) };
        let cursor = &mut parked.cursors[source];
        let (from, until) = match cursor.rest {
            Rest::Reading { from, until, id: asked, .. } if asked == id => (from, until),
            // The source was begun again since.
            _ => return Ok(()),
        };
        if part.bounds.first > from {
            return Err(Missing { from, until: part.bounds.first.min(until) });
        }
        if part.bounds.end < until {
            return Err(Missing { from: part.bounds.end, until });
        }
        let Rest::Reading { later, beyond, .. } = std::mem::replace(&mut cursor.rest, Rest::Queued) else { return Ok(()) };
        let mut records = part.records;
        parked.bytes -= later.iter().map(size).sum::<usize>();
        if part.next < until {
            // What came later comes again with the rest.
            cursor.rest = Rest::InLog { from: part.next };
        } else {
            records.extend(later);
            if let Some(from) = beyond {
                cursor.rest = Rest::InLog { from };
            }
        }
        for record in records {
            parked.bytes += size(&record);
            parked.queue.push_back((cursor.settlement.open(&record), record));
        }
        Ok(())
    }

    pub fn settlement(&mut self, collection: CollectionId, source: usize) -> Option<&mut Settlement> {
        Some(&mut self.collections[collection.index()].as_deref_mut()?.cursors[source].settlement)
    }

    /// The settlements that a source is not to be settled beyond.
    pub fn settlements(&self, source: usize) -> impl Iterator<Item = &Settlement> {
        let cursors = self.collections.iter().flatten().map(move |parked| &parked.cursors[source]);
        cursors.filter(|cursor| !cursor.is_idle()).map(|cursor| &cursor.settlement)
    }

    /// The source is read again from another offset by the task itself: what is parked of it is let go.
    pub fn begin_again(&mut self, source: usize, next_offset: i64, mark: Option<Mark>) {
        for parked in self.collections.iter_mut().flatten() {
            let cursor = &mut parked.cursors[source];
            (cursor.rest, cursor.waiting) = (Rest::Queued, 0);
            cursor.settlement.begin_again(next_offset, mark);
            parked.queue.retain(|(ticket, _)| ticket.source != source);
            let queued: usize = parked.queue.iter().map(|(_, record)| size(record)).sum();
            parked.bytes = queued + parked.cursors.iter().map(Cursor::later_bytes).sum::<usize>();
        }
    }

    /// The collections that have something in the log before this offset of the source.
    pub fn parked_before(&self, source: usize, offset: i64) -> impl Iterator<Item = CollectionId> {
        let lies_before = move |parked: &Parked| parked.cursors[source].log_from().is_some_and(|from| from < offset);
        let collections = self.collections.iter().enumerate();
        collections
            .filter(move |(_, parked)| parked.as_deref().is_some_and(lies_before))
            .map(|(index, _)| CollectionId(index as u16))
    }

    /// Changes of the collection that are parked and not yet judged.
    pub fn waiting(&self, collection: CollectionId) -> u64 {
        self.get(collection).map_or(0, |parked| parked.cursors.iter().map(|cursor| cursor.waiting).sum())
    }

    /// Bytes of the queues.
    pub fn bytes(&self) -> usize {
        self.collections.iter().flatten().map(|parked| parked.bytes).sum()
    }

    pub fn is_empty(&self) -> bool {
        (0..self.collections.len()).all(|index| !self.is_parked(CollectionId(index as u16)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::UnixMs;
    use crate::port::log::Bounds;
    use crate::task::command::Reading;

    const C: CollectionId = CollectionId(1);
    const ROOM_FOR: i64 = 4;

    fn record(offset: i64) -> RawRecord {
        RawRecord {
            topic: "t".into(),
            partition: 0,
            offset,
            appended_at: UnixMs(offset),
            key: None,
            value: Some(bytes::Bytes::from_static(b"v")),
            headers: Vec::new(),
        }
    }

    fn parking() -> Parking {
        Parking::new(2, 2, ROOM_FOR as usize * size(&record(0)))
    }

    fn park(parking: &mut Parking, source: usize, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            parking.park(C, source, record(offset), Place { next_offset: offset, ..Place::default() });
        }
    }

    /// What leaves the queue, by source and offset; each is settled.
    fn drain(parking: &mut Parking) -> Vec<(usize, i64)> {
        let mut left = Vec::new();
        while let Some((ticket, record)) = parking.next(C) {
            parking.judged(C, ticket.source);
            parking.settlement(C, ticket.source).expect("it is parked").release(ticket);
            left.push((ticket.source, record.offset));
        }
        left
    }

    /// Answers a read with `[from, next)` of a log that has `[first, end)`.
    fn answer(parking: &mut Parking, read: &DueRead, next: i64, (first, end): (i64, i64)) -> Result<(), Missing> {
        let records = (read.from..next.min(read.until)).map(record).collect();
        let (next, bounds) = (if next >= read.until { i64::MAX } else { next }, Bounds { first, end });
        let reading = Reading::Parked { collection: C, source: read.source, id: read.id };
        parking.read(C, read.source, read.id, Part { reading, records, next, until: read.until, bounds })
    }

    fn next_read(parking: &mut Parking, until: i64) -> DueRead {
        let mut due = parking.next_reads(C, &[Some(until), Some(until)]);
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    #[test]
    fn what_does_not_fit_stays_in_the_log_and_comes_in_the_order_of_its_source() {
        let mut parking = parking();
        park(&mut parking, 0, 10..30);
        assert_eq!((parking.waiting(C), parking.bytes()), (20, ROOM_FOR as usize * size(&record(0))));
        assert!(parking.next_reads(C, &[Some(30), None]).is_empty(), "no room in the queue");
        assert_eq!(drain(&mut parking), (10..14).map(|offset| (0, offset)).collect::<Vec<_>>());
        let read = next_read(&mut parking, 30);
        assert_eq!((read.from, read.until), (14, 30));
        // What is parked meanwhile is kept beside, as long as there is room; a part does not reach it.
        park(&mut parking, 0, 30..33);
        answer(&mut parking, &read, 20, (0, 33)).expect("nothing is missing");
        assert_eq!(drain(&mut parking), (14..20).map(|offset| (0, offset)).collect::<Vec<_>>());
        let read = next_read(&mut parking, 33);
        assert_eq!((read.from, read.until), (20, 33));
        park(&mut parking, 0, 33..40);
        answer(&mut parking, &read, 33, (0, 40)).expect("nothing is missing");
        assert_eq!(drain(&mut parking), (20..37).map(|offset| (0, offset)).collect::<Vec<_>>(), "with four that came later");
        let read = next_read(&mut parking, 40);
        assert_eq!((read.from, read.until), (37, 40));
        park(&mut parking, 0, 40..42);
        answer(&mut parking, &read, 40, (0, 42)).expect("nothing is missing");
        assert_eq!(drain(&mut parking), (37..42).map(|offset| (0, offset)).collect::<Vec<_>>());
        assert!(parking.is_empty() && parking.settlements(0).next().is_none(), "it has caught up");
        assert_eq!((parking.waiting(C), parking.bytes()), (0, 0));
    }

    #[test]
    fn a_source_is_settled_no_further_than_what_is_parked_of_it() {
        let mut parking = parking();
        park(&mut parking, 1, 10..20);
        let settled = |parking: &Parking| parking.settlements(1).map(|settlement| settlement.settled().next_offset).min();
        assert_eq!((settled(&parking), parking.settlements(0).count()), (Some(10), 0), "the other source is not held");
        let (ticket, _) = parking.next(C).expect("it is queued");
        drain(&mut parking);
        assert_eq!(settled(&parking), Some(10), "under way");
        parking.settlement(C, 1).expect("it is parked").release(ticket);
        assert_eq!(settled(&parking), Some(14), "in the log");
        let read = next_read(&mut parking, 25);
        answer(&mut parking, &read, 25, (0, 25)).expect("nothing is missing");
        drain(&mut parking);
        assert_eq!(settled(&parking), None);
        park(&mut parking, 1, 50..51);
        assert_eq!(settled(&parking), Some(50), "parked again it begins where the task is, not where it was");
    }

    #[test]
    fn what_is_not_there_any_more_is_an_error_and_never_passed_over() {
        for (bounds, missing) in [((16, 30), Missing { from: 14, until: 16 }), ((0, 20), Missing { from: 20, until: 30 })] {
            let mut parking = parking();
            park(&mut parking, 0, 10..30);
            drain(&mut parking);
            let read = next_read(&mut parking, 30);
            assert_eq!(answer(&mut parking, &read, 30, bounds), Err(missing));
        }
        let mut parking = parking();
        park(&mut parking, 0, 10..30);
        assert_eq!(parking.parked_before(0, 14).count(), 0, "the queue has them");
        assert_eq!(parking.parked_before(0, 15).collect::<Vec<_>>(), [C]);
    }

    #[test]
    fn a_source_that_begins_again_lets_go_of_its_own_alone_and_ignores_what_was_asked_before() {
        let mut parking = parking();
        park(&mut parking, 1, 0..2);
        park(&mut parking, 0, 0..10);
        let (before, _) = parking.next(C).expect("it is queued");
        parking.judged(C, 1);
        let rest = drain(&mut parking);
        assert_eq!((before.source, rest), (1, vec![(1, 1), (0, 0), (0, 1)]));
        let read = next_read(&mut parking, 10);
        parking.begin_again(0, 0, None);
        assert!(answer(&mut parking, &read, 10, (0, 10)).is_ok() && parking.is_empty(), "an answer about the former log");
        assert_eq!(parking.settlements(1).count(), 1, "the other source has one under way");
        parking.settlement(C, 1).expect("it is parked").release(before);
        assert_eq!((parking.settlements(1).count(), parking.waiting(C), parking.bytes()), (0, 0, 0));
    }
}

//! Up to where a source is settled: everything before that offset is applied, refused or dropped for good.
//!
//! Each record taken from a source gets a [`Ticket`]; each thing that must still be acknowledged on its
//! account holds the ticket open once. The settled offset moves over a record when nothing holds its ticket
//! and every record before it is settled (INV-4). What is settled behind an open record is kept by its ends
//! alone: one record that stays open for a day costs no memory for those that come after it.

use crate::base::ids::CollectionId;
use crate::base::time::UnixMs;
use crate::record::raw::RawRecord;
use std::collections::VecDeque;

/// Slots that are kept before runs of settled ones are looked for.
const SLOTS_MIN: usize = 1_024;

/// One record's place in the order in which its source is taken: by the task itself, or, behind it, by the queue of
/// a parked collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub source: usize,
    pub parked: Option<CollectionId>,
    sequence: u64,
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    next_offset: i64,
    appended_at: UnixMs,
    fingerprint: u64,
    /// The greatest append time of the settled records that this slot stands for.
    highest: UnixMs,
    holds: u32,
}

/// What is remembered of the last settled record, to know the topic again after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    pub appended_at: UnixMs,
    pub fingerprint: u64,
}

/// A place in a source, and what lies before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub next_offset: i64,
    /// The record before it.
    pub mark: Option<Mark>,
    /// The greatest append time before it. Of a settled place: **A** up to which all of this source is settled.
    pub frontier: Option<UnixMs>,
}

impl Place {
    fn advance(&mut self, slot: &Slot) {
        self.next_offset = slot.next_offset;
        self.mark = Some(Mark { appended_at: slot.appended_at, fingerprint: slot.fingerprint });
        self.frontier = self.frontier.max(Some(slot.highest));
    }
}

/// Knows a record again: its key, its value's length and the beginning of its value, where an encoded change
/// has its version.
pub fn fingerprint(record: &RawRecord) -> u64 {
    const HEAD_BYTES: usize = 64;
    let key = record.key.as_deref().map_or(0, xxhash_rust::xxh3::xxh3_64);
    let value = record.value.as_deref().unwrap_or_default();
    let head = &value[..value.len().min(HEAD_BYTES)];
    xxhash_rust::xxh3::xxh3_64_with_seed(head, key ^ value.len() as u64)
}

#[derive(Debug)]
pub struct Settlement {
    source: usize,
    parked: Option<CollectionId>,
    /// Of the next ticket.
    sequence: u64,
    /// Tickets below it are of a reading that was given up: nothing waits for them any more.
    begun: u64,
    /// In the order of their sequence; of settled ones that follow each other the last may stand for all.
    slots: VecDeque<Slot>,
    open: usize,
    /// Runs of settled slots are looked for when there are so many.
    slots_max: usize,
    settled: Place,
    taken: Place,
}

impl Settlement {
    /// Of a source as the task itself takes it.
    pub fn new(source: usize, place: Place) -> Self {
        Self::of(source, None, place)
    }

    /// Of a source as a parked collection's queue takes it, behind the task.
    pub fn of_parked(source: usize, collection: CollectionId, place: Place) -> Self {
        Self::of(source, Some(collection), place)
    }

    fn of(source: usize, parked: Option<CollectionId>, place: Place) -> Self {
        let (slots, slots_max) = (VecDeque::new(), SLOTS_MIN);
        Self { source, parked, sequence: 0, begun: 0, slots, open: 0, slots_max, settled: place, taken: place }
    }

    /// The source is read again from another offset: what is open is no longer waited for.
    pub fn begin_again(&mut self, next_offset: i64, mark: Option<Mark>) {
        self.move_to(Place { next_offset, mark, frontier: self.settled.frontier });
    }

    /// Goes on at another place, with nothing open.
    pub fn move_to(&mut self, place: Place) {
        self.begun = self.sequence;
        self.slots.clear();
        self.open = 0;
        (self.settled, self.taken) = (place, place);
    }

    /// Takes note of a record, in offset order. It is open once, until [`Settlement::release`] of the caller.
    pub fn open(&mut self, record: &RawRecord) -> Ticket {
        if self.slots.len() >= self.slots_max {
            self.join_settled();
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let slot = Slot {
            sequence,
            next_offset: record.offset + 1,
            appended_at: record.appended_at,
            fingerprint: fingerprint(record),
            highest: record.appended_at,
            holds: 1,
        };
        self.taken.advance(&slot);
        self.slots.push_back(slot);
        self.open += 1;
        Ticket { source: self.source, parked: self.parked, sequence }
    }

    /// Of settled slots that follow each other the last is kept, so that there are at most twice as many as open
    /// ones. Done each time that they have doubled: a constant cost for each record.
    fn join_settled(&mut self) {
        let mut kept: VecDeque<Slot> = VecDeque::new();
        for slot in self.slots.drain(..) {
            match kept.back_mut() {
                Some(last) if last.holds == 0 && slot.holds == 0 => {
                    let highest = last.highest.max(slot.highest);
                    *last = Slot { highest, ..slot };
                }
                _ => kept.push_back(slot),
            }
        }
        self.slots = kept;
        self.slots_max = (2 * self.slots.len()).max(SLOTS_MIN);
    }

    /// One thing more must be acknowledged before this record is settled.
    pub fn hold(&mut self, ticket: Ticket) {
        if let Some(slot) = self.slot(ticket) {
            slot.holds += 1;
        }
    }

    /// One thing less; moves the settled offset over all that is settled now.
    pub fn release(&mut self, ticket: Ticket) {
        let Some(slot) = self.slot(ticket) else { return };
        slot.holds = slot.holds.checked_sub(1).expect("INV-4: a ticket is released as often as it is held");
        if slot.holds > 0 {
            return;
        }
        self.open -= 1;
        while let Some(slot) = self.slots.front().filter(|slot| slot.holds == 0) {
            self.settled.advance(slot);
            self.slots.pop_front();
        }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        debug_assert_eq!((ticket.source, ticket.parked), (self.source, self.parked));
        if ticket.sequence < self.begun {
            return None;
        }
        let front = self.slots.front().map_or(self.sequence, |slot| slot.sequence);
        // Where it lies if none was joined with another; otherwise further to the front.
        let last = ticket.sequence.checked_sub(front).expect("INV-4: an open ticket's slot has not settled") as usize;
        let index = match self.slots.get(last) {
            Some(slot) if slot.sequence == ticket.sequence => last,
            _ => {
                let found = self.slots.binary_search_by_key(&ticket.sequence, |slot| slot.sequence);
                found.expect("INV-4: an open ticket's slot is joined with no other")
            }
        };
        self.slots.get_mut(index)
    }

    /// Up to where all is settled.
    pub fn settled(&self) -> Place {
        self.settled
    }

    /// Up to where records have been taken.
    pub fn taken(&self) -> Place {
        self.taken
    }

    /// Records taken on whose account something must still be acknowledged.
    pub fn open_records(&self) -> usize {
        self.open
    }

    /// **A** of the oldest record that is not settled.
    pub fn oldest_open(&self) -> Option<UnixMs> {
        self.slots.front().map(|slot| slot.appended_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, appended_at: i64) -> RawRecord {
        RawRecord {
            topic: "t".into(),
            partition: 0,
            offset,
            appended_at: UnixMs(appended_at),
            key: None,
            value: Some(bytes::Bytes::from_static(b"v")),
            headers: Vec::new(),
        }
    }

    fn at(next_offset: i64) -> Place {
        Place { next_offset, ..Place::default() }
    }

    #[test]
    fn the_settled_offset_waits_for_the_oldest_open_record() {
        let mut settlement = Settlement::new(0, at(10));
        let tickets: Vec<Ticket> = (10..13).map(|offset| settlement.open(&record(offset, offset * 100))).collect();
        settlement.release(tickets[2]);
        settlement.release(tickets[1]);
        assert_eq!((settlement.settled().next_offset, settlement.settled().frontier), (10, None));
        settlement.release(tickets[0]);
        assert_eq!((settlement.settled().next_offset, settlement.settled().frontier), (13, Some(UnixMs(1200))));
        assert_eq!(settlement.settled().mark.map(|mark| mark.appended_at), Some(UnixMs(1200)));
    }

    #[test]
    fn a_record_held_twice_settles_at_the_second_release() {
        let mut settlement = Settlement::new(0, at(0));
        let ticket = settlement.open(&record(5, 1));
        settlement.hold(ticket);
        settlement.release(ticket);
        assert_eq!(settlement.settled().next_offset, 0);
        settlement.release(ticket);
        assert_eq!(settlement.settled().next_offset, 6, "holes before a record settle with it");
    }

    #[test]
    fn what_is_settled_behind_an_open_record_takes_no_room_and_settles_with_it() {
        let mut settlement = Settlement::new(0, at(0));
        let oldest = settlement.open(&record(0, 1));
        let held: Vec<Ticket> = (1..100_000)
            .filter_map(|offset| {
                let ticket = settlement.open(&record(offset, 1_000_000 - offset));
                let kept = offset % 1_000 == 0;
                if !kept {
                    settlement.release(ticket);
                }
                kept.then_some(ticket)
            })
            .collect();
        assert!(settlement.slots.len() <= 2 * SLOTS_MIN, "{} slots for 100 open records", settlement.slots.len());
        assert_eq!((settlement.open_records(), settlement.taken().next_offset), (100, 100_000));
        for ticket in held.iter().rev() {
            settlement.release(*ticket);
        }
        assert_eq!(settlement.settled(), at(0));
        settlement.release(oldest);
        assert_eq!(settlement.settled(), settlement.taken());
        assert_eq!(settlement.settled().frontier, Some(UnixMs(999_999)), "the greatest of those that were joined");
        assert_eq!(settlement.settled().mark.map(|mark| mark.appended_at), Some(UnixMs(900_001)), "the last's");
    }

    #[test]
    fn what_was_open_when_the_source_began_again_settles_nothing() {
        let mut settlement = Settlement::new(0, at(10));
        let before = settlement.open(&record(10, 1000));
        settlement.begin_again(0, None);
        let after = settlement.open(&record(0, 2000));
        settlement.hold(before);
        settlement.release(before);
        assert_eq!((settlement.settled().next_offset, settlement.open_records()), (0, 1));
        settlement.release(after);
        assert_eq!(settlement.settled().next_offset, 1);
    }

    #[test]
    fn a_frontier_never_goes_back() {
        let mut settlement = Settlement::new(0, Place { frontier: Some(UnixMs(50)), ..at(0) });
        let ticket = settlement.open(&record(0, 40));
        settlement.release(ticket);
        assert_eq!(settlement.settled().frontier, Some(UnixMs(50)));
    }

    #[test]
    fn a_fingerprint_tells_records_apart() {
        let mut other = record(1, 1);
        other.value = Some(bytes::Bytes::from_static(b"w"));
        assert_eq!(fingerprint(&record(1, 1)), fingerprint(&record(2, 9)));
        assert_ne!(fingerprint(&record(1, 1)), fingerprint(&other));
        other.value = None;
        assert_ne!(fingerprint(&record(1, 1)), fingerprint(&other));
    }
}

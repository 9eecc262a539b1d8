//! Up to where a source is settled: everything before that offset is applied, refused or dropped for good.
//!
//! Each record taken from a source gets a [`Ticket`]; each thing that must still be acknowledged on its
//! account holds the ticket open once. The settled offset moves over a record when nothing holds its ticket
//! and every record before it is settled (INV-4).

use crate::base::time::UnixMs;
use crate::record::raw::RawRecord;
use std::collections::VecDeque;

/// One record's place in its source's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub source: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Slot {
    next_offset: i64,
    appended_at: UnixMs,
    fingerprint: u64,
    holds: u32,
}

/// What is remembered of the last settled record, to know the topic again after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    pub appended_at: UnixMs,
    pub fingerprint: u64,
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
    /// Sequence of the front slot.
    front: u64,
    /// Tickets below it are of a reading that was given up: nothing waits for them any more.
    begun: u64,
    slots: VecDeque<Slot>,
    /// The first offset that is not settled.
    next_offset: i64,
    mark: Option<Mark>,
    /// **A** up to which all of this source is settled.
    frontier: Option<UnixMs>,
}

impl Settlement {
    pub fn new(source: usize, next_offset: i64, mark: Option<Mark>, frontier: Option<UnixMs>) -> Self {
        Self { source, front: 0, begun: 0, slots: VecDeque::new(), next_offset, mark, frontier }
    }

    /// The source is read again from another offset: what is open is no longer waited for.
    pub fn begin_again(&mut self, next_offset: i64, mark: Option<Mark>) {
        self.front += self.slots.len() as u64;
        self.begun = self.front;
        self.slots.clear();
        (self.next_offset, self.mark) = (next_offset, mark);
    }

    /// Takes note of a record, in offset order. It is open once, until [`Settlement::release`] of the caller.
    pub fn open(&mut self, record: &RawRecord) -> Ticket {
        let sequence = self.front + self.slots.len() as u64;
        let fingerprint = fingerprint(record);
        self.slots.push_back(Slot { next_offset: record.offset + 1, appended_at: record.appended_at, fingerprint, holds: 1 });
        Ticket { source: self.source, sequence }
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
        while self.slots.front().is_some_and(|slot| slot.holds == 0) {
            let slot = self.slots.pop_front().expect("the loop's condition has seen it");
            self.front += 1;
            self.next_offset = slot.next_offset;
            self.mark = Some(Mark { appended_at: slot.appended_at, fingerprint: slot.fingerprint });
            self.frontier = self.frontier.max(Some(slot.appended_at));
        }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        debug_assert_eq!(ticket.source, self.source);
        if ticket.sequence < self.begun {
            return None;
        }
        let index = ticket.sequence.checked_sub(self.front).expect("INV-4: an open ticket's slot has not settled");
        Some(&mut self.slots[index as usize])
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    pub fn frontier(&self) -> Option<UnixMs> {
        self.frontier
    }

    /// Records taken and not settled.
    pub fn open_records(&self) -> usize {
        self.slots.len()
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

    #[test]
    fn the_settled_offset_waits_for_the_oldest_open_record() {
        let mut settlement = Settlement::new(0, 10, None, None);
        let tickets: Vec<Ticket> = (10..13).map(|offset| settlement.open(&record(offset, offset * 100))).collect();
        settlement.release(tickets[2]);
        settlement.release(tickets[1]);
        assert_eq!((settlement.next_offset(), settlement.frontier()), (10, None));
        settlement.release(tickets[0]);
        assert_eq!((settlement.next_offset(), settlement.frontier()), (13, Some(UnixMs(1200))));
        assert_eq!(settlement.mark().map(|mark| mark.appended_at), Some(UnixMs(1200)));
    }

    #[test]
    fn a_record_held_twice_settles_at_the_second_release() {
        let mut settlement = Settlement::new(0, 0, None, None);
        let ticket = settlement.open(&record(5, 1));
        settlement.hold(ticket);
        settlement.release(ticket);
        assert_eq!(settlement.next_offset(), 0);
        settlement.release(ticket);
        assert_eq!(settlement.next_offset(), 6, "holes before a record settle with it");
    }

    #[test]
    fn what_was_open_when_the_source_began_again_settles_nothing() {
        let mut settlement = Settlement::new(0, 10, None, None);
        let before = settlement.open(&record(10, 1000));
        settlement.begin_again(0, None);
        let after = settlement.open(&record(0, 2000));
        settlement.hold(before);
        settlement.release(before);
        assert_eq!((settlement.next_offset(), settlement.open_records()), (0, 1));
        settlement.release(after);
        assert_eq!(settlement.next_offset(), 1);
    }

    #[test]
    fn a_frontier_never_goes_back() {
        let mut settlement = Settlement::new(0, 0, None, Some(UnixMs(50)));
        let ticket = settlement.open(&record(0, 40));
        settlement.release(ticket);
        assert_eq!(settlement.frontier(), Some(UnixMs(50)));
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

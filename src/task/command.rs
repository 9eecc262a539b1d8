//! What a task wants done: the only way in which it acts. The stream thread carries the commands out.

use crate::base::ids::{CollectionId, TopicPartition};
use crate::port::log::{Append, Bounds};
use crate::port::vector::StoreRequest;
use crate::record::raw::RawRecord;
use std::collections::VecDeque;

/// Whose answer it is: the life of a task that asked, what for, and which one. Answers to an earlier life of a
/// task (before it was closed) are told by `life` and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub life: u32,
    pub purpose: Purpose,
    pub id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// A record that holds a ticket open: dead letter, conflict, re-key. The id names the hold.
    Hold = 0,
    /// An item's winning change in the vectors changelog.
    Vector = 1,
    /// An item's entry in the versions changelog.
    Entry = 2,
    Progress = 3,
    Heartbeat = 4,
    /// The answer to a zombie's append: the entry once more.
    Correction = 5,
    /// A lane's batch; the id is the collection's.
    Batch = 6,
    /// A lane's read-back of suspects; the id is the collection's.
    ReadBack = 7,
    /// The scrubber's read of a page of rows; the id is the collection's.
    Scrub = 8,
    /// The stream thread's own: a page of its walk through a collection's rows. Under life 0, which no task has.
    Walk = 9,
}

impl Token {
    /// `life` has 24 bits: 16 million assignments of one thread.
    pub fn pack(self) -> u64 {
        (u64::from(self.life) << 40) | ((self.purpose as u64) << 32) | u64::from(self.id)
    }

    pub fn unpack(packed: u64) -> Option<Self> {
        let purpose = match (packed >> 32) as u8 {
            0 => Purpose::Hold,
            1 => Purpose::Vector,
            2 => Purpose::Entry,
            3 => Purpose::Progress,
            4 => Purpose::Heartbeat,
            5 => Purpose::Correction,
            6 => Purpose::Batch,
            7 => Purpose::ReadBack,
            8 => Purpose::Scrub,
            9 => Purpose::Walk,
            _ => return None,
        };
        Some(Self { life: (packed >> 40) as u32, purpose, id: packed as u32 })
    }
}

#[derive(Debug)]
pub enum Command {
    Append(Append, Token),
    Store {
        collection: CollectionId,
        request: StoreRequest,
        token: Token,
    },
    /// Read part of a partition outside of the group; the answer comes back with `reading`.
    Read {
        life: u32,
        partition: TopicPartition,
        from: i64,
        until: i64,
        reading: Reading,
    },
    /// Is the log still the one that this mark was taken from?
    CheckSource {
        life: u32,
        source: usize,
    },
}

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A hole between two of our own appends: somebody else's records in the versions changelog.
    ForeignEntries,
    /// The same in the vectors changelog.
    ForeignVectors,
    /// Winners whose place at the end of the vectors changelog a zombie has taken: appended once more.
    Reappend,
    /// Winners to be written to the vector store again.
    Reassert,
    /// The same, where the scrubber has found that their rows differ.
    Scrub,
    /// Parked changes of a collection, from one of the task's sources; `id` names the read.
    Parked { collection: CollectionId, source: usize, id: u32 },
}

/// The answer to [`Command::Read`], or a part of it: `records` lie in `[from, next)`.
#[derive(Debug)]
pub struct Part {
    pub reading: Reading,
    pub records: Vec<RawRecord>,
    /// Where to go on reading; at or beyond `until` there is nothing more.
    pub next: i64,
    pub until: i64,
    /// What the partition had when it was read.
    pub bounds: Bounds,
}

/// Commands in the order in which they must be carried out.
pub type Commands = VecDeque<Command>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_packing() {
        for purpose in
            [Purpose::Hold, Purpose::Vector, Purpose::Entry, Purpose::Progress, Purpose::ReadBack, Purpose::Scrub, Purpose::Walk]
        {
            let token = Token { life: (1 << 24) - 1, purpose, id: u32::MAX };
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(0xff << 32), None);
    }
}

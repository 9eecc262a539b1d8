//! State: the versions that hold each row key, how they are written down, how far a task has come, and how far a
//! store has followed its changelog.

pub mod entry;
pub mod forgotten;
pub mod memory;
pub mod progress;
pub mod row_key;

use crate::base::error::Result;
use crate::base::ids::{CollectionId, RowKey, TaskId, TopicId, TopicPartition, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::collection::Collections;
use entry::Entry;
use progress::Progress;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Where a walk through a store has come to: the store's own notion, meaningless elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// The versions store of one task. It holds acknowledged entries only (INV-1).
///
/// Reading and putting cannot fail in the caller's face: a store that can't be read or written says so in
/// [`check`](Self::check), and what it has answered since the check before must not be acted on.
///
/// One conformance suite (`testing::conformance`) runs on every implementation.
pub trait VersionStore: Send {
    fn get(&self, key: &RowKey) -> Option<Entry>;

    fn put(&mut self, key: &RowKey, entry: Entry);

    /// Puts what the log holds of a key, unless something newer is known of it.
    fn put_newer(&mut self, key: &RowKey, entry: Entry) -> Put {
        if let Some(up_to) = self.forgotten(key).filter(|up_to| entry.version <= *up_to) {
            return Put::Forgotten(up_to);
        }
        if self.get(key).is_some_and(|held| entry.is_older_than(&held)) {
            return Put::Older;
        }
        self.put(key, entry);
        Put::Taken
    }

    /// Drops what is held of the key, and remembers up to which version it was forgotten for as long as somebody who
    /// does not know it may write something older. Answers with what was dropped.
    fn forget(&mut self, key: &RowKey, up_to: &Version) -> Option<Entry>;

    /// Up to which version the key was forgotten, if nothing was put since and it is remembered.
    fn forgotten(&self, key: &RowKey) -> Option<Version>;

    /// Entries held, tombstones included.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset after the last vector that an entry, held or replaced since, has named.
    fn vectors_end(&self) -> i64;

    /// At most `max` tombstones whose stamp is below `floor`, oldest first, with their entries.
    fn tombstones_below(&self, floor: Hlc, max: usize) -> Vec<(RowKey, Entry)>;

    /// Resident memory, in bytes.
    fn memory_bytes(&self) -> usize;

    /// Room taken on disk, in bytes.
    fn disk_bytes(&self) -> u64 {
        0
    }

    /// Visits every entry, in no particular order.
    fn for_each(&self, visit: &mut dyn FnMut(RowKey, Entry));

    /// At most `max` entries of a collection, from a place on that an earlier call has given, and where to go on;
    /// `None` at the end. Entries that are put or forgotten while the walk goes on may be missed, and those put lately that
    /// a store on disk has not written yet: whoever walks for ever meets them next time.
    fn page(
        &self,
        collection: CollectionId,
        from: Option<&Cursor>,
        max: usize,
        entries: &mut Vec<(VectorId, Entry)>,
    ) -> Option<Cursor>;

    /// The store holds all that the changelog says before this position. It may hold more than that: reading on from
    /// an earlier place, to the end, leads to the same state. Where the store outlives the process, all of it and the
    /// position become durable as one, or not at all.
    fn commit(&mut self, applied: &Applied) -> Result<()>;

    /// An error means that nothing it has answered since the last check may be acted on.
    fn check(&self) -> Result<()>;

    /// All that the changelog held has been put: what comes now comes little by little, and somebody may build on what
    /// is kept.
    fn caught_up(&mut self) {}

    /// Its task goes active: what only a reader of the changelog asks for ([`forgotten`](Self::forgotten)) may be let
    /// go where it takes memory.
    fn activate(&mut self);
}

/// What became of something that the log had put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    Taken,
    /// Something newer is held.
    Older,
    /// The key was forgotten up to this version, which is not older.
    Forgotten(Version),
}

/// A place in a changelog: everything before it. What lies behind it was appended at `at` or later, by the log's own
/// times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub next_offset: i64,
    pub at: UnixMs,
}

/// How far a store has followed its changelog, and the progress that the log told there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub position: Position,
    pub progress: Option<Progress>,
}

/// What a store is opened for: the changelog that it follows, and how its keys are to be read.
#[derive(Debug, Clone)]
pub struct StoreOf {
    pub task: TaskId,
    pub changelog: TopicPartition,
    /// None if the log gives its topics no id: then nothing proves that a kept store is of this one.
    pub topic_id: Option<TopicId>,
    pub collections: Arc<Collections>,
    /// How long the changelog remembers that a key was forgotten.
    pub horizon: Duration,
}

/// An opened store. `applied` is none where it is new and empty.
pub struct Opened {
    pub store: Box<dyn VersionStore>,
    pub applied: Option<Applied>,
    /// Why something that was kept could not be used.
    pub warning: Option<String>,
}

/// Where stores come from. A store is one task's alone: it is closed by being dropped, and may be opened again then.
pub trait Stores: Send + Sync + Debug {
    /// What was kept for the task, if it is this changelog's and can be read; else a new one. Fails with
    /// [`Remedy::Retry`](crate::base::error::Remedy::Retry) while somebody else has it open.
    fn open(&self, of: &StoreOf) -> Result<Opened>;

    /// A new one, whatever was kept.
    fn open_empty(&self, of: &StoreOf) -> Result<Opened>;

    /// Waits a moment for stores that were dropped and still write what they were told last.
    fn await_closed(&self) {}
}

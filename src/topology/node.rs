//! What a node of a topology may do: read a change, look at the store, and say what is to happen.
//!
//! A processor decides and never acts: what it wants done it leaves with its [`Context`] as [`Effect`]s,
//! which the task's shell carries out (and a simulator, or a test, looks at).

use crate::base::error::Result;
use crate::base::ids::{Region, RowKey, TaskId};
use crate::base::time::Now;
use crate::merge::hlc::Hlc;
use crate::merge::version::{ContentHash, Version};
use crate::record::change::{Change, Op};
use crate::record::collection::Collections;
use crate::record::reason::Rejection;
use crate::store::entry::Entry;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// A change on its way through the topology; `row` is there once the merge has read the winner's body.
#[derive(Debug, Clone)]
pub struct Message {
    pub change: Change,
    pub row: Option<Row>,
}

/// A winner's content as the vector store takes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub vector: Vec<f32>,
    /// One JSON object, nulls left out.
    pub metadata: Vec<u8>,
}

/// Rows that are done with, to be filled again: a winner's row is made without an allocation.
#[derive(Debug, Default)]
pub(crate) struct SpareRows {
    rows: RefCell<Vec<Row>>,
    bytes: Cell<usize>,
}

/// What spare rows may hold: those of a poll's winners at 768 dimensions.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl SpareRows {
    pub fn take(&self) -> Row {
        let row = self.rows.borrow_mut().pop().unwrap_or_default();
        self.bytes.set(self.bytes.get() - row.room());
        row
    }

    pub fn give(&self, mut row: Row) {
        row.vector.clear();
        row.metadata.clear();
        let bytes = self.bytes.get() + row.room();
        if bytes <= SPARE_BYTES_MAX {
            self.bytes.set(bytes);
            self.rows.borrow_mut().push(row);
        }
    }
}

impl Row {
    /// Bytes that it holds, filled or not.
    fn room(&self) -> usize {
        self.vector.capacity() * size_of::<f32>() + self.metadata.capacity()
    }
}

/// A user's own operator implements this and registers its type name with
/// [`build::NodeTypes`](crate::topology::build::NodeTypes).
///
/// One instance serves one task: it may keep state, but state that must outlive a crash belongs in a store.
pub trait Processor: Send {
    /// Decides about one message. An error ends the task by its remedy; a record that cannot be applied is
    /// no error but a [`Context::reject`].
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()>;
}

/// What is to happen on account of one record.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Nothing more happens to it; counted under this word.
    Drop(&'static str),
    /// Keep it, with its reason, on the dead-letter topic.
    DeadLetter(Rejection),
    /// Keep a loser of another origin on the conflicts topic.
    Conflict { loser: Box<Change>, winner: Version },
    /// Append it again under its proper key, bytes unchanged.
    Rekey { key: RowKey },
    /// It holds its row key from now on: both changelogs, then the store. The entry's vector offset is
    /// filled in when the vectors changelog has acknowledged it.
    Put { entry: Entry },
    /// Write it to the vector store.
    Write(Wanted),
}

/// What is to be written to the vector store.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub op: Op,
    pub version: Version,
    pub row: Option<Row>,
}

/// Who holds a row key: acknowledged, or still under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub version: Version,
    pub content_hash: ContentHash,
    pub tombstone: bool,
    /// This region's vector store refused the row: the same change again is another try, not a duplicate.
    pub refused: bool,
    /// Not yet acknowledged everywhere; what is judged against it settles no earlier than it does.
    pub in_flight: bool,
}

impl Holder {
    /// Refused by the vector store and settled: a replay of the same change is admitted (it is how an operator
    /// offers the row again), here alone; every other region sees a duplicate.
    pub fn is_worth_another_try(&self) -> bool {
        self.refused && !self.in_flight
    }
}

/// The versions store as a processor sees it: what is in flight is asked first, then what is acknowledged.
pub trait Versions {
    fn holder(&self, key: &RowKey) -> Option<Holder>;
}

/// What is fixed for a task.
#[derive(Debug, Clone)]
pub struct TaskContext {
    pub task: TaskId,
    /// This worker's region.
    pub region: Region,
    /// Partition count of the shard's topics.
    pub partitions: i32,
    pub collections: Arc<Collections>,
    /// `max_lateness`, in ms: the `L` of admission.
    pub max_lateness_ms: i64,
    /// The id of our own schema in this region's registry, for what this worker itself writes.
    pub schema_id: u32,
}

/// Everything a processor may see and say while it has one record.
pub struct Context<'a> {
    pub now: Now,
    pub task: &'a TaskContext,
    /// The region whose topic the record was read from.
    pub source: &'a Region,
    /// It was read from the repair topic: its origin has admitted it, and a peer holds it. What is judged by the times
    /// and places of a change topic does not hold for it.
    pub repair: bool,
    /// The floor of this partition: no admissible change below it is still to come. `None` while unknown.
    pub floor: Option<Hlc>,
    /// The floor as far as the record's own source has earned it: at most `floor`. Below it a record is a replay.
    pub source_floor: Option<Hlc>,
    pub versions: &'a dyn Versions,
    /// What goes on to the node's children.
    pub(crate) forwarded: &'a mut Vec<Message>,
    pub(crate) effects: &'a mut Vec<Effect>,
    pub(crate) spare: &'a SpareRows,
}

impl Context<'_> {
    /// An empty row, to be filled.
    pub fn spare_row(&self) -> Row {
        self.spare.take()
    }

    /// Gives back a row that goes nowhere.
    pub fn done_with(&self, row: Row) {
        self.spare.give(row);
    }

    pub fn forward(&mut self, message: Message) {
        self.forwarded.push(message);
    }

    /// Ends the record's way: `verdict` is the word it is counted under.
    pub fn drop_as(&mut self, verdict: &'static str) {
        self.effects.push(Effect::Drop(verdict));
    }

    pub fn reject(&mut self, rejection: Rejection) {
        self.effects.push(Effect::DeadLetter(rejection));
    }

    pub fn conflict(&mut self, loser: Change, winner: Version) {
        self.effects.push(Effect::Conflict { loser: Box::new(loser), winner });
    }

    pub fn rekey(&mut self, key: RowKey) {
        self.effects.push(Effect::Rekey { key });
    }

    pub fn put(&mut self, change: &Change, content_hash: ContentHash) {
        let entry = Entry {
            version: change.version.clone(),
            content_hash,
            vector_offset: 0,
            tombstone: change.op == Op::Delete,
            refused: false,
        };
        self.effects.push(Effect::Put { entry });
    }

    pub fn write(&mut self, message: Message) {
        let Message { change, row } = message;
        self.effects.push(Effect::Write(Wanted { op: change.op, version: change.version, row }));
    }

    /// Is the record from the region's own change topic, rather than from a mirror?
    pub fn from_own_region(&self) -> bool {
        *self.source == self.task.region
    }
}

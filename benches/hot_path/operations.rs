//! The operations of the hot path, each on records made beforehand: `benches/hot_path` times them, `tests/allocations.rs`
//! counts what they allocate and `tests/instructions.rs` what they execute.

use super::changes::{Changes, OurSchema};
use super::steady_task::SteadyTask;
use driftless::base::ids::RowKey;
use driftless::base::time::Now;
use driftless::merge::lww::{Verdict, judge};
use driftless::record::change::Change;
use driftless::record::decode::{Decoded, decode, decode_row};
use driftless::record::raw::RawRecord;
use driftless::store::entry::Entry;
use driftless::store::memory::MemoryStore;
use driftless::store::{VersionStore, row_key};
use driftless::task::items::{Item, Items, Kind, VersionsView, Write};
use driftless::task::lane::Lane;
use driftless::task::settings::TaskSettings;
use driftless::task::settlement::{Place, Settlement};
use driftless::topology::node::{Row, Versions};
use std::hint::black_box;
use std::time::Duration;

/// Of one run: as many as a poll brings under load.
pub const RECORDS: usize = 256;

const OLDER: i64 = -1;
const HELD: i64 = 0;
const NEWER: i64 = 1;

pub trait Operation {
    /// Makes what the next run will use up; not measured.
    fn prepare(&mut self) {}

    /// Once for each of [`RECORDS`] records.
    fn run(&mut self);

    /// Fails if the runs so far did not do what they are named after.
    fn check(&self) {}
}

type Make = fn() -> Box<dyn Operation>;

/// By name: `what/of how many dimensions`.
pub const OPERATIONS: &[(&str, Make)] = &[
    ("decode-header/768", || Box::new(Decode::new(768, false))),
    ("decode-full/128", || Box::new(Decode::new(128, true))),
    ("decode-full/768", || Box::new(Decode::new(768, true))),
    ("merge-duplicate/768", || Box::new(Merge::new(HELD, Verdict::Duplicate))),
    ("merge-stale/768", || Box::new(Merge::new(OLDER, Verdict::Stale))),
    ("merge-winner/768", || Box::new(Merge::new(NEWER, Verdict::Wins))),
    ("coalesce/768", || Box::new(Coalesce::new())),
    ("changelog-encode", || Box::new(ChangelogEncode::new())),
    ("task-duplicate/768", || Box::new(Task::new(768, "null", "duplicate"))),
    ("task-stale/768", || Box::new(Task::new(768, "null", "stale"))),
    ("task-winner/128", || Box::new(Task::new(128, "null", "winner"))),
    ("task-winner/768", || Box::new(Task::new(768, "null", "winner"))),
    ("task-winner-batched/768", || Box::new(Task::new(768, "milvus_sink", "winner"))),
];

/// From a record to a judged header, and with `full` on to a row.
struct Decode {
    changes: Changes,
    records: Vec<RawRecord>,
    ahead: Vec<RawRecord>,
    full: bool,
    schemas: OurSchema,
    row: Row,
}

impl Decode {
    fn new(dimension: usize, full: bool) -> Self {
        let changes = Changes::new(dimension);
        let records = (0..RECORDS).map(|number| changes.record(number, HELD)).collect();
        Self { changes, records, ahead: Vec::new(), full, schemas: OurSchema::default(), row: Row::default() }
    }
}

impl Operation for Decode {
    fn prepare(&mut self) {
        self.ahead.extend_from_slice(&self.records);
    }

    fn run(&mut self) {
        for record in self.ahead.drain(..) {
            let decoded = decode(record, &self.changes.region, &self.changes.collections, &mut self.schemas);
            let Decoded::Change(change) = black_box(decoded) else { panic!("a good change") };
            if self.full {
                let spec = self.changes.collections.get(change.key.collection);
                decode_row(&change, spec, &mut self.row.vector, &mut self.row.metadata).expect("a good row");
                black_box(&self.row);
            }
        }
    }
}

fn decoded(changes: &Changes, age: i64) -> Vec<Change> {
    let records = (0..RECORDS).map(|number| changes.record(number, age));
    let decoded = records.map(|record| decode(record, &changes.region, &changes.collections, &mut OurSchema::default()));
    let change = |decoded| match decoded {
        Decoded::Change(change) => change,
        other => panic!("a good change: {other:?}"),
    };
    decoded.map(change).collect()
}

/// Asking who holds the key, and judging: what `dedup` and `lww_merge` do of a change whose key is known.
struct Merge {
    changes: Vec<Change>,
    store: MemoryStore,
    items: Items,
    expected: Verdict,
}

impl Merge {
    fn new(age: i64, expected: Verdict) -> Self {
        let changes = Changes::new(768);
        let mut store = MemoryStore::new(&changes.collections, Duration::from_secs(86_400));
        for number in 0..RECORDS {
            store.put(&changes.key(number), changes.entry(number));
        }
        Self { changes: decoded(&changes, age), store, items: Items::default(), expected }
    }
}

impl Operation for Merge {
    fn run(&mut self) {
        let view = VersionsView::new(&self.items, &self.store);
        for change in &self.changes {
            let holder = view.holder(&change.key).expect("the key is held");
            let verdict = judge(&change.version, || change.content_hash(), &holder.version, holder.content_hash);
            assert_eq!(verdict, self.expected);
        }
    }
}

/// A winner takes the place of an older row of its key that waits in the lane.
struct Coalesce {
    changes: Vec<Change>,
    entry: Entry,
    lane: Lane,
    items: Items,
    settlement: Settlement,
    ahead: Vec<Item>,
}

const NOW: Now = Now { wall: super::changes::APPENDED_AT, monotonic: Duration::ZERO };

impl Coalesce {
    fn new() -> Self {
        let changes = Changes::new(768);
        let decoded = decoded(&changes, NEWER);
        let collection = decoded[0].key.collection;
        Self {
            lane: Lane::new(collection, &TaskSettings::default()),
            entry: changes.entry(0),
            changes: decoded,
            items: Items::default(),
            settlement: Settlement::new(0, Place::default()),
            ahead: Vec::new(),
        }
    }

    fn item(&mut self, number: usize) -> Item {
        let Change { key, record, .. } = &self.changes[number];
        Item {
            key: key.clone(),
            kind: Kind::Winner { record: record.clone(), entry: self.entry.clone() },
            write: Write::Upsert(Row { vector: vec![0.5; 768], metadata: b"{}".to_vec() }),
            tickets: [self.settlement.open(record)].into_iter().collect(),
            appended_at: record.appended_at,
            source: 0,
        }
    }
}

impl Operation for Coalesce {
    fn prepare(&mut self) {
        while self.lane.next_batch(&self.items, NOW, true).is_some() {
            for id in self.lane.sealed_items() {
                self.items.remove(*id);
            }
            self.lane.settle(Ok(()), NOW);
        }
        for number in 0..RECORDS {
            let older = self.item(number);
            self.lane.push(older, &mut self.items, NOW);
        }
        self.ahead = (0..RECORDS).map(|number| self.item(number)).collect();
    }

    fn run(&mut self) {
        for item in self.ahead.drain(..) {
            let (_, older) = self.lane.push(item, &mut self.items, NOW);
            assert!(black_box(older).is_some());
        }
    }
}

/// A winner's key and entry as both changelogs take them.
struct ChangelogEncode {
    changes: Changes,
    entries: Vec<(RowKey, Entry)>,
}

impl ChangelogEncode {
    fn new() -> Self {
        let changes = Changes::new(128);
        let entries = (0..RECORDS).map(|number| (changes.key(number), changes.entry(number))).collect();
        Self { changes, entries }
    }
}

impl Operation for ChangelogEncode {
    fn run(&mut self) {
        for (key, entry) in &self.entries {
            black_box(row_key::encode(key, &self.changes.collections));
            black_box(entry.encode());
        }
    }
}

/// The whole task: offered, judged, carried out, acknowledged, settled.
struct Task {
    changes: Changes,
    task: SteadyTask,
    records: Vec<RawRecord>,
    ahead: Vec<RawRecord>,
    /// Of the next winners.
    age: i64,
    verdict: &'static str,
}

impl Task {
    fn new(dimension: usize, sink: &str, verdict: &'static str) -> Self {
        let changes = Changes::new(dimension);
        let age = if verdict == "stale" { OLDER } else { HELD };
        let records = (0..RECORDS).map(|number| changes.record(number, age)).collect();
        Self { task: SteadyTask::new(&changes, sink, RECORDS), changes, records, ahead: Vec::new(), age: NEWER, verdict }
    }
}

impl Operation for Task {
    fn prepare(&mut self) {
        if self.verdict != "winner" {
            return self.ahead.extend_from_slice(&self.records);
        }
        self.ahead.extend((0..RECORDS).map(|number| self.changes.record(number, self.age)));
        self.age += 1;
    }

    fn run(&mut self) {
        self.task.take(&mut self.ahead);
    }

    fn check(&self) {
        self.task.assert_all(self.verdict);
    }
}

//! A collection that the vector store already held is taken on while both regions write.

use crate::pair::Pair;
use crate::past::Desk;
use crate::worker::Worker;
use crate::world::{DOCUMENTS, row_id};
use driftless::adapter::embedded::EmbeddedAppender;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::adapter::embedded::vector::{EmbeddedCollections, EmbeddedForeign, EmbeddedStore};
use driftless::base::error::Result;
use driftless::base::ids::{Region, VectorId};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::Version;
use driftless::ops::append;
use driftless::ops::ask::ask;
use driftless::ops::import::place::{self, Place};
use driftless::ops::import::{Import, Imported};
use driftless::port::vector::{RowBatch, StoreRequest, VectorAdmin};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LATENESS: Duration = Duration::from_secs(60);
const OLD: &str = "documents__before";
const ROWS: i64 = 200;
const EU: usize = 0;
const US: usize = 1;

struct Taking {
    pair: Pair,
    workers: [Worker; 2],
    desk: Desk,
}

impl Taking {
    /// The old collection in eu; and rows of it that Driftless has written and deleted since, some so long ago that
    /// the delete is forgotten.
    fn new() -> Self {
        let pair = Pair::new(2, LATENESS);
        let workers = [pair.worlds[EU].start(), pair.worlds[US].start()];
        let desk = Desk::of(&pair.worlds[EU]);
        let mut taking = Self { pair, workers, desk };
        taking.fill_old();
        taking.run(70_000);
        for id in 0..5 {
            taking.upsert(EU, id, 66.0);
        }
        for id in 5..8 {
            taking.delete(US, id);
        }
        taking.run(200_000);
        taking
    }

    fn fill_old(&self) {
        let world = &self.pair.worlds[EU];
        let spec = world.settings.collections.get(DOCUMENTS);
        EmbeddedCollections(world.database.clone()).create(OLD, spec).unwrap();
        let collections = Arc::new(world.settings.collections.with_name(DOCUMENTS, OLD));
        let mut store = EmbeddedStore::new(world.database.clone(), Duration::ZERO, append::wake()).named(collections);
        let nobodys = Version { hlc: Hlc(0), origin: Region::new(""), sequence: 0 };
        let batch = RowBatch {
            ids: (0..ROWS).map(row_id).collect(),
            vectors: (0..ROWS).flat_map(|id| [1.0, id as f32]).collect(),
            versions: vec![nobodys; ROWS as usize],
            metadata: (0..ROWS).map(|id| format!(r#"{{"price":{id},"tags":["a"]}}"#).into_bytes()).collect(),
            deletes: Vec::new(),
        };
        ask(&mut store, DOCUMENTS, StoreRequest::Write(Arc::new(batch))).unwrap();
    }

    fn run(&mut self, ms: u64) {
        self.pair.run(&mut self.workers, ms);
    }

    fn upsert(&mut self, region: usize, id: i64, content: f32) {
        let (ms, origin) = (self.ms(), ["eu", "us"][region]);
        self.pair.worlds[region].upsert(origin, id, ms, content);
    }

    fn delete(&mut self, region: usize, id: i64) {
        let (ms, origin) = (self.ms(), ["eu", "us"][region]);
        self.pair.worlds[region].delete(origin, id, ms);
    }

    fn ms(&self) -> i64 {
        self.pair.worlds[EU].now().monotonic.as_millis() as i64
    }

    /// Both regions get on while it waits; `meanwhile` hears of each wait.
    fn import(&mut self, dry_run: bool, mut meanwhile: impl FnMut(&mut Pair, &Desk, u64)) -> Result<Imported> {
        let world = &self.pair.worlds[EU];
        let mut rows = EmbeddedForeign::new(world.database.clone(), OLD, 16);
        let mut appender = EmbeddedAppender::new(world.broker.clone(), 50, append::wake());
        let mut import = Import {
            collection: DOCUMENTS,
            rows: &mut rows,
            appender: &mut appender,
            schema_id: OUR_SCHEMA_ID,
            writer: 9,
            rows_per_second: NonZeroU32::new(10).unwrap(),
            patience: Duration::from_secs(30),
            dry_run,
        };
        let (pair, workers, desk) = (&mut self.pair, &mut self.workers, &self.desk);
        let mut waits = 0;
        let mut pause = |_| {
            waits += 1;
            meanwhile(pair, desk, waits);
            pair.run(workers, 100);
        };
        desk.work(&mut pause, &mut |_| (), |history, work| import.run(history, work))
    }

    /// What each region's vector store holds: the first float of each row tells who wrote it.
    fn contents(&self, region: usize) -> BTreeMap<VectorId, f32> {
        let rows = self.pair.worlds[region].database.scan(DOCUMENTS);
        rows.into_iter().map(|(id, row)| (id, row.vector[0])).collect()
    }
}

#[test]
fn an_old_collection_is_taken_on_while_both_regions_write_and_nothing_is_lost_or_comes_back() {
    let mut taking = Taking::new();
    let planned = taking.import(true, |_, _, _| ()).unwrap();
    assert_eq!((planned.rows, planned.written, planned.known), (200, 192, 8));
    assert_eq!(taking.contents(US).len(), 5, "a dry run writes nothing");
    let killed = taking.import(false, |_, desk, waits| desk.interrupted.store(waits == 40, Ordering::Relaxed));
    assert_eq!(killed.unwrap_err().to_string(), "interrupted");
    taking.desk.interrupted.store(false, Ordering::Relaxed);
    let begun = taking.contents(EU).len();
    assert!((20..150).contains(&begun), "{begun} rows when it was killed");
    let done = taking.import(false, |pair, _, waits| {
        let ms = pair.worlds[EU].now().monotonic.as_millis() as i64;
        // Of rows that are in already, and of some that are still to come.
        match waits {
            20 => {
                for id in [10, 190, 191] {
                    pair.worlds[US].upsert("us", id, ms, 77.0);
                }
            }
            21 => {
                for id in [11, 195, 196] {
                    pair.worlds[EU].delete("eu", id, ms);
                }
            }
            _ => {}
        }
    });
    let done = done.unwrap();
    assert!(done.is_whole() && done.rows == 200 && done.written + done.known == 200, "{done:#?}");
    assert!((8 + 20..200).contains(&done.known), "what the first run had written is known: {done:#?}");
    taking.run(5_000);
    let mut expected: BTreeMap<VectorId, f32> = (0..ROWS).map(|id| (row_id(id), 1.0)).collect();
    for id in 0..5 {
        expected.insert(row_id(id), 66.0);
    }
    for id in [10, 190, 191] {
        expected.insert(row_id(id), 77.0);
    }
    for id in [5, 6, 7, 11, 195, 196] {
        expected.remove(&row_id(id));
    }
    assert_eq!(taking.contents(EU), expected);
    assert_eq!(taking.contents(US), expected);
    let row = taking.pair.worlds[US].database.scan(DOCUMENTS).remove(&row_id(150)).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&row.metadata).unwrap();
    assert_eq!(metadata, serde_json::json!({"price": 150, "tags": "[\"a\"]"}));
    let again = taking.import(false, |_, _, _| ()).unwrap();
    assert_eq!((again.written, again.known, again.missing), (0, 200, 0));
}

#[test]
fn an_import_waits_for_a_region_that_may_have_deleted_rows_and_says_so() {
    let mut taking = Taking::new();
    taking.pair.links[US].cut();
    let error = taking.import(false, |_, _, _| ()).unwrap_err().to_string();
    assert!(error.contains("waited 30s in vain for changes of us") && error.contains("is MirrorMaker running"), "{error}");
    assert_eq!(taking.contents(EU).len(), 5);
}

#[test]
fn a_collection_that_has_the_configured_name_makes_room_and_a_second_look_finds_it_aside() {
    let taking = Taking::new();
    let world = &taking.pair.worlds[EU];
    let spec = world.settings.collections.get(DOCUMENTS).clone();
    let mut admin = EmbeddedCollections(world.database.clone());
    let found = place::find(&mut admin, "documents", None).unwrap();
    assert_eq!(found, Place { old: OLD.to_owned(), is_in_the_way: false, is_first: false });
    let error = place::find(&mut admin, "documents", Some("documents__g1")).unwrap_err().to_string();
    assert!(error.contains("what the workers write to"), "{error}");
    admin.create("prices", &spec).unwrap();
    let prices = driftless::record::collection::CollectionSpec { name: "prices".to_owned(), ..spec };
    let found = place::find(&mut admin, "prices", None).unwrap();
    assert_eq!(found, Place { old: "prices__before".to_owned(), is_in_the_way: true, is_first: true });
    place::make_room(&mut admin, &prices, &found).unwrap();
    assert_eq!(admin.alias("prices").unwrap().as_deref(), Some("prices__g1"));
    let again = place::find(&mut admin, "prices", None).unwrap();
    assert_eq!(again, Place { old: "prices__before".to_owned(), is_in_the_way: false, is_first: false });
}

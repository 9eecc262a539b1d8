//! A collection made anew from the changelog while the worker goes on and readers look on.

use crate::oracle::assert_oracle;
use crate::past::Desk;
use crate::worker::Worker;
use crate::world::{DOCUMENTS, EPOCH_MS, HandClock, World, row_id};
use driftless::adapter::embedded::vector::{Database, EmbeddedCollections, EmbeddedStore};
use driftless::base::error::Result;
use driftless::base::ids::{CollectionId, VectorId};
use driftless::base::time::{Clock, UnixMs};
use driftless::ops::append;
use driftless::ops::job::JobFile;
use driftless::ops::rebuild::{self, Rebuild, Rebuilt};
use driftless::ops::work::Told;
use driftless::port::vector::{StoreError, StoreReply, StoreRequest, StoreResponse, VectorAdmin, VectorStore};
use driftless::record::collection::Collections;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Scene {
    folder: tempfile::TempDir,
    stage: RefCell<(World, Worker)>,
    desk: Desk,
    database: Arc<Database>,
    /// The worker gets on by this part of the time that is waited for it.
    slowness: u64,
}

/// What happens when something is told.
type OnTold<'a> = &'a mut dyn FnMut(&Scene, &Told);

impl Scene {
    fn new() -> Self {
        let mut world = World::new(2);
        let mut worker = world.start();
        for id in 0..50 {
            world.upsert("eu", id, 0, 1.0);
        }
        world.settle(&mut [&mut worker]);
        for id in 0..10 {
            world.upsert("us", id, 10, 2.0);
            world.delete("eu", 40 + id, 20);
        }
        world.settle(&mut [&mut worker]);
        let (desk, database) = (Desk::of(&world), world.database.clone());
        Self { folder: tempfile::tempdir().unwrap(), stage: RefCell::new((world, worker)), desk, database, slowness: 1 }
    }

    fn file(&self) -> JobFile {
        JobFile::of(self.folder.path(), "rebuild", "documents")
    }

    fn alias(&self) -> String {
        EmbeddedCollections(self.database.clone()).alias("documents").unwrap().unwrap()
    }

    /// The worker goes on.
    fn run(&self, ms: u64) {
        let (world, worker) = &mut *self.stage.borrow_mut();
        world.run(&mut [worker], ms);
    }

    fn rebuild(&self, at: Option<UnixMs>, on_told: OnTold<'_>) -> Result<Rebuilt> {
        let database = self.database.clone();
        let mut open = |collections: Arc<Collections>| -> Result<Box<dyn VectorStore>> {
            Ok(Box::new(EmbeddedStore::new(database.clone(), Duration::ZERO, append::wake()).named(collections)))
        };
        self.rebuild_into(&mut open, at, on_told)
    }

    fn rebuild_into<'a>(&self, open: &'a mut rebuild::OpenStore<'a>, at: Option<UnixMs>, on_told: OnTold<'_>) -> Result<Rebuilt> {
        let (mut admin, file) = (EmbeddedCollections(self.database.clone()), self.file());
        let mut tell = |told| on_told(self, &told);
        self.desk.work(&mut |span| self.run(span.as_millis() as u64 / self.slowness), &mut tell, |history, work| {
            let patience = Duration::from_secs(20);
            let mut rebuild = Rebuild { collection: DOCUMENTS, admin: &mut admin, open, file: &file, patience };
            match at {
                Some(at) => rebuild.run_at(at, history, work),
                None => rebuild.run(history, work),
            }
        })
    }

    fn assert_oracle(&self, when: &str) {
        let (world, worker) = &mut *self.stage.borrow_mut();
        world.settle(&mut [worker]);
        assert_oracle(world, &[], when);
    }
}

fn ended(told: &Told, stage: &str) -> bool {
    matches!(told, Told::Ended(pace) if pace.stage.starts_with(stage))
}

#[test]
fn a_collection_is_made_anew_and_what_is_written_meanwhile_is_in_it() {
    let scene = Scene::new();
    let rebuilt = scene
        .rebuild(None, &mut |scene, told| {
            if ended(told, "filling") {
                let (world, _) = &mut *scene.stage.borrow_mut();
                for id in 20..30 {
                    world.upsert("eu", id, 30, 3.0);
                }
                world.delete("us", 1, 30);
                world.upsert("us", 70, 30, 3.0);
            }
            if ended(told, "verifying") {
                scene.run(500);
            }
        })
        .unwrap();
    assert_eq!((rebuilt.new.as_str(), rebuilt.old.as_deref()), ("documents__g2", Some("documents__g1")));
    assert_eq!((rebuilt.rows, rebuilt.followed), (40, 12));
    assert_eq!(scene.alias(), "documents__g2");
    scene.assert_oracle("rebuilt");
    // Once more: the next generation; then what is left behind is dropped, and nothing else.
    scene.rebuild(None, &mut |_, _| {}).unwrap();
    scene.assert_oracle("rebuilt twice");
    let mut admin = EmbeddedCollections(scene.database.clone());
    let old = rebuild::old(&mut admin, "documents").unwrap();
    assert_eq!(old, ["documents__g1", "documents__g2"]);
    rebuild::drop_old(&mut admin, &old, &scene.file()).unwrap();
    assert_eq!(admin.collections().unwrap(), ["documents__g3"]);
}

/// The row is in the old collection, its change not in the changelog yet when the alias is swapped.
#[test]
fn what_a_worker_had_sent_to_the_old_collection_is_in_the_new_one_too() {
    let scene = Scene::new();
    let rebuilt = scene.rebuild(None, &mut |scene, told| {
        if ended(told, "verifying") {
            let (world, worker) = &mut *scene.stage.borrow_mut();
            world.upsert("eu", 90, 30, 3.0);
            world.upsert("eu", 3, 30, 3.0);
            let changelog = |world: &World| (0..2).map(|p| world.read(&world.vectors_changelog(p)).len()).sum::<usize>();
            let before = changelog(world);
            while scene.database.scan(DOCUMENTS).get(&row_id(3)).is_none_or(|row| row.vector[0] < 3.0) {
                world.run(&mut [worker], 5);
            }
            assert!(changelog(world) < before + 2, "the changelog has both already: nothing is shown");
        }
    });
    assert!(rebuilt.unwrap().followed > 0);
    scene.assert_oracle("swapped in the middle of a commit");
}

#[test]
fn f59_killed_while_it_fills_the_alias_is_untouched_and_the_next_attempt_begins_clean() {
    let scene = Scene::new();
    let mut notes = Vec::new();
    scene
        .rebuild(None, &mut |scene, told| {
            if ended(told, "filling") {
                scene.desk.interrupted.store(true, Ordering::Relaxed);
            }
        })
        .unwrap_err();
    assert_eq!(scene.alias(), "documents__g1");
    scene.assert_oracle("killed");
    scene.desk.interrupted.store(false, Ordering::Relaxed);
    scene.stage.borrow_mut().0.delete("eu", 5, 40);
    scene
        .rebuild(None, &mut |_, told| {
            if let Told::Note(note) = told {
                notes.push(note.clone());
            }
        })
        .unwrap();
    assert!(notes.iter().any(|note| note.contains("documents__g2 is left from an attempt that did not end")), "{notes:?}");
    // What the first attempt has under way can land nowhere else than in what it made.
    assert_eq!(scene.alias(), "documents__g3");
    scene.assert_oracle("begun anew");
}

#[test]
fn f59_killed_after_the_swap_the_next_attempt_follows_on_and_nothing_old_is_dropped_before() {
    let scene = Scene::new();
    scene
        .rebuild(None, &mut |scene, told| {
            if matches!(told, Told::Note(note) if note.contains("now stands for")) {
                scene.desk.interrupted.store(true, Ordering::Relaxed);
                let (world, _) = &mut *scene.stage.borrow_mut();
                world.upsert("eu", 91, 30, 3.0);
            }
        })
        .unwrap_err();
    assert_eq!(scene.alias(), "documents__g2");
    let mut admin = EmbeddedCollections(scene.database.clone());
    let old = rebuild::old(&mut admin, "documents").unwrap();
    assert!(rebuild::drop_old(&mut admin, &old, &scene.file()).unwrap_err().to_string().contains("not done yet"));
    scene.desk.interrupted.store(false, Ordering::Relaxed);
    let rebuilt = scene.rebuild(None, &mut |_, _| {}).unwrap();
    assert_eq!((rebuilt.new.as_str(), scene.alias().as_str()), ("documents__g2", "documents__g2"));
    scene.assert_oracle("followed on");
    rebuild::drop_old(&mut admin, &old, &scene.file()).unwrap();
}

/// A store that loses the first row it is given.
struct Forgetful(EmbeddedStore, bool);

impl VectorStore for Forgetful {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let request = match request {
            StoreRequest::Write(batch) if !std::mem::replace(&mut self.1, true) => {
                let mut batch = (*batch).clone();
                let rows = batch.ids.len() - 1;
                batch.ids.truncate(rows);
                batch.versions.truncate(rows);
                batch.metadata.truncate(rows);
                batch.vectors.truncate(rows * 2);
                StoreRequest::Write(Arc::new(batch))
            }
            request => request,
        };
        self.0.submit(collection, request, token);
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        self.0.poll(responses);
    }
}

#[test]
fn a_new_collection_that_lacks_a_row_is_not_swapped_in() {
    let scene = Scene::new();
    let database = scene.database.clone();
    let mut open = |collections: Arc<Collections>| -> Result<Box<dyn VectorStore>> {
        let store = EmbeddedStore::new(database.clone(), Duration::ZERO, append::wake()).named(collections);
        Ok(Box::new(Forgetful(store, false)))
    };
    let error = scene.rebuild_into(&mut open, None, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("does not hold what the changelog says") && error.contains("expected"), "{error}");
    assert_eq!(scene.alias(), "documents__g1");
}

/// A write that was not answered, and when it was sent.
type Unanswered = Arc<Mutex<Option<(Arc<Collections>, StoreRequest, Duration)>>>;

/// A store that does not answer the first write, and carries it out when it is told to.
struct Late {
    inner: EmbeddedStore,
    names: Arc<Collections>,
    unanswered: Unanswered,
    clock: HandClock,
    lost: Vec<u64>,
}

impl VectorStore for Late {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut unanswered = self.unanswered.lock().unwrap();
        if unanswered.is_none() && matches!(request, StoreRequest::Write(_)) {
            *unanswered = Some((self.names.clone(), request, self.clock.now().monotonic));
            self.lost.push(token);
        } else {
            self.inner.submit(collection, request, token);
        }
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        let lost = |token| StoreResponse { token, outcome: Err(StoreError::Ambiguous("deadline exceeded".to_owned())) };
        responses.extend(self.lost.drain(..).map(lost));
        self.inner.poll(responses);
    }
}

#[test]
fn a_batch_that_was_not_answered_and_lands_late_does_not_outlive_what_workers_have_written_since() {
    const LANDS_AFTER: Duration = Duration::from_secs(25);
    let scene = Scene::new();
    let (unanswered, clock) = (Unanswered::default(), scene.stage.borrow().0.clock.clone());
    let mut open = |names: Arc<Collections>| -> Result<Box<dyn VectorStore>> {
        let inner = EmbeddedStore::new(scene.database.clone(), Duration::ZERO, append::wake()).named(names.clone());
        let (unanswered, clock) = (unanswered.clone(), clock.clone());
        Ok(Box::new(Late { inner, names, unanswered, clock, lost: Vec::new() }))
    };
    let mut landed = false;
    let mut land_if_due = |scene: &Scene| {
        let held = unanswered.lock().unwrap().clone();
        let Some((names, request, sent)) = held else { return };
        if !landed && clock.now().monotonic >= sent + LANDS_AFTER {
            landed = true;
            let mut store = EmbeddedStore::new(scene.database.clone(), Duration::ZERO, append::wake()).named(names);
            store.submit(DOCUMENTS, request, 0);
            store.poll(&mut Vec::new());
        }
    };
    let rebuilt = scene.rebuild_into(&mut open, None, &mut |scene, told| {
        land_if_due(scene);
        if ended(told, "verifying") {
            scene.stage.borrow_mut().0.delete("eu", 4, 30);
            scene.run(500);
        }
        if matches!(told, Told::Note(note) if note.contains("now stands for")) {
            scene.stage.borrow_mut().0.upsert("eu", 3, 40, 3.0);
        }
    });
    assert_eq!(rebuilt.map(|rebuilt| rebuilt.rows), Ok(40));
    scene.run(LANDS_AFTER.as_millis() as u64);
    land_if_due(&scene);
    assert!(landed, "no write was left unanswered: nothing is shown");
    scene.assert_oracle("landed late");
}

/// A store that does not show some rows, as Milvus 2.3 may in the middle of an upsert.
struct Hiding(EmbeddedStore, Arc<Mutex<Vec<VectorId>>>);

impl VectorStore for Hiding {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        self.0.submit(collection, request, token);
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        let from = responses.len();
        self.0.poll(responses);
        let hidden = self.1.lock().unwrap().clone();
        for response in &mut responses[from..] {
            if let Ok(StoreReply::ReadBack(rows)) = &mut response.outcome {
                rows.retain(|row| !hidden.contains(&row.id));
            }
        }
    }
}

#[test]
fn following_past_the_swap_ends_while_writing_never_does() {
    let scene = Scene { slowness: 20, ..Scene::new() };
    let (database, hidden) = (scene.database.clone(), Arc::new(Mutex::new(Vec::new())));
    let mut open = |collections: Arc<Collections>| -> Result<Box<dyn VectorStore>> {
        let store = EmbeddedStore::new(database.clone(), Duration::ZERO, append::wake()).named(collections);
        Ok(Box::new(Hiding(store, hidden.clone())))
    };
    let mut waits = 0;
    let rebuilt = scene.rebuild_into(&mut open, None, &mut |scene, told| {
        let swapped = matches!(told, Told::Note(note) if note.contains("now stands for"));
        if swapped || matches!(told, Told::Waiting(_)) {
            waits += 1;
            assert!(waits < 200, "it follows for ever");
            let (world, _) = &mut *scene.stage.borrow_mut();
            let id = 100 + waits;
            world.upsert("eu", id, id, 3.0);
            let mut hidden = hidden.lock().unwrap();
            hidden.push(row_id(id));
            let newest = hidden.len().saturating_sub(20);
            hidden.drain(..newest);
        }
    });
    assert!(rebuilt.unwrap().followed > 0, "no row was hidden: nothing is shown");
    scene.assert_oracle("written all along");
}

#[test]
fn the_rows_of_an_instant_go_into_a_collection_beside_and_the_alias_stays() {
    let scene = Scene::new();
    let rebuilt = scene.rebuild(Some(UnixMs(EPOCH_MS + 15)), &mut |_, _| {}).unwrap();
    assert_eq!((rebuilt.rows, rebuilt.old), (50, None));
    assert!(rebuilt.new.starts_with("documents__at_"), "{}", rebuilt.new);
    assert_eq!(scene.alias(), "documents__g1");
    let mut admin = EmbeddedCollections(scene.database.clone());
    assert_eq!(rebuild::old(&mut admin, "documents").unwrap(), [rebuilt.new]);
}

/// A proxy of Milvus that looks the alias up while it is altered keeps the old collection.
#[test]
fn an_alias_that_turns_back_to_the_old_collection_is_swapped_again_and_nothing_stays_behind() {
    let scene = Scene { slowness: 20, ..Scene::new() };
    let (mut turned, mut written) = (false, 0);
    let rebuilt = scene.rebuild(None, &mut |scene, told| {
        let swapped = matches!(told, Told::Note(note) if note.contains("now stands for"));
        if swapped && !std::mem::replace(&mut turned, true) {
            EmbeddedCollections(scene.database.clone()).point_alias("documents", "documents__g1").unwrap();
        }
        // What the workers settle meanwhile goes to the old collection, more of it than the first following sees.
        if turned && scene.alias() == "documents__g1" && (swapped || matches!(told, Told::Waiting(_))) {
            written += 1;
            scene.stage.borrow_mut().0.upsert("eu", 100 + written, written, 3.0);
        }
    });
    assert!(rebuilt.is_ok() && written > 3, "{rebuilt:?}, {written} written");
    assert_eq!(scene.alias(), "documents__g2");
    scene.assert_oracle("swapped twice");
}

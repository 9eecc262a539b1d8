//! The Milvus adapter on a real Milvus. `DRIFTLESS_US_MILVUS` names it (see `scripts/stack.sh env`); without
//! it these tests do nothing. The outage needs `DRIFTLESS_STACK` too, the script that kills and starts it.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it runs against real servers, in real time")]

use driftless::adapter::milvus::{MilvusAdmin, MilvusGenerations, MilvusSettings, MilvusStore};
use driftless::base::ids::{CollectionId, Region, VectorId};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::Version;
use driftless::ops::append;
use driftless::port::log::Wake;
use driftless::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, VectorAdmin, VectorStore};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric, physical_name};
use driftless::testing::conformance::generations;
use driftless::testing::conformance::vector::{Factory, Row, run};
use milvus::v2::prelude::{ClientV2, ConnectConfig, InsertRequest, ReleaseCollectionRequest};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Held shared by every test, and alone by the one that kills the server.
static SERVER: RwLock<()> = RwLock::new(());

/// Of a collection that is rebuilt again and again.
const GENERATIONS: u32 = 6;

struct Milvus {
    runtime: Runtime,
    settings: MilvusSettings,
    _share: Option<RwLockReadGuard<'static, ()>>,
}

fn uri_from_environment() -> Option<String> {
    let uri = std::env::var("DRIFTLESS_US_MILVUS").ok();
    if uri.is_none() {
        eprintln!("skipped: DRIFTLESS_US_MILVUS is not set; eval \"$(scripts/stack.sh env)\" sets it");
    }
    uri
}

impl Milvus {
    fn from_environment() -> Option<Self> {
        let uri = uri_from_environment()?;
        let share = SERVER.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { _share: Some(share), ..Self::at(&uri) })
    }

    fn at(uri: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: runtime.expect("a runtime"), settings: MilvusSettings::new(uri), _share: None }
    }

    fn admin(&self) -> MilvusAdmin {
        self.runtime.block_on(MilvusAdmin::connect(&self.settings)).expect("Milvus is reached")
    }

    /// A store over these collections, created where they are missing.
    fn open(&self, specs: Vec<CollectionSpec>) -> Client {
        let collections = Arc::new(Collections::new(specs));
        self.runtime.block_on(self.admin().prepare(&collections)).expect("collections are there");
        self.client(collections)
    }

    fn client(&self, collections: Arc<Collections>) -> Client {
        let (ring, woken) = channel();
        // The receiver is gone only when the test is over.
        let wake: Wake = Arc::new(move || ring.send(()).unwrap_or(()));
        let handle = self.runtime.handle().clone();
        let store = MilvusStore::new(handle, collections, &self.settings, wake).expect("settings are good");
        Client { store, woken, next_token: 0 }
    }

    fn rows(&self, spec: &CollectionSpec) -> BTreeMap<VectorId, Row> {
        let mut rows = BTreeMap::new();
        let mut visit = |row: driftless::adapter::milvus::StoredRow| {
            let id = row.id.clone();
            // As such a row was written: with one of zeros.
            let version = row.version.unwrap_or(Version { hlc: Hlc(0), origin: Region::new(""), sequence: 0 });
            let row = Row { id: row.id, vector: row.vector, version, metadata: row.metadata };
            assert!(rows.insert(id, row).is_none(), "an id is given out once");
        };
        self.runtime.block_on(self.admin().scan(spec, &mut visit)).expect("the collection is read");
        rows
    }
}

struct Client {
    store: MilvusStore,
    woken: Receiver<()>,
    next_token: u64,
}

impl Client {
    fn submit(&mut self, request: StoreRequest) {
        self.next_token += 1;
        self.store.submit(CollectionId(0), request, self.next_token);
    }

    fn next(&mut self) -> Vec<StoreResponse> {
        self.woken.recv_timeout(Duration::from_secs(30)).expect("every request is answered within its deadline");
        let mut responses = Vec::new();
        self.store.poll(&mut responses);
        responses
    }

    fn call(&mut self, request: StoreRequest) -> Result<StoreReply, StoreError> {
        self.submit(request);
        loop {
            if let Some(response) = self.next().pop() {
                return response.outcome;
            }
        }
    }

    fn write(&mut self, batch: RowBatch) -> Result<StoreReply, StoreError> {
        self.call(StoreRequest::Write(Arc::new(batch)))
    }
}

/// Collections of earlier runs stay: each run has names of its own.
fn fresh(name: &str) -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    format!("test_{name}_{millis}")
}

fn spec(name: &str, dimension: usize) -> CollectionSpec {
    CollectionSpec {
        name: fresh(name),
        id: IdKind::Int64,
        dimension,
        metric: Metric::L2,
        index: IndexKind::Hnsw { m: 8, ef_construction: 64 },
        auto_create: true,
    }
}

fn rows(ids: std::ops::Range<i64>, dimension: usize, hlc: u64) -> RowBatch {
    let mut batch = RowBatch::default();
    for id in ids {
        batch.ids.push(VectorId::Int(id));
        batch.vectors.extend((0..dimension).map(|place| (id % 1000) as f32 + place as f32));
        batch.versions.push(Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: id as u64 });
        batch.metadata.push(b"{}".to_vec());
    }
    batch
}

impl Factory for Milvus {
    type Store = MilvusStore;

    fn open(&mut self, collections: Arc<Collections>, wake: Wake) -> MilvusStore {
        self.runtime.block_on(self.admin().prepare(&collections)).expect("collections are created");
        MilvusStore::new(self.runtime.handle().clone(), collections, &self.settings, wake).expect("settings are good")
    }

    fn rows(&mut self, _: &MilvusStore, _: CollectionId, spec: &CollectionSpec) -> Vec<Row> {
        Milvus::rows(self, spec).into_values().collect()
    }
}

#[test]
fn milvus_is_a_vector_store() {
    let Some(mut milvus) = Milvus::from_environment() else { return };
    run(&fresh("conformance"), &mut milvus);
}

#[test]
fn every_kind_of_index_is_created_as_configured_and_found_so_again() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let kinds = [
        IndexKind::Auto,
        IndexKind::Hnsw { m: 8, ef_construction: 64 },
        IndexKind::IvfFlat { nlist: 16 },
        IndexKind::IvfPq { nlist: 16, m: 4, nbits: 8 },
    ];
    let metrics = [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L2];
    let specs = kinds.iter().zip(metrics).enumerate();
    let specs =
        specs.map(|(place, (index, metric))| CollectionSpec { index: *index, metric, ..spec(&format!("index{place}"), 8) });
    let collections = Collections::new(specs.collect());
    let admin = milvus.admin();
    milvus.runtime.block_on(admin.prepare(&collections)).expect("created");
    let findings = milvus.runtime.block_on(admin.check(&collections)).expect("checked");
    assert_eq!(findings, []);

    // Another index serves: a worker starts, and says so.
    let other =
        CollectionSpec { index: IndexKind::Hnsw { m: 8, ef_construction: 64 }, ..collections.get(CollectionId(0)).clone() };
    let warnings = milvus.runtime.block_on(admin.prepare(&Collections::new(vec![other]))).expect("it is no fault");
    assert!(matches!(&warnings[..], [warning] if warning.problem.contains("the index is")), "{warnings:?}");
}

#[test]
fn what_differs_from_the_configuration_is_told_all_at_once() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let there = spec("differs", 8);
    milvus.open(vec![there.clone()]);
    let other = CollectionSpec { id: IdKind::Uuid, dimension: 9, metric: Metric::Cosine, ..there.clone() };
    let physical = CollectionSpec { name: format!("{}__g1", there.name), ..there };
    let absent = CollectionSpec { auto_create: false, ..spec("absent", 8) };
    let refusal = milvus.runtime.block_on(milvus.admin().prepare(&Collections::new(vec![other, physical, absent])));
    let message = refusal.expect_err("refused").to_string();
    for part in [
        "column `id` is Int64, the configuration says VarChar",
        "vectors have 8 dimensions, the configuration says 9",
        "the index's metric is L2, the configuration says Cosine",
        "the name belongs to a collection itself, not to an alias",
        "does not exist and `auto_create` is off",
    ] {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn f49_a_whole_collection_of_more_than_a_reply_holds_is_read_page_by_page() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = spec("scan", 64);
    let mut client = milvus.open(vec![spec.clone()]);
    for batch in 0..25 {
        client.write(rows(batch * 1000..(batch + 1) * 1000, 64, 1)).expect("acknowledged");
    }
    let mut changes = rows(0..5_000, 64, 2);
    changes.deletes = (20_000..25_000).map(VectorId::Int).collect();
    client.write(changes).expect("acknowledged");
    let found = milvus.rows(&spec);
    assert!(found.keys().eq((0..20_000).map(VectorId::Int).collect::<Vec<_>>().iter()));
    assert_eq!(found.values().filter(|row| row.version.hlc == Hlc(2)).count(), 5_000);

    let ids = (-10_000..20_000).map(VectorId::Int).collect();
    let Ok(StoreReply::ReadBack(versions)) = client.call(StoreRequest::ReadBack(ids)) else { panic!("not read back") };
    assert_eq!(versions.len(), 20_000);

    let (mut ids, mut after, mut newer) = (Vec::new(), None, 0);
    loop {
        let Ok(StoreReply::Scanned(page)) = client.call(StoreRequest::Scan { after, limit: 700 }) else { panic!("not read") };
        newer += page.rows.iter().filter(|row| row.version.as_ref().is_some_and(|version| version.hlc == Hlc(2))).count();
        ids.extend(page.rows.into_iter().map(|row| row.id));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert!(ids.iter().eq((0..20_000).map(VectorId::Int).collect::<Vec<_>>().iter()), "{} ids, in their order", ids.len());
    assert_eq!(newer, 5_000);
}

/// f49 among them: whatever the content's fault is, halving the batch must find it.
#[test]
fn what_milvus_refuses_is_told_from_what_it_cannot_do_now() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = CollectionSpec { id: IdKind::Text { max_bytes: 8 }, ..spec("refused", 4) };
    let mut client = milvus.open(vec![spec.clone()]);
    let text_rows = |ids: &[&str]| RowBatch {
        ids: ids.iter().map(|id| VectorId::Text((*id).into())).collect(),
        ..rows(0..ids.len() as i64, 4, 1)
    };
    let too_long = text_rows(&["good", "too-long-by-far"]);
    let mut not_finite = text_rows(&["good", "bad"]);
    not_finite.vectors[5] = f32::NAN;
    let mut too_large = text_rows(&(0..1_100).map(|_| "same").collect::<Vec<_>>());
    for (place, id) in too_large.ids.iter_mut().enumerate() {
        *id = VectorId::Text(place.to_string().into());
    }
    let wide = format!("{{\"x\":\"{}\"}}", "y".repeat(64_000)).into_bytes();
    too_large.metadata.fill(wide);
    let mut reserved = text_rows(&["bad"]);
    reserved.metadata[0] = br#"{"$meta":1}"#.to_vec();
    let bad = [("too long", too_long), ("not finite", not_finite), ("over 64 MiB", too_large), ("reserved", reserved)];
    for (what, batch) in bad {
        let outcome = client.write(batch);
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "{what}: {outcome:?}");
    }
    assert!(milvus.rows(&spec).is_empty(), "nothing of a refused batch is written");

    let absent = Arc::new(Collections::new(vec![CollectionSpec { name: fresh("nonesuch"), ..spec }]));
    let mut client = milvus.client(absent);
    let outcome = client.write(text_rows(&["good"]));
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "no such collection: {outcome:?}");
}

/// Milvus takes writes to a collection that is not loaded (they are in its log); only reading has to wait.
#[test]
fn an_unloaded_collection_is_unavailable_to_reads_until_it_is_loaded_again() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = spec("unloaded", 4);
    let mut client = milvus.open(vec![spec.clone()]);
    milvus.runtime.block_on(async {
        let sdk = ClientV2::new(&ConnectConfig::new().uri(&milvus.settings.uri)).await.expect("Milvus is reached");
        let request = ReleaseCollectionRequest::builder().collection_name(&spec.name).build().expect("a request");
        sdk.release_collection(request).await.expect("released");
    });
    client.write(rows(0..10, 4, 1)).expect("acknowledged");
    let read_back = || StoreRequest::ReadBack((0..10).map(VectorId::Int).collect());
    let outcome = client.call(read_back());
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let collections = Collections::new(vec![spec]);
    let findings = milvus.runtime.block_on(milvus.admin().check(&collections)).expect("checked");
    assert!(findings.iter().any(|finding| finding.problem.contains("not loaded")), "{findings:?}");

    milvus.runtime.block_on(milvus.admin().prepare(&collections)).expect("loaded");
    let Ok(StoreReply::ReadBack(found)) = client.call(read_back()) else { panic!("not read back") };
    assert_eq!(found.len(), 10);
}

/// As it is left behind where Milvus has lost the delete in an upsert; `insert` asks nobody whether a row is there.
#[test]
fn the_older_of_two_rows_of_one_id_is_found_and_goes_with_the_next_write() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = spec("twins", 4);
    let mut client = milvus.open(vec![spec.clone()]);
    client.write(rows(0..10, 4, 7)).expect("acknowledged");
    let twin = |id: i64| serde_json::json!({"id": id, "vector": [9.0, 9.0, 9.0, 9.0], "_hlc": 3, "_origin": "us", "_seq": 1});
    milvus.runtime.block_on(async {
        let sdk = ClientV2::new(&ConnectConfig::new().uri(&milvus.settings.uri)).await.expect("Milvus is reached");
        let request = InsertRequest::builder().collection_name(&spec.name).rows(vec![twin(2), twin(5)]).build();
        sdk.insert(request.expect("a request")).await.expect("inserted");
    });
    let stamps = |client: &mut Client| {
        let expected = rows(0..10, 4, 7);
        let expected = expected.ids.into_iter().zip(expected.versions).collect();
        let Ok(StoreReply::ReadBack(found)) = client.call(StoreRequest::Compare(expected)) else { panic!("not compared") };
        assert_eq!(found.len(), 10);
        let stamps = found.into_iter().map(|stored| (stored.id, stored.version.expect("all have one").hlc.0));
        stamps.filter(|(_, stamp)| *stamp != 7).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(stamps(&mut client), BTreeMap::from([(VectorId::Int(2), 3), (VectorId::Int(5), 3)]));
    client.write(rows(0..10, 4, 7)).expect("acknowledged");
    assert_eq!(stamps(&mut client), BTreeMap::new());
}

/// f47, and the bad case of a stopped server: every write is answered within its deadline, nothing that was
/// acknowledged is missing afterwards, and the same client goes on by itself.
#[test]
fn f47_a_server_killed_under_load_costs_no_acknowledged_row() {
    let Some(uri) = uri_from_environment() else { return };
    let Ok(stack) = std::env::var("DRIFTLESS_STACK") else {
        eprintln!("skipped: DRIFTLESS_STACK is not set; eval \"$(scripts/stack.sh env)\" sets it");
        return;
    };
    let _alone = SERVER.write().unwrap_or_else(PoisonError::into_inner);
    let milvus = Milvus::at(&uri);
    let spec = spec("outage", 16);
    let mut client = milvus.open(vec![spec.clone()]);
    let order = move |verb: &str| {
        let status = Command::new(&stack).args([verb, "milvus-us"]).status().expect("the stack's script runs");
        assert!(status.success(), "{verb}: {status}");
    };
    let slack = Duration::from_secs(1);
    let (mut next, mut acknowledged, mut ambiguous, mut unavailable) = (0, Vec::new(), 0, 0);
    let mut outage = None;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        let sent = Instant::now();
        let outcome = client.write(rows(next..next + 500, 16, 1));
        assert!(sent.elapsed() < milvus.settings.rpc_deadline + slack, "{outcome:?} after {:?}", sent.elapsed());
        match outcome {
            Ok(_) if ambiguous + unavailable > 0 => break,
            Ok(_) => acknowledged.push(next..next + 500),
            Err(StoreError::Ambiguous(_)) => ambiguous += 1,
            Err(StoreError::Unavailable(_)) => unavailable += 1,
            Err(error) => panic!("an outage is neither {error}"),
        }
        next += 500;
        if outage.is_none() && acknowledged.len() == 20 {
            let order = order.clone();
            outage = Some(std::thread::spawn(move || {
                order("kill");
                order("start");
            }));
        }
        if unavailable > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    outage.expect("the server was killed").join().expect("and started again");
    assert!(ambiguous + unavailable > 0, "the outage was not noticed");
    println!("outage: {ambiguous} ambiguous, {unavailable} unavailable");
    milvus.runtime.block_on(milvus.admin().prepare(&Collections::new(vec![spec.clone()]))).expect("loaded again");
    let found = milvus.rows(&spec);
    for id in acknowledged.into_iter().flatten() {
        assert!(found.contains_key(&VectorId::Int(id)), "row {id} was acknowledged and is gone");
    }
}

#[test]
fn a_server_that_is_not_there_is_unavailable_at_once() {
    let milvus = Milvus::at("http://127.0.0.1:1");
    let mut client = milvus.client(Arc::new(Collections::new(vec![spec("nowhere", 2)])));
    let outcome = client.write(rows(0..1, 2, 1));
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

#[test]
fn a_probe_tells_acknowledged_from_visible() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let seen = milvus.runtime.block_on(milvus.admin().measure_visibility()).expect("measured");
    println!("{seen:?}");
    assert!(seen.visible_max < Duration::from_secs(5), "{seen:?}");
}

#[test]
fn collections_are_made_swapped_and_dropped_behind_their_alias() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = CollectionSpec {
        name: fresh("generations"),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Hnsw { m: 8, ef_construction: 64 },
        auto_create: true,
    };
    let collections = Arc::new(Collections::new(vec![spec.clone()]));
    milvus.runtime.block_on(milvus.admin().prepare(&collections)).expect("the collection is there");
    let mut open = |collections: Arc<Collections>| -> Box<dyn VectorStore> {
        let handle = milvus.runtime.handle().clone();
        Box::new(MilvusStore::new(handle, collections, &milvus.settings, append::wake()).expect("settings are good"))
    };
    let mut admin = MilvusGenerations::connect(milvus.runtime.handle().clone(), &milvus.settings).expect("Milvus is reached");
    generations::run(&spec, &mut admin, &mut open);
}

/// Sets it, whatever happens.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A proxy that is asked for the alias while it is altered may learn the old collection again, and keep it.
#[test]
fn an_alias_that_is_written_to_all_along_goes_over_whole() {
    let Some(milvus) = Milvus::from_environment() else { return };
    let spec = spec("swaps", 2);
    let collections = Arc::new(Collections::new(vec![spec.clone()]));
    milvus.runtime.block_on(milvus.admin().prepare(&collections)).expect("the collection is there");
    let mut admin = MilvusGenerations::connect(milvus.runtime.handle().clone(), &milvus.settings).expect("Milvus is reached");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (milvus, collections, ended) = (&milvus, collections.clone(), &ended);
            scope.spawn(move || {
                let mut client = milvus.client(collections);
                while !ended.load(Ordering::Relaxed) {
                    // Milvus may not find the collection for an instant: a worker tries again, and so does this.
                    let _not_found = client.write(rows(writer..writer + 1, 2, 1));
                }
            });
        }
        let _writers_end = OnDrop(&ended);
        let mut client = milvus.client(collections.clone());
        let lost = (2..=GENERATIONS).find(|generation| {
            let there = CollectionSpec { name: physical_name(&spec.name, *generation), ..spec.clone() };
            admin.create(&there.name, &spec).expect("it is made");
            admin.point_alias(&spec.name, &there.name).expect("it goes over");
            while client.write(rows(1_000..1_001, 2, 1)).is_err() {}
            let found = milvus.rows(&there).contains_key(&VectorId::Int(1_000));
            let left = physical_name(&spec.name, generation - 1);
            found.then(|| admin.drop_collection(&left).expect("dropped")).is_none()
        });
        assert_eq!(lost, None, "a row that was written by the alias is not in the generation that it stands for");
    });
}

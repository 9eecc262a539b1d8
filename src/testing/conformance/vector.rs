//! The suite of the vector store port. A store holds what was acknowledged and nothing else; a bad row is
//! refused, never dropped in silence; metadata and versions come back bit for bit.

use crate::base::ids::{CollectionId, Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::log::Wake;
use crate::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, StoredVersion, VectorStore};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crossbeam_channel::{Receiver, bounded};
use std::sync::Arc;
use std::time::Duration;

/// One row, as the implementation under test holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: VectorId,
    pub vector: Vec<f32>,
    pub version: Version,
    pub metadata: Vec<u8>,
}

/// Makes the store under test, and looks into it past the port.
pub trait Factory {
    type Store: VectorStore;

    /// A store over these collections, all of them empty.
    fn open(&mut self, collections: Arc<Collections>, wake: Wake) -> Self::Store;

    /// Every row of a collection, in any order.
    fn rows(&mut self, store: &Self::Store, collection: CollectionId, spec: &CollectionSpec) -> Vec<Row>;
}

const DIMENSION: usize = 8;
const TEXT_BYTES: usize = 24;
const KINDS: [(&str, IdKind); 3] =
    [("uuid", IdKind::Uuid), ("int64", IdKind::Int64), ("text", IdKind::Text { max_bytes: TEXT_BYTES })];
/// Longer than any deadline a store may have.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the whole suite for every kind of id; panics at the first breach. Collections are named
/// `<prefix>_<kind>`, so that a store that outlives the run can be given a prefix of its own each time.
pub fn run(prefix: &str, factory: &mut impl Factory) {
    let specs = KINDS.iter().map(|(kind, id)| CollectionSpec {
        name: format!("{prefix}_{kind}"),
        id: *id,
        dimension: DIMENSION,
        metric: Metric::L2,
        index: IndexKind::Hnsw { m: 8, ef_construction: 64 },
        auto_create: true,
    });
    let collections = Arc::new(Collections::new(specs.collect()));
    let (ring, woken) = bounded(1);
    // A full channel means that a wake is due already.
    let wake: Wake = Arc::new(move || ring.try_send(()).unwrap_or(()));
    let store = factory.open(Arc::clone(&collections), wake);
    let mut subject = Subject { factory, store, woken, collections: Arc::clone(&collections), next_token: 1 };
    for (id, _) in collections.iter() {
        subject.a_row_comes_back_as_it_was_written(id);
        subject.an_upsert_replaces_the_whole_row(id);
        subject.a_batch_upserts_and_deletes(id);
        subject.a_bad_row_is_refused_and_the_others_land_without_it(id);
        subject.deleting_what_is_not_there_is_done(id);
        subject.only_ids_that_are_there_are_read_back(id);
        subject.pages_of_whatever_size_give_every_row_once_in_the_order_of_ids(id);
        subject.a_row_without_a_version_is_told_apart(id);
        subject.requests_side_by_side_are_answered_once_each(id);
    }
}

struct Subject<'a, F: Factory> {
    factory: &'a mut F,
    store: F::Store,
    woken: Receiver<()>,
    collections: Arc<Collections>,
    next_token: u64,
}

impl<F: Factory> Subject<'_, F> {
    fn a_row_comes_back_as_it_was_written(&mut self, collection: CollectionId) {
        let ids = self.ids(collection, "odd");
        let mut batch = batch(&ids, 1);
        batch.versions[0] = Version { hlc: Hlc(u64::MAX), origin: Region::new("ü".repeat(32)), sequence: u64::MAX };
        batch.vectors[0] = f32::MIN_POSITIVE / 2.0;
        batch.vectors[1] = -0.0;
        batch.metadata[0] =
            r#"{"int":9007199254740993,"float":1.0,"tiny":5e-324,"third":0.3333333333333333,"text":"日本 \"\\ \n","flag":true}"#
                .as_bytes()
                .to_vec();
        self.write(collection, &batch).expect("acknowledged");
        self.expect_rows(collection, &rows_of(&batch));
        self.clear(collection);
    }

    fn an_upsert_replaces_the_whole_row(&mut self, collection: CollectionId) {
        let ids = self.ids(collection, "twice");
        let mut first = batch(&ids, 1);
        first.metadata[0] = br#"{"gone":1}"#.to_vec();
        self.write(collection, &first).expect("acknowledged");
        let second = batch(&ids, 2);
        self.write(collection, &second).expect("acknowledged");
        self.expect_rows(collection, &rows_of(&second));
        self.clear(collection);
    }

    fn a_batch_upserts_and_deletes(&mut self, collection: CollectionId) {
        let (stay, go) = (self.ids(collection, "stay"), self.ids(collection, "go"));
        self.write(collection, &batch(&go, 1)).expect("acknowledged");
        let mut both = batch(&stay, 2);
        both.deletes = go;
        self.write(collection, &both).expect("acknowledged");
        self.expect_rows(collection, &rows_of(&both));
        self.clear(collection);
    }

    fn a_bad_row_is_refused_and_the_others_land_without_it(&mut self, collection: CollectionId) {
        let ids = self.ids(collection, "bad");
        let mut bad = batch(&ids, 1);
        bad.metadata[1] = b"[1]".to_vec();
        let outcome = self.write(collection, &bad);
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "a row without metadata object: {outcome:?}");
        self.expect_rows(collection, &[]);

        let good = batch(&[ids[0].clone(), ids[2].clone()], 1);
        self.write(collection, &good).expect("acknowledged");
        self.expect_rows(collection, &rows_of(&good));

        let mut short = batch(&ids, 2);
        short.vectors.pop();
        let outcome = self.write(collection, &short);
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "a slab that is too short: {outcome:?}");
        self.expect_rows(collection, &rows_of(&good));
        self.clear(collection);
    }

    fn deleting_what_is_not_there_is_done(&mut self, collection: CollectionId) {
        let deletes = self.ids(collection, "never");
        self.write(collection, &RowBatch { deletes, ..RowBatch::default() }).expect("acknowledged");
        self.expect_rows(collection, &[]);
    }

    fn only_ids_that_are_there_are_read_back(&mut self, collection: CollectionId) {
        let (here, absent) = (self.ids(collection, "here"), self.ids(collection, "absent"));
        let written = batch(&here, 1);
        self.write(collection, &written).expect("acknowledged");
        let asked = here.iter().chain(&absent).cloned().collect();
        let Ok(StoreReply::ReadBack(mut found)) = self.call(collection, StoreRequest::ReadBack(asked)) else {
            panic!("the ids are not read back")
        };
        found.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(found, stored(&written));
        let mut expected: Vec<(VectorId, Version)> = here.iter().cloned().zip(written.versions.iter().cloned()).collect();
        expected.extend(absent.into_iter().map(|id| (id, written.versions[0].clone())));
        expected[0].1.hlc.0 += 1;
        let Ok(StoreReply::ReadBack(mut found)) = self.call(collection, StoreRequest::Compare(expected)) else {
            panic!("the ids are not read back to be compared")
        };
        found.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(found, stored(&written), "whatever they are compared with");
        let nothing = self.call(collection, StoreRequest::ReadBack(Vec::new()));
        assert_eq!(nothing, Ok(StoreReply::ReadBack(Vec::new())));
        self.clear(collection);
    }

    fn pages_of_whatever_size_give_every_row_once_in_the_order_of_ids(&mut self, collection: CollectionId) {
        assert_eq!(self.pages(collection, 10), (Vec::new(), 1), "of a collection without rows");
        let ids: Vec<VectorId> = ["odd", "one", "two", "three"].iter().flat_map(|word| self.ids(collection, word)).collect();
        let mut written = batch(&ids, 1);
        self.write(collection, &written).expect("acknowledged");
        // Rows of a second generation lie elsewhere in the store, and the first one's are still there somewhere.
        written = batch(&ids, 2);
        self.write(collection, &written).expect("acknowledged");
        for limit in [1, 5, 12, 1_000] {
            let (found, _) = self.pages(collection, limit);
            assert_eq!(found, stored(&written), "in pages of {limit}");
        }
        self.write(collection, &RowBatch { deletes: ids[3..].to_vec(), ..RowBatch::default() }).expect("acknowledged");
        let left = batch(&ids[..3], 2);
        assert_eq!(self.pages(collection, 2).0, stored(&left), "without what was deleted");
        self.clear(collection);
    }

    /// All rows, and how many requests it took.
    fn pages(&mut self, collection: CollectionId, limit: usize) -> (Vec<StoredVersion>, usize) {
        let (mut rows, mut after, mut requests) = (Vec::new(), None, 0);
        loop {
            requests += 1;
            assert!(requests < 100, "the pages have no end");
            let Ok(StoreReply::Scanned(page)) = self.call(collection, StoreRequest::Scan { after, limit }) else {
                panic!("no page is read")
            };
            assert_eq!(page.misnamed, 0);
            rows.extend(page.rows);
            let Some(next) = page.next else { return (rows, requests) };
            after = Some(next);
        }
    }

    fn a_row_without_a_version_is_told_apart(&mut self, collection: CollectionId) {
        let ids = self.ids(collection, "whose");
        let mut written = batch(&ids, 1);
        written.versions[1] = Version { hlc: Hlc(0), origin: Region::new(""), sequence: 0 };
        self.write(collection, &written).expect("acknowledged");
        let mut expected = stored(&written);
        let whose = expected.iter_mut().find(|row| row.id == ids[1]).expect("it was written");
        whose.version = None;
        assert_eq!(self.pages(collection, 10).0, expected);
        let Ok(StoreReply::ReadBack(found)) = self.call(collection, StoreRequest::ReadBack(vec![ids[1].clone()])) else {
            panic!("the id is not read back")
        };
        assert_eq!(found, [StoredVersion { id: ids[1].clone(), version: None }]);
        self.clear(collection);
    }

    fn requests_side_by_side_are_answered_once_each(&mut self, collection: CollectionId) {
        let ids = self.ids(collection, "side");
        let first = self.next_token;
        let batches: Vec<RowBatch> = (1..).zip(&ids).map(|(salt, id)| batch(std::slice::from_ref(id), salt)).collect();
        for batch in &batches {
            self.store.submit(collection, StoreRequest::Write(Arc::new(batch.clone())), self.next_token);
            self.next_token += 1;
        }
        let mut tokens = Vec::new();
        while tokens.len() < ids.len() {
            for response in self.wait() {
                assert!(response.outcome.is_ok(), "{:?}", response.outcome);
                tokens.push(response.token);
            }
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (first..self.next_token).collect::<Vec<u64>>());
        self.expect_rows(collection, &batches.iter().flat_map(rows_of).collect::<Vec<Row>>());
        self.clear(collection);
    }

    fn write(&mut self, collection: CollectionId, batch: &RowBatch) -> Result<(), StoreError> {
        match self.call(collection, StoreRequest::Write(Arc::new(batch.clone())))? {
            StoreReply::Written { .. } => Ok(()),
            reply => panic!("a write was answered by {reply:?}"),
        }
    }

    fn call(&mut self, collection: CollectionId, request: StoreRequest) -> Result<StoreReply, StoreError> {
        let token = self.next_token;
        self.next_token += 1;
        self.store.submit(collection, request, token);
        let mut responses = self.wait();
        let response = responses.pop().expect("a response");
        assert!(responses.is_empty() && response.token == token, "one response, to what was asked");
        response.outcome
    }

    /// The next responses, as a thread of the engine would get them: woken, then polling.
    fn wait(&mut self) -> Vec<StoreResponse> {
        let mut responses = Vec::new();
        loop {
            self.store.poll(&mut responses);
            if !responses.is_empty() {
                return responses;
            }
            self.woken.recv_timeout(PATIENCE).expect("the store wakes whoever waits for its answer");
        }
    }

    fn expect_rows(&mut self, collection: CollectionId, expected: &[Row]) {
        let spec = self.collections.get(collection).clone();
        let mut found = self.factory.rows(&self.store, collection, &spec);
        found.sort_by(|one, other| one.id.cmp(&other.id));
        let mut expected = expected.to_vec();
        expected.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(found, expected, "{}", spec.name);
        let bits = |rows: &[Row]| rows.iter().flat_map(|row| row.vector.clone()).map(f32::to_bits).collect::<Vec<u32>>();
        assert_eq!(bits(&found), bits(&expected), "{}: the vectors' bits", spec.name);
    }

    fn clear(&mut self, collection: CollectionId) {
        let spec = self.collections.get(collection).clone();
        let deletes = self.factory.rows(&self.store, collection, &spec).into_iter().map(|row| row.id).collect();
        self.write(collection, &RowBatch { deletes, ..RowBatch::default() }).expect("acknowledged");
        self.expect_rows(collection, &[]);
    }

    /// Three ids of the collection's kind; other words give other ids. They hold what is awkward to quote.
    fn ids(&self, collection: CollectionId, word: &str) -> Vec<VectorId> {
        let hash = xxhash_rust::xxh3::xxh3_128(word.as_bytes());
        match self.collections.get(collection).id {
            IdKind::Uuid => (0..3).map(|index| VectorId::Uuid(hash.wrapping_add(index))).collect(),
            // Not i64::MAX: Milvus (2.3.5) starts its search for the least id of a reply there and never gives it out.
            IdKind::Int64 if word == "odd" => [i64::MIN, -1, i64::MAX - 1].map(VectorId::Int).to_vec(),
            IdKind::Int64 => (0..3).map(|index| VectorId::Int((hash as i64).wrapping_add(index))).collect(),
            IdKind::Text { .. } => {
                ["\"'\\", "日本 😀", "\n\u{1}%"].iter().map(|odd| VectorId::Text(format!("{word}{odd}").into())).collect()
            }
        }
    }
}

/// Rows that differ from each other and, by `salt`, from earlier ones of the same ids.
fn batch(ids: &[VectorId], salt: u64) -> RowBatch {
    let mut batch = RowBatch { ids: ids.to_vec(), ..RowBatch::default() };
    for index in 0..ids.len() as u64 {
        batch.vectors.extend((0..DIMENSION).map(|place| (salt * 1000 + index * 10) as f32 + place as f32 / 3.0));
        batch.versions.push(Version { hlc: Hlc(salt << 20 | index), origin: Region::new("eu"), sequence: index });
        batch.metadata.push(format!("{{\"n\":{index}}}").into_bytes());
    }
    batch
}

/// What a read finds of them, in the order of ids.
fn stored(batch: &RowBatch) -> Vec<StoredVersion> {
    let rows = batch.ids.iter().zip(&batch.versions);
    let mut rows: Vec<StoredVersion> =
        rows.map(|(id, version)| StoredVersion { id: id.clone(), version: Some(version.clone()) }).collect();
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    rows
}

fn rows_of(batch: &RowBatch) -> Vec<Row> {
    let rows = batch.ids.iter().zip(batch.vectors.chunks_exact(DIMENSION)).zip(&batch.versions).zip(&batch.metadata);
    rows.map(|(((id, vector), version), metadata)| Row {
        id: id.clone(),
        vector: vector.to_vec(),
        version: version.clone(),
        metadata: metadata.clone(),
    })
    .collect()
}

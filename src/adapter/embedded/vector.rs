//! A vector store in memory: exact, with Milvus' manners (an upsert is unconditional, a batch with one bad
//! row is refused whole, a reply takes its time).
//!
//! A [`Database`] is one region's Milvus and alone owns the rows; an [`EmbeddedStore`] is a client of it.

use crate::base::error::Error;
use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::Clock;
use crate::merge::version::Version;
use crate::port::log::Wake;
use crate::port::vector::{
    ForeignPage, ForeignRow, ForeignRows, Page, RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, StoredVersion,
    VectorAdmin, VectorStore,
};
use crate::record::change::Body;
use crate::record::collection::{CollectionSpec, Collections, physical_name};
use crate::record::metadata::fields_of;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    pub vector: Vec<f32>,
    /// Without an origin, which no region's name is: the row carries none.
    pub version: Version,
    /// One JSON object.
    pub metadata: Vec<u8>,
}

/// Asked before a write is carried out: a test's way to let the store fail.
pub type WriteCheck = Box<dyn FnMut(CollectionId, &RowBatch) -> Result<(), StoreError> + Send>;

struct State {
    clock: Box<dyn Clock>,
    /// By the physical collections' names.
    rows: BTreeMap<String, BTreeMap<VectorId, StoredRow>>,
    aliases: BTreeMap<String, String>,
    written_at: u64,
    check: Option<WriteCheck>,
    /// When a client has a reply to fetch.
    alarms: Vec<(Duration, Wake)>,
}

pub struct Database {
    collections: Arc<Collections>,
    state: Mutex<State>,
}

impl Database {
    pub fn new(collections: Arc<Collections>, clock: Box<dyn Clock>) -> Arc<Self> {
        let first = |name: &str| physical_name(name, 1);
        let rows = collections.iter().map(|(_, spec)| (first(&spec.name), BTreeMap::new())).collect();
        let aliases = collections.iter().map(|(_, spec)| (spec.name.clone(), first(&spec.name))).collect();
        let state = State { clock, rows, aliases, written_at: 0, check: None, alarms: Vec::new() };
        Arc::new(Self { collections, state: Mutex::new(state) })
    }

    /// Everything that a collection holds, by id.
    pub fn scan(&self, collection: CollectionId) -> BTreeMap<VectorId, StoredRow> {
        self.name_of(collection).and_then(|name| self.lock().rows(name).cloned()).unwrap_or_default()
    }

    pub fn rows(&self, collection: CollectionId) -> usize {
        self.name_of(collection).and_then(|name| self.lock().rows(name).map(BTreeMap::len)).unwrap_or(0)
    }

    pub fn check_writes_with(&self, check: Option<WriteCheck>) {
        self.lock().check = check;
    }

    /// Puts a row, or takes it away, behind everybody's back: a test's way to be somebody else who writes here.
    pub fn meddle(&self, collection: CollectionId, id: VectorId, row: Option<StoredRow>) {
        let Some(name) = self.name_of(collection) else { return };
        let mut state = self.lock();
        let State { rows, aliases, .. } = &mut *state;
        let physical = aliases.get(name).map_or(name, String::as_str);
        let Some(rows) = rows.get_mut(physical) else { return };
        match row {
            Some(row) => rows.insert(id, row),
            None => rows.remove(&id),
        };
    }

    /// Wakes the clients whose replies are due. Whoever gives a store a latency calls this from time to time.
    pub fn wake_due(&self) {
        let mut state = self.lock();
        let at = state.clock.now().monotonic;
        let (due, later) = std::mem::take(&mut state.alarms).into_iter().partition(|(when, _)| *when <= at);
        state.alarms = later;
        drop(state);
        for (_, wake) in due {
            wake();
        }
    }

    /// `name` is an alias, or a physical collection's.
    fn answer(&self, collection: CollectionId, name: &str, request: &StoreRequest) -> Result<StoreReply, StoreError> {
        let mut state = self.lock();
        let State { rows, aliases, check, written_at, .. } = &mut *state;
        let physical = aliases.get(name).map_or(name, String::as_str);
        let rows = rows.get_mut(physical).ok_or_else(|| StoreError::Unavailable("collection not found".to_owned()))?;
        match request {
            StoreRequest::Write(batch) => {
                if let Some(check) = check {
                    check(collection, batch)?;
                }
                validate(batch, self.collections.get(collection).dimension)?;
                apply(batch, rows);
                *written_at += 1;
                Ok(StoreReply::Written { written_at: *written_at })
            }
            StoreRequest::ReadBack(ids) => Ok(StoreReply::ReadBack(read_back(ids, rows))),
            StoreRequest::Compare(expected) => {
                let ids: Vec<VectorId> = expected.iter().map(|(id, _)| id.clone()).collect();
                Ok(StoreReply::ReadBack(read_back(&ids, rows)))
            }
            StoreRequest::Scan { after, limit } => Ok(StoreReply::Scanned(page(after.as_ref(), *limit, rows))),
        }
    }

    fn name_of(&self, collection: CollectionId) -> Option<&str> {
        self.collections.iter().find(|(id, _)| *id == collection).map(|(_, spec)| spec.name.as_str())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rows(&self, name: &str) -> Option<&BTreeMap<VectorId, StoredRow>> {
        self.rows.get(self.aliases.get(name).map_or(name, String::as_str))
    }
}

/// A client that looks after whole collections.
pub struct EmbeddedCollections(pub Arc<Database>);

impl VectorAdmin for EmbeddedCollections {
    fn alias(&mut self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.0.lock().aliases.get(name).cloned())
    }

    fn collections(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.0.lock().rows.keys().cloned().collect())
    }

    fn create(&mut self, physical: &str, _spec: &CollectionSpec) -> Result<(), Error> {
        self.0.lock().rows.entry(physical.to_owned()).or_default();
        Ok(())
    }

    fn point_alias(&mut self, name: &str, physical: &str) -> Result<(), Error> {
        let mut state = self.0.lock();
        if !state.rows.contains_key(physical) {
            return Err(Error::refuse(format!("there is no collection {physical}; create it first")));
        }
        state.aliases.insert(name.to_owned(), physical.to_owned());
        Ok(())
    }

    fn reaches(&mut self, name: &str, physical: &str) -> Result<bool, Error> {
        Ok(self.0.lock().aliases.get(name).is_some_and(|target| target == physical))
    }

    fn drop_collection(&mut self, physical: &str) -> Result<(), Error> {
        let mut state = self.0.lock();
        if let Some((alias, _)) = state.aliases.iter().find(|(_, target)| *target == physical) {
            return Err(Error::refuse(format!("{physical} is what the alias {alias} stands for")));
        }
        state.rows.remove(physical);
        Ok(())
    }

    fn rename(&mut self, physical: &str, to: &str) -> Result<(), Error> {
        let mut state = self.0.lock();
        let rows = state.rows.remove(physical);
        let rows = rows.ok_or_else(|| Error::refuse(format!("there is no collection {physical}")))?;
        state.rows.insert(to.to_owned(), rows);
        Ok(())
    }
}

/// A collection read as if it were not ours: metadata back from its JSON.
pub struct EmbeddedForeign {
    database: Arc<Database>,
    physical: String,
    page_rows: usize,
}

impl EmbeddedForeign {
    pub fn new(database: Arc<Database>, physical: &str, page_rows: usize) -> Self {
        Self { database, physical: physical.to_owned(), page_rows }
    }
}

impl ForeignRows for EmbeddedForeign {
    fn count(&mut self) -> Result<u64, Error> {
        Ok(self.database.lock().rows(&self.physical).map_or(0, BTreeMap::len) as u64)
    }

    fn page(&mut self, after: Option<&VectorId>, with_bodies: bool) -> Result<ForeignPage, Error> {
        let state = self.database.lock();
        let rows = state.rows(&self.physical).ok_or_else(|| Error::refuse("the collection is gone"))?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = rows.range::<VectorId, _>((from, Bound::Unbounded)).take(self.page_rows.max(1));
        let rows: Vec<ForeignRow> = found
            .map(|(id, row)| {
                let body = Body { vector: row.vector.clone(), metadata: fields_of(&row.metadata) };
                ForeignRow { id: Ok(id.clone()), body: if with_bodies { body } else { Body::default() } }
            })
            .collect();
        let next = rows.last().and_then(|row| row.id.clone().ok());
        Ok(ForeignPage { rows, next })
    }
}

fn validate(batch: &RowBatch, dimension: usize) -> Result<(), StoreError> {
    let rows = batch.ids.len();
    if batch.versions.len() != rows || batch.metadata.len() != rows || batch.vectors.len() != rows * dimension {
        return Err(StoreError::Refused(format!("columns differ in length: {rows} ids of dimension {dimension}")));
    }
    for (id, metadata) in batch.ids.iter().zip(&batch.metadata) {
        if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(metadata).is_err() {
            return Err(StoreError::Refused(format!("metadata of {id} is no JSON object")));
        }
    }
    Ok(())
}

fn apply(batch: &RowBatch, rows: &mut BTreeMap<VectorId, StoredRow>) {
    let dimension = batch.vectors.len().checked_div(batch.ids.len()).unwrap_or(0);
    for (index, id) in batch.ids.iter().enumerate() {
        let row = StoredRow {
            vector: batch.vectors[index * dimension..(index + 1) * dimension].to_vec(),
            version: batch.versions[index].clone(),
            metadata: batch.metadata[index].clone(),
        };
        rows.insert(id.clone(), row);
    }
    for id in &batch.deletes {
        rows.remove(id);
    }
}

fn read_back(ids: &[VectorId], rows: &BTreeMap<VectorId, StoredRow>) -> Vec<StoredVersion> {
    ids.iter().filter_map(|id| rows.get(id).map(|row| stored(id, row))).collect()
}

fn page(after: Option<&VectorId>, limit: usize, rows: &BTreeMap<VectorId, StoredRow>) -> Page {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let found = rows.range::<VectorId, _>((from, Bound::Unbounded)).take(limit.max(1));
    let rows: Vec<StoredVersion> = found.map(|(id, row)| stored(id, row)).collect();
    let next = rows.last().map(|last| last.id.clone());
    Page { rows, misnamed: 0, next }
}

fn stored(id: &VectorId, row: &StoredRow) -> StoredVersion {
    let version = Some(&row.version).filter(|version| !version.origin.as_str().is_empty());
    StoredVersion { id: id.clone(), version: version.cloned() }
}

struct Pending {
    due: Duration,
    collection: CollectionId,
    request: StoreRequest,
    token: u64,
}

pub struct EmbeddedStore {
    database: Arc<Database>,
    collections: Arc<Collections>,
    latency: Duration,
    wake: Wake,
    pending: VecDeque<Pending>,
}

impl EmbeddedStore {
    /// A request is carried out and answered by the first poll that comes at least `latency` after it.
    pub fn new(database: Arc<Database>, latency: Duration, wake: Wake) -> Self {
        let collections = database.collections.clone();
        Self { database, collections, latency, wake, pending: VecDeque::new() }
    }

    /// Under these names, which may be those of physical collections.
    pub fn named(self, collections: Arc<Collections>) -> Self {
        Self { collections, ..self }
    }
}

impl VectorStore for EmbeddedStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut state = self.database.lock();
        let due = state.clock.now().monotonic + self.latency;
        self.pending.push_back(Pending { due, collection, request, token });
        if self.latency.is_zero() {
            (self.wake)();
        } else {
            state.alarms.push((due, self.wake.clone()));
        }
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        if self.pending.is_empty() {
            return;
        }
        let at = self.database.lock().clock.now().monotonic;
        let due = self.pending.partition_point(|pending| pending.due <= at);
        for pending in self.pending.drain(..due) {
            let name = &self.collections.get(pending.collection).name;
            let outcome = self.database.answer(pending.collection, name, &pending.request);
            responses.push(StoreResponse { token: pending.token, outcome });
        }
    }
}

//! A vector store's client with faults: requests that hang, replies that are lost while the write itself lands
//! later, and a record of all that was sent.

use crate::fuse::Fuse;
use driftless::adapter::embedded::vector::{Database, EmbeddedStore};
use driftless::base::ids::{CollectionId, VectorId};
use driftless::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, VectorStore};
use driftless::task::command::{Purpose, Token};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a worker has sent to the vector store: it outlives the worker.
pub struct StoreLine {
    client: EmbeddedStore,
    fuse: Fuse,
    pending: VecDeque<(CollectionId, StoreRequest, u64)>,
    replies: VecDeque<StoreResponse>,
    /// Nothing is carried out.
    pub hangs: bool,
    /// So many writes get no reply in time, and land only when they are told to.
    pub lose_replies: usize,
    strays: Vec<(CollectionId, StoreRequest)>,
    /// Every write that was sent.
    pub sent: Vec<Arc<RowBatch>>,
    pub read_backs: usize,
    pub scans: usize,
    /// Reads are answered by this.
    pub reads_fail: Option<StoreError>,
    in_flight: usize,
    pub in_flight_max: usize,
}

impl StoreLine {
    pub fn new(database: Arc<Database>, fuse: Fuse) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            client: EmbeddedStore::new(database, Duration::ZERO, Arc::new(|| {})),
            fuse,
            pending: VecDeque::new(),
            replies: VecDeque::new(),
            hangs: false,
            lose_replies: 0,
            strays: Vec::new(),
            sent: Vec::new(),
            read_backs: 0,
            scans: 0,
            reads_fail: None,
            in_flight: 0,
            in_flight_max: 0,
        }))
    }

    /// Rows sent so far, upserts and deletes.
    pub fn rows_sent(&self) -> usize {
        self.sent.iter().map(|batch| batch.ids.len() + batch.deletes.len()).sum()
    }

    pub fn times_sent(&self, id: i64) -> usize {
        let id = VectorId::Int(id);
        self.sent.iter().filter(|batch| batch.ids.contains(&id) || batch.deletes.contains(&id)).count()
    }

    /// Writes without a reply land now, after whatever has been written meanwhile.
    pub fn land_strays(&mut self) {
        for (collection, request) in std::mem::take(&mut self.strays) {
            // Refused, it has not landed; nobody waits for the answer.
            drop(self.execute(collection, request));
        }
    }

    /// Everything sent and not carried out is carried out now, whoever still waits for it.
    pub fn land_all(&mut self) {
        while let Some((collection, request, _)) = self.pending.pop_front() {
            // Refused, it has not landed; nobody waits for the answer.
            drop(self.execute(collection, request));
        }
        self.land_strays();
    }

    fn execute(&mut self, collection: CollectionId, request: StoreRequest) -> Result<StoreReply, StoreError> {
        let mut responses = Vec::new();
        self.client.submit(collection, request, 0);
        self.client.poll(&mut responses);
        responses.pop().expect("a store without latency answers at once").outcome
    }

    fn carry_out(&mut self) {
        while !self.hangs && !self.pending.is_empty() && self.fuse.step() {
            let Some((collection, request, token)) = self.pending.pop_front() else { return };
            let is_write = matches!(request, StoreRequest::Write(_));
            let outcome = if is_write && self.lose_replies > 0 {
                self.lose_replies -= 1;
                self.strays.push((collection, request));
                Err(StoreError::Ambiguous("deadline exceeded".to_owned()))
            } else if let Some(error) = self.reads_fail.clone().filter(|_| !is_write) {
                Err(error)
            } else {
                self.execute(collection, request)
            };
            self.replies.push_back(StoreResponse { token, outcome });
        }
    }
}

pub struct FaultyStore(pub Arc<Mutex<StoreLine>>);

impl VectorStore for FaultyStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut line = self.0.lock().unwrap();
        if !line.fuse.step() {
            return;
        }
        match &request {
            StoreRequest::Write(batch) => {
                line.sent.push(batch.clone());
                line.in_flight += 1;
                line.in_flight_max = line.in_flight_max.max(line.in_flight);
            }
            StoreRequest::ReadBack(_) | StoreRequest::Compare(_) => line.read_backs += 1,
            StoreRequest::Scan { .. } => line.scans += 1,
        }
        line.pending.push_back((collection, request, token));
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        let mut line = self.0.lock().unwrap();
        while !line.replies.is_empty() && line.fuse.step() {
            let response = line.replies.pop_front().expect("it is not empty");
            if Token::unpack(response.token).is_some_and(|token| token.purpose == Purpose::Batch) {
                line.in_flight -= 1;
            }
            responses.push(response);
        }
        line.carry_out();
    }
}

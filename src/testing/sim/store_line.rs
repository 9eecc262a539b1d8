//! One worker's connection to its region's vector store. It outlives the worker: what has been sent may be done
//! although nobody waits for it any more.

use super::check::RegionChecks;
use super::interrupt::Interrupt;
use super::trace::Trace;
use crate::adapter::embedded::vector::{Database, EmbeddedCollections, EmbeddedStore};
use crate::base::ids::CollectionId;
use crate::port::vector::{StoreError, StoreRequest, StoreResponse, VectorAdmin, VectorStore};
use crate::record::collection::Collections;
use crate::testing::random::SplitMix64;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The deadline of a request (DESIGN 5): after it the answer is "no reply".
const RPC_DEADLINE: Duration = Duration::from_secs(5);
/// The latest that a request is still carried out after it was sent; well within the safety window.
const LANDS_WITHIN_MS: u64 = 18_000;

/// What is wrong with a region's vector store now. Percentages are of the requests.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreWeather {
    pub down: bool,
    pub hangs: bool,
    pub throttles_percent: usize,
    pub loses_replies_percent: usize,
    pub lands_late_percent: usize,
    pub slow_ms: u64,
    pub unloaded: Option<CollectionId>,
}

struct Pending {
    collection: CollectionId,
    /// What it names: the alias, or a physical collection.
    name: String,
    request: StoreRequest,
    token: u64,
    /// When the answer comes, if one does before the deadline.
    answers_at: Option<Duration>,
    deadline: Duration,
}

pub(super) struct StoreLine {
    database: Arc<Database>,
    collections: Arc<Collections>,
    weather: Arc<Mutex<StoreWeather>>,
    checks: Arc<Mutex<RegionChecks>>,
    interrupt: Interrupt,
    trace: Trace,
    random: SplitMix64,
    worker: u64,
    /// Sent and not carried out yet, by when it will be.
    pending: BTreeMap<(Duration, u64), Pending>,
    /// On the way back, by when they arrive.
    replies: BTreeMap<(Duration, u64), StoreResponse>,
    next: u64,
}

pub(super) struct StoreParts {
    pub database: Arc<Database>,
    pub collections: Arc<Collections>,
    pub weather: Arc<Mutex<StoreWeather>>,
    pub checks: Arc<Mutex<RegionChecks>>,
    pub interrupt: Interrupt,
    pub trace: Trace,
    pub random: SplitMix64,
    pub worker: u64,
}

impl StoreLine {
    pub fn new(parts: StoreParts) -> Self {
        let StoreParts { database, collections, weather, checks, interrupt, trace, random, worker } = parts;
        Self {
            database,
            collections,
            weather,
            checks,
            interrupt,
            trace,
            random,
            worker,
            pending: BTreeMap::new(),
            replies: BTreeMap::new(),
            next: 0,
        }
    }

    /// When something is to be carried out next, and when a reply arrives.
    pub fn due(&self) -> Option<Duration> {
        self.pending.keys().chain(self.replies.keys()).map(|(at, _)| *at).min()
    }

    pub fn has_replies(&self, now: Duration) -> bool {
        self.replies.keys().next().is_some_and(|(at, _)| *at <= now)
    }

    pub fn take_reply(&mut self, now: Duration) -> Option<StoreResponse> {
        let entry = self.replies.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Its worker is dead: replies go nowhere, and a part of what is under way is lost.
    pub fn orphan(&mut self, lost_percent: usize) {
        self.replies.clear();
        let random = &mut self.random;
        self.pending.retain(|_, _| !random.percent(lost_percent));
    }

    /// Carries out what is due.
    pub fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.pending.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((at, id), pending) = entry.remove_entry();
            self.carry_out(at, id, pending);
        }
    }

    fn carry_out(&mut self, at: Duration, id: u64, pending: Pending) {
        let mut responses = Vec::new();
        let names = Arc::new(self.collections.with_name(pending.collection, &pending.name));
        let mut client = EmbeddedStore::new(self.database.clone(), Duration::ZERO, Arc::new(|| {})).named(names);
        client.submit(pending.collection, pending.request.clone(), 0);
        client.poll(&mut responses);
        let outcome = responses.pop().expect("a store without latency answers at once").outcome;
        if let StoreRequest::Write(batch) = &pending.request {
            let rows = (batch.ids.len() + batch.deletes.len()) as u64;
            self.trace.note(at, "store wrote", &[self.worker, rows, u64::from(outcome.is_ok())], || {
                let verdict = outcome.as_ref().err().map_or("done".to_owned(), StoreError::to_string);
                let (worker, name) = (self.worker, &pending.name);
                format!("worker {worker}, {name}: {:?} {:?}, deletes {:?}: {verdict}", batch.ids, versions(batch), batch.deletes)
            });
            if outcome.is_ok() {
                self.checks.lock().unwrap_or_else(PoisonError::into_inner).row_landed(at, pending.collection, batch);
                if at > pending.deadline {
                    self.trace.count("write landed after its deadline", 1);
                }
            }
        }
        if let Some(answers_at) = pending.answers_at {
            self.replies.insert((answers_at, id), StoreResponse { token: pending.token, outcome });
        }
    }

    fn weather(&self) -> StoreWeather {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By the alias. Every other request finds out at once what that stands for, as a proxy does that then takes its time;
    /// the rest only when they are carried out.
    fn send_by_alias(&mut self, collection: CollectionId, request: StoreRequest, token: u64, now: Duration) {
        let alias = self.collections.get(collection).name.clone();
        let at_once = self.next.is_multiple_of(2);
        let standing = EmbeddedCollections(self.database.clone()).alias(&alias).ok().flatten().filter(|_| at_once);
        self.send(collection, standing.unwrap_or(alias), request, token, now);
    }

    /// Draws what becomes of a request sent at `now`.
    pub fn send(&mut self, collection: CollectionId, name: String, request: StoreRequest, token: u64, now: Duration) {
        self.next += 1;
        let id = self.next;
        let weather = self.weather();
        let refused = |line: &mut Self, error| {
            let at = now + Duration::from_millis(line.random.between(1, 20));
            line.replies.insert((at, id), StoreResponse { token, outcome: Err(error) });
        };
        if weather.down {
            self.trace.count("store unavailable", 1);
            return refused(self, StoreError::Unavailable("the store is down".to_owned()));
        }
        if weather.unloaded == Some(collection) {
            self.trace.count("collection not loaded", 1);
            return refused(self, StoreError::Unavailable("the collection is not loaded".to_owned()));
        }
        if self.random.percent(weather.throttles_percent) {
            self.trace.count("store throttled", 1);
            return refused(self, StoreError::Throttled("rate limit exceeded".to_owned()));
        }
        let deadline = now + RPC_DEADLINE;
        let (lands_at, answered) = self.fate(&weather, now);
        let answers_at = Some(lands_at + Duration::from_millis(self.random.between(0, 3)));
        let answers_at = answers_at.filter(|at| answered && *at <= deadline);
        if answers_at.is_none() {
            self.trace.count("reply lost", 1);
            let outcome = Err(StoreError::Ambiguous("deadline exceeded".to_owned()));
            self.replies.insert((deadline, id), StoreResponse { token, outcome });
        }
        // Of what hangs, a part is never done.
        if !(weather.hangs && self.random.percent(50)) {
            self.pending.insert((lands_at, id), Pending { collection, name, request, token, answers_at, deadline });
        }
    }

    /// When it is carried out, and whether an answer comes back.
    fn fate(&mut self, weather: &StoreWeather, now: Duration) -> (Duration, bool) {
        let deadline_ms = RPC_DEADLINE.as_millis() as u64;
        let (ms, answered) = if weather.hangs || self.random.percent(weather.lands_late_percent) {
            (self.random.between(deadline_ms / 2, LANDS_WITHIN_MS), false)
        } else if weather.slow_ms > 0 {
            (self.random.between(1, weather.slow_ms), true)
        } else {
            (self.random.between(1, 8), true)
        };
        (now + Duration::from_millis(ms), answered && !self.random.percent(weather.loses_replies_percent))
    }
}

fn versions(batch: &crate::port::vector::RowBatch) -> Vec<String> {
    batch.versions.iter().map(|version| version.to_string()).collect()
}

/// The port; the line is shared with the world, which moves it on.
pub(super) struct SimStore {
    pub line: Arc<Mutex<StoreLine>>,
    pub now: super::clock::Timeline,
}

impl VectorStore for SimStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.interrupt.allows() {
            return;
        }
        let now = self.now.now() + line.interrupt.delay();
        if let StoreRequest::Write(batch) = &request {
            let mut checks = line.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.batch_sent(now, line.worker, token, collection, batch);
        }
        line.send_by_alias(collection, request, token, now);
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now.now();
        while let Some(response) = line.take_reply(now) {
            line.checks.lock().unwrap_or_else(PoisonError::into_inner).answered(line.worker, response.token);
            responses.push(response);
        }
    }
}

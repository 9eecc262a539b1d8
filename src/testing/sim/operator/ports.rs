//! What a command reaches its region with: every call may take time, find nobody, or be the last.

use super::baton::Baton;
use crate::adapter::embedded::vector::EmbeddedCollections;
use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, TopicPartition};
use crate::base::time::{Clock, Now, UnixMs};
use crate::port::log::{Ack, Append, AppendRefused, Appender, Bounds, LogReader, TopicDescription};
use crate::port::vector::{StoreError, StoreRequest, StoreResponse, VectorAdmin, VectorStore};
use crate::record::collection::{CollectionSpec, Collections};
use crate::record::raw::RawRecord;
use crate::testing::sim::aliases::SimAliases;
use crate::testing::sim::clock::{NodeClock, Timeline};
use crate::testing::sim::consumer::SimReader;
use crate::testing::sim::log_line::SimAppender;
use crate::testing::sim::store_line::{StoreLine, StoreWeather};
use crate::testing::sim::trace::Trace;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(2);

fn killed() -> Error {
    Error::retry("the process is killed")
}

pub(super) struct OperatorClock {
    pub clock: NodeClock,
    pub baton: Baton,
}

impl Clock for OperatorClock {
    fn now(&self) -> Now {
        self.baton.call();
        self.clock.now()
    }
}

pub(super) struct OperatorReader {
    pub inner: SimReader,
    pub baton: Baton,
}

impl OperatorReader {
    fn reach(&mut self) -> Result<&mut SimReader> {
        self.baton.call();
        if self.baton.is_killed() { Err(killed()) } else { Ok(&mut self.inner) }
    }
}

impl LogReader for OperatorReader {
    fn describe(&mut self, topic: &str) -> Result<Option<TopicDescription>> {
        self.reach()?.describe(topic)
    }

    fn bounds(&mut self, partition: &TopicPartition) -> Result<Bounds> {
        self.reach()?.bounds(partition)
    }

    fn offset_at(&mut self, partition: &TopicPartition, at: UnixMs) -> Result<i64> {
        self.reach()?.offset_at(partition, at)
    }

    fn open(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.reach()?.open(partition, offset)
    }

    fn read(&mut self, records: &mut Vec<RawRecord>) -> Result<i64> {
        self.reach()?.read(records)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

pub(super) struct OperatorStore {
    pub line: Arc<Mutex<StoreLine>>,
    pub names: Arc<Collections>,
    pub now: Timeline,
    pub baton: Baton,
    pub under_way: BTreeSet<u64>,
}

impl VectorStore for OperatorStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        self.baton.call();
        self.under_way.insert(token);
        if self.baton.is_killed() {
            return;
        }
        let name = self.names.get(collection).name.clone();
        let now = self.now.now();
        self.line.lock().unwrap_or_else(PoisonError::into_inner).send(collection, name, request, token, now);
    }

    /// Waits for an answer, if one is to come: the caller would, and in this world there is nobody to wake it.
    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        while responses.is_empty() && !self.under_way.is_empty() {
            let due = self.line.lock().unwrap_or_else(PoisonError::into_inner).due();
            self.baton.pass(due.map_or(MOMENT, |due| due.saturating_sub(self.now.now())));
            if self.baton.is_killed() {
                let lost = || Err(StoreError::Ambiguous("the process is killed".to_owned()));
                responses.extend(
                    std::mem::take(&mut self.under_way).into_iter().map(|token| StoreResponse { token, outcome: lost() }),
                );
                return;
            }
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(response) = line.take_reply(self.now.now()) {
                self.under_way.remove(&response.token);
                responses.push(response);
            }
        }
    }
}

pub(super) struct OperatorAppender {
    pub inner: SimAppender,
    pub baton: Baton,
    pub under_way: BTreeSet<u64>,
}

impl Appender for OperatorAppender {
    fn append(&mut self, append: Append, token: u64) -> std::result::Result<(), AppendRefused> {
        self.baton.call();
        if self.baton.is_killed() {
            return Err(AppendRefused::Failed(killed()));
        }
        self.inner.append(append, token)?;
        self.under_way.insert(token);
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        self.baton.pass(MOMENT);
        // Who finds nothing parks, and there is nobody to wake it: so it is woken already.
        thread::current().unpark();
        if self.baton.is_killed() {
            let under_way = std::mem::take(&mut self.under_way).into_iter();
            return acks.extend(under_way.map(|token| Ack { token, outcome: Err(killed()) }));
        }
        let before = acks.len();
        self.inner.poll_acks(acks);
        for ack in &acks[before..] {
            self.under_way.remove(&ack.token);
        }
    }
}

pub(super) struct OperatorAdmin {
    pub inner: EmbeddedCollections,
    pub aliases: SimAliases,
    pub weather: Arc<Mutex<StoreWeather>>,
    pub now: Timeline,
    pub baton: Baton,
    pub trace: Trace,
}

impl OperatorAdmin {
    /// Done in the middle of the call's time, so that a process may die without knowing of it.
    fn doing<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.baton.call();
        let away = {
            let weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
            weather.down || weather.hangs
        };
        if self.baton.is_killed() || away {
            return Err(Error::retry("the vector store does not answer"));
        }
        let done = act(self)?;
        self.baton.call();
        if self.baton.is_killed() { Err(killed()) } else { Ok(done) }
    }
}

impl VectorAdmin for OperatorAdmin {
    fn alias(&mut self, name: &str) -> Result<Option<String>> {
        self.doing(|admin| admin.inner.alias(name))
    }

    fn collections(&mut self) -> Result<Vec<String>> {
        self.doing(|admin| admin.inner.collections())
    }

    fn create(&mut self, physical: &str, spec: &CollectionSpec) -> Result<()> {
        self.doing(|admin| admin.inner.create(physical, spec))
    }

    fn point_alias(&mut self, name: &str, physical: &str) -> Result<()> {
        self.doing(|admin| admin.aliases.point(name, physical, admin.now.now()))
    }

    fn reaches(&mut self, name: &str, physical: &str) -> Result<bool> {
        self.doing(|admin| admin.aliases.reaches(name, physical, &admin.trace))
    }

    fn drop_collection(&mut self, physical: &str) -> Result<()> {
        self.doing(|admin| admin.inner.drop_collection(physical))
    }

    fn rename(&mut self, physical: &str, to: &str) -> Result<()> {
        self.doing(|admin| admin.inner.rename(physical, to))
    }
}

//! The ports' conformance suites on the embedded implementations.

use driftless::adapter::embedded::broker::{Broker, TimestampType};
use driftless::adapter::embedded::stores::KeptStores;
use driftless::adapter::embedded::vector::{Database, EmbeddedCollections, EmbeddedStore};
use driftless::adapter::embedded::{EmbeddedAppender, EmbeddedConsumer, EmbeddedGroupView, EmbeddedReader};
use driftless::adapter::system::SystemClock;
use driftless::base::ids::CollectionId;
use driftless::ops::append;
use driftless::port::group::GroupView;
use driftless::port::log::{Appender, GroupConsumer, LogReader, Wake};
use driftless::port::vector::VectorStore;
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::testing::conformance::generations;
use driftless::testing::conformance::log::{self, LogUnderTest};
use driftless::testing::conformance::stores;
use driftless::testing::conformance::vector::{self, Row};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

struct EmbeddedLog {
    broker: Arc<Broker>,
    names: u32,
}

impl EmbeddedLog {
    fn wake() -> Wake {
        let thread = thread::current();
        Arc::new(move || thread.unpark())
    }
}

impl LogUnderTest for EmbeddedLog {
    fn unique(&mut self, base: &str) -> Arc<str> {
        self.names += 1;
        Arc::from(format!("{base}-{}", self.names))
    }

    fn create_topic(&mut self, topic: &str, partitions: i32) {
        self.broker.create_topic(topic, partitions, TimestampType::LogAppendTime).expect("a new topic");
    }

    fn delete_topic(&mut self, topic: &str) {
        self.broker.delete_topic(topic);
    }

    fn join(&mut self, group: &str, local: &Arc<str>, _mirror: &Arc<str>) -> Box<dyn GroupConsumer> {
        Box::new(EmbeddedConsumer::join(self.broker.clone(), group, vec![local.clone()], Self::wake()))
    }

    fn view(&mut self, group: &str) -> Box<dyn GroupView> {
        Box::new(EmbeddedGroupView::new(self.broker.clone(), group))
    }

    fn appender(&mut self) -> Box<dyn Appender> {
        Box::new(EmbeddedAppender::new(self.broker.clone(), 100, Self::wake()))
    }

    fn reader(&mut self) -> Box<dyn LogReader> {
        Box::new(EmbeddedReader::new(self.broker.clone()))
    }

    fn wait(&mut self) {
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn the_embedded_log_behaves_as_a_log() {
    let broker = Broker::new(Box::new(SystemClock::start()), Duration::from_secs(10));
    log::all(&mut EmbeddedLog { broker, names: 0 });
}

#[derive(Default)]
struct EmbeddedVectors {
    database: Option<Arc<Database>>,
}

impl vector::Factory for EmbeddedVectors {
    type Store = EmbeddedStore;

    fn open(&mut self, collections: Arc<Collections>, wake: Wake) -> EmbeddedStore {
        let database = Database::new(collections, Box::new(SystemClock::start()));
        self.database = Some(database.clone());
        EmbeddedStore::new(database, Duration::ZERO, wake)
    }

    fn rows(&mut self, _store: &EmbeddedStore, collection: CollectionId, _spec: &CollectionSpec) -> Vec<Row> {
        let rows = self.database.as_ref().expect("opened before").scan(collection);
        rows.into_iter().map(|(id, row)| Row { id, vector: row.vector, version: row.version, metadata: row.metadata }).collect()
    }
}

#[test]
fn the_embedded_vector_store_behaves_as_a_vector_store() {
    vector::run("embedded", &mut EmbeddedVectors::default());
}

#[test]
fn stores_kept_in_memory_keep_what_was_committed() {
    stores::run(&mut || Box::new(KeptStores::new(usize::MAX)));
    stores::run(&mut || Box::new(KeptStores::new(3)));
}

#[test]
fn embedded_collections_are_made_swapped_and_dropped() {
    let spec = CollectionSpec {
        name: "documents".to_owned(),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    };
    let collections = Arc::new(Collections::new(vec![spec.clone()]));
    let database = Database::new(collections, Box::new(SystemClock::start()));
    let mut open = |collections: Arc<Collections>| -> Box<dyn VectorStore> {
        Box::new(EmbeddedStore::new(database.clone(), Duration::ZERO, append::wake()).named(collections))
    };
    generations::run(&spec, &mut EmbeddedCollections(database.clone()), &mut open);
}

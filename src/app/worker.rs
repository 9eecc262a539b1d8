//! `driftless worker`: one process, as many stream threads as configured, each with its own clients.

use super::canary::{Visibility, keep_measuring, row_of};
use super::console;
use super::http::{Served, bind, serve};
use super::prepare::{check_topics, milvus_settings, own_schema_id, prepare_milvus, registry_addresses, worker_kafka_settings};
use super::standby::{StandbyThread, process_tag};
use crate::adapter::disk::DiskStores;
use crate::adapter::kafka::{KafkaAppender, KafkaGroupConsumer, KafkaLogReader, Subscription};
use crate::adapter::milvus::MilvusStore;
use crate::adapter::registry::RegistrySchemas;
use crate::adapter::system::SystemClock;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::metric;
use crate::config::{Config, StoreKind};
use crate::console::routes::keep_looking;
use crate::console::tap::{Ear, Tap};
use crate::store::Stores;
use crate::store::memory::MemoryStores;
use crate::stream::driver::{Watch, drive, drive_restorer, wake_this_thread};
use crate::stream::restorer::Restorer;
use crate::stream::settings::StreamSettings;
use crate::stream::standby::Standbys;
use crate::stream::stream_thread::{Ports, StreamThread};
use crate::topology::build::{NodeTypes, Topology};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const REPORT_INTERVAL: Duration = Duration::from_millis(200);
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Around the promises: 5 ms (own write), 10 ms (search), 60 ms (a WAN's round trip), 150 ms (lag).
const SECONDS_BUCKETS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.009, 0.01, 0.02, 0.03, 0.06, 0.1, 0.15, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0];
const ROWS_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

/// What all threads of the process share.
#[derive(Clone)]
struct Shared {
    /// Tells this process from the others of its group.
    process: String,
    clock: SystemClock,
    stores: Arc<dyn Stores>,
    standbys: Option<Standbys>,
    ear: Ear,
}

/// Runs until a signal or a fatal error. `types`: what the configured topology may be made of.
pub fn run_worker(config: Config, types: &NodeTypes) -> Result<Exit> {
    let topology = Topology::parse(&config.topology.name, &config.topology.text, types).map_err(Error::refuse)?;
    let topology = Arc::new(topology);
    let metrics = install_metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("driftless-rim")
        .enable_all()
        .build()
        .map_err(|error| Error::fatal(format_args!("no threads for the network clients: {error}")))?;
    let listener = runtime.block_on(bind(config.http_listen))?;
    check_topics(&config)?;
    let settings = stream_settings(&config, own_schema_id(&config)?);
    runtime.block_on(prepare_milvus(&config))?;

    let watches: Vec<Watch> = (0..config.worker.threads).map(|_| Watch::new(REPORT_INTERVAL, Arc::new(|| ()))).collect();
    runtime.spawn(upkeep(metrics.clone()));
    let (process, clock, stores) = (process_tag(), SystemClock::start(), stores(&config));
    let kafka = worker_kafka_settings(&config, 0, &process);
    let keeping = StandbyThread::start(&config, &settings, &kafka, stores.clone(), clock)?;
    let standbys = keeping.as_ref().map(|thread| thread.standbys.clone());
    let visibility = Visibility::new(clock);
    if config.canary.enabled {
        runtime.spawn(keep_measuring(milvus_settings(&config), row_of(&process), config.canary.period, visibility.clone()));
    }
    let served = Served {
        metrics,
        threads: watches.clone(),
        standbys: standbys.clone(),
        visibility,
        collections: config.collections.clone(),
        regions: console::own_first(&config),
    };
    let (console, ear) = console::open(&config, &topology, &served);
    runtime.spawn(keep_looking(console.clone()));
    runtime.spawn(serve(listener, served, console));
    tracing::info!(region = %config.region, application = %config.application_id, threads = watches.len(), http = %config.http_listen, "worker started");
    let shared = Shared { process, clock, stores: stores.clone(), standbys, ear };
    let ended = run_threads(&config, &settings, &topology, &runtime, &watches, &shared);
    // A second signal ends the process at once: nothing is waited for then.
    let (waits, mut kept) = (!matches!(ended, Ok(Exit::INTERRUPTED)), Ok(()));
    if waits {
        kept = keeping.map_or(Ok(()), StandbyThread::end);
        stores.await_closed();
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.and_then(|exit| kept.map(|()| exit))
}

fn install_metrics() -> Result<PrometheusHandle> {
    let fatal = |error| Error::fatal(format_args!("metrics: {error}"));
    let handle = with_buckets(PrometheusBuilder::new()).and_then(PrometheusBuilder::install_recorder).map_err(fatal)?;
    metric::describe();
    Ok(handle)
}

pub(super) fn with_buckets(builder: PrometheusBuilder) -> std::result::Result<PrometheusBuilder, BuildError> {
    builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS_BUCKETS)
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(METRICS_UPKEEP);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

fn stream_settings(config: &Config, schema_id: u32) -> StreamSettings {
    let regions = config.regions.keys().cloned().collect();
    let mut settings = StreamSettings::new(config.region.clone(), regions, config.topics(), config.collections.clone());
    settings.schema_id = schema_id;
    settings.max_lateness = config.max_lateness;
    settings.drain_timeout = config.worker.drain_timeout;
    settings.task.buffer_bytes_max = config.worker.buffer_bytes;
    settings.task.commit_interval = config.worker.commit_interval;
    settings.task.batch_bytes_max = config.sink.batch_bytes;
    settings.task.linger = config.sink.linger;
    settings.task.hold = config.sink.hold;
    settings.task.scrub = config.scrub.clone();
    settings
}

/// What happens to the process while its threads run.
enum Event {
    ThreadEnded(Result<()>),
    Signal,
}

fn run_threads(
    config: &Config,
    settings: &StreamSettings,
    topology: &Arc<Topology>,
    runtime: &Runtime,
    watches: &[Watch],
    shared: &Shared,
) -> Result<Exit> {
    let (events_in, mut events) = mpsc::unbounded_channel();
    let signals = events_in.clone();
    let listening = runtime.block_on(async { (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) });
    let (Ok(mut interrupt), Ok(mut terminate)) = listening else {
        return Err(Error::fatal("signals can't be listened to"));
    };
    runtime.spawn(async move {
        loop {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if signals.send(Event::Signal).is_err() {
                return;
            }
        }
    });
    for (index, watch) in watches.iter().enumerate() {
        let (config, settings, topology) = (config.clone(), settings.clone(), topology.clone());
        let (handle, watch, ended, shared) = (runtime.handle().clone(), watch.clone(), events_in.clone(), shared.clone());
        let run = move || {
            let run = AssertUnwindSafe(|| run_thread(&config, settings, topology, &handle, index, &watch, shared));
            // A thread that has panicked must not leave a process behind that looks alive.
            let outcome =
                catch_unwind(run).unwrap_or_else(|_| Err(Error::fatal(format_args!("stream thread {index} has panicked"))));
            // The receiver lives until every thread has ended.
            ended.send(Event::ThreadEnded(outcome)).ok();
        };
        thread::Builder::new()
            .name(format!("stream-{index}"))
            .spawn(run)
            .map_err(|error| Error::fatal(format_args!("no stream thread: {error}")))?;
    }
    supervise(&mut events, watches, shared.standbys.as_ref())
}

/// The first signal, or the first thread that fails, stops all threads in good order; a second signal ends the
/// process at once.
fn supervise(events: &mut mpsc::UnboundedReceiver<Event>, watches: &[Watch], standbys: Option<&Standbys>) -> Result<Exit> {
    let mut running = watches.len();
    let mut stopping = false;
    let mut failure = None;
    while running > 0 {
        match events.blocking_recv() {
            Some(Event::ThreadEnded(outcome)) => {
                running -= 1;
                if let Err(error) = outcome {
                    tracing::error!(%error, "a stream thread has ended");
                    failure.get_or_insert(error);
                }
            }
            Some(Event::Signal) if stopping => return Ok(Exit::INTERRUPTED),
            Some(Event::Signal) => tracing::info!("stopping: finishing what is under way; a second signal ends at once"),
            None => break,
        }
        stopping = true;
        for watch in watches {
            watch.stop();
        }
        // Nobody will need them any more, and whoever reads takes time from what is under way.
        if let Some(standbys) = standbys {
            standbys.end();
        }
    }
    failure.map_or(Ok(Exit::DONE), Err)
}

/// One for the process: its threads take tasks over from each other.
fn stores(config: &Config) -> Arc<dyn Stores> {
    match config.store {
        StoreKind::Memory => Arc::new(MemoryStores),
        StoreKind::Disk => Arc::new(DiskStores::new(&config.state_dir, &config.application_id)),
    }
}

fn run_thread(
    config: &Config,
    settings: StreamSettings,
    topology: Arc<Topology>,
    runtime: &Handle,
    index: usize,
    watch: &Watch,
    shared: Shared,
) -> Result<()> {
    let Shared { process, clock, stores, standbys, ear } = shared;
    let wake = wake_this_thread();
    let kafka = worker_kafka_settings(config, index, &process);
    let names = config.topics();
    let subscriptions: Vec<Subscription> = (0..names.shards())
        .map(|shard| Subscription {
            local: names.local(shard),
            co_topics: config.peers().iter().map(|peer| names.mirror(peer, shard)).chain([names.repair(shard)]).collect(),
        })
        .collect();
    let (restorer, handle) = Restorer::with_standbys(wake.clone(), standbys);
    let mut reader = KafkaLogReader::new(&kafka)?;
    let reading = thread::Builder::new()
        .name(format!("restore-{index}"))
        .spawn(move || drive_restorer(restorer, &mut reader, &clock))
        .map_err(|error| Error::fatal(format_args!("no restore thread: {error}")))?;
    let appender = Box::new(KafkaAppender::new(&kafka, wake.clone())?);
    let ports = Ports {
        consumer: Box::new(KafkaGroupConsumer::new(&kafka, &subscriptions, wake.clone())?),
        appender: Box::new(Tap::new(appender, ear, config.region.clone(), names.dead_letter(), names.conflicts())),
        vectors: Box::new(MilvusStore::new(runtime.clone(), config.collections.clone(), &milvus_settings(config), wake.clone())?),
        schemas: Box::new(RegistrySchemas::new(runtime.clone(), &registry_addresses(config), wake)?),
        stores,
        clock: Box::new(clock),
    };
    let outcome = drive(StreamThread::new(settings, topology, ports, handle), &clock, watch);
    // Its handle is gone with the stream thread, which ends it.
    reading.join().map_err(|_| Error::fatal("the restore thread has panicked"))?;
    outcome
}

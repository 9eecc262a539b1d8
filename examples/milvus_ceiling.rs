//! How fast rows go into a Milvus: through the bare SDK (columns, requests prepared beforehand) and through
//! `MilvusStore`, in one run, since a server's speed varies by the hour.
//!
//! `cargo run --release --example milvus_ceiling -- http://127.0.0.1:19530 [http://127.0.0.1:19591/metrics]`
//! With the second address the server's own CPU time is told too. `DIMENSION IN_FLIGHT BATCHES CLIENT` behind it, CLIENT
//! being `sdk` or `store`, is one measurement alone.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use driftless::adapter::milvus::{MilvusAdmin, MilvusSettings, MilvusStore};
use driftless::base::ids::{CollectionId, Region, VectorId};
use driftless::merge::hlc::Hlc;
use driftless::merge::version::Version;
use driftless::port::log::Wake;
use driftless::port::vector::{RowBatch, StoreRequest, VectorStore};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use milvus::v2::prelude::{ClientV2, ConnectConfig, FieldData, InsertRequest, UpsertRequest};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Id, version and metadata of a row, beside its floats.
const ROW_OVERHEAD: usize = 100;
const BATCHES: usize = 24;
const DIMENSIONS: [usize; 2] = [128, 768];
const IN_FLIGHT: [usize; 2] = [1, 4];
const METADATA: &str = r#"{"lang":"en","n":7}"#;

struct Bench {
    runtime: Runtime,
    settings: MilvusSettings,
    metrics: Option<String>,
    batches: usize,
}

type Through = fn(&Bench, &CollectionSpec, usize) -> (Duration, f64);
const CLIENTS: [(&str, &str, Through); 2] = [("sdk", "bare SDK", Bench::through_sdk), ("store", "store", Bench::through_store)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().expect("usage: milvus_ceiling URI [METRICS_URI [DIMENSION IN_FLIGHT BATCHES CLIENT]]");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut settings = MilvusSettings::new(uri);
    settings.rpc_deadline = Duration::from_secs(30);
    let metrics = arguments.next();
    let one: Vec<String> = arguments.collect();
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (dimensions, in_flight, batches, wanted) = match one.as_slice() {
        [dimension, in_flight, batches, client] => {
            (vec![number(dimension)], vec![number(in_flight)], number(batches), client.as_str())
        }
        _ => (DIMENSIONS.to_vec(), IN_FLIGHT.to_vec(), BATCHES, ""),
    };
    let bench = Bench { runtime, settings, metrics, batches };
    println!(
        "{:>5} {:>10} {:>9} | {:>9} {:>13} {:>13}",
        "dims", "client", "in flight", "rows/s", "client µs/row", "server µs/row"
    );
    for dimension in dimensions {
        for in_flight in &in_flight {
            for (_, name, write) in CLIENTS.iter().filter(|(client, ..)| wanted.is_empty() || wanted == *client) {
                bench.run(name, dimension, *in_flight, *write);
            }
        }
    }
}

impl Bench {
    fn run(&self, name: &str, dimension: usize, in_flight: usize, write: Through) {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        let spec = CollectionSpec {
            name: format!("ceiling_{stamp}"),
            id: IdKind::Uuid,
            dimension,
            metric: Metric::L2,
            index: IndexKind::Hnsw { m: 8, ef_construction: 64 },
            auto_create: true,
        };
        let collections = Collections::new(vec![spec.clone()]);
        let prepared = async { MilvusAdmin::connect(&self.settings).await?.prepare(&collections).await };
        self.runtime.block_on(prepared).expect("the collection is created");
        let server_before = self.server_cpu();
        let (took, client) = write(self, &spec, in_flight);
        let rows = (self.batches * batch_rows(dimension)) as f64;
        let client = client * 1e6 / rows;
        let server = self.server_cpu().zip(server_before).map(|(after, before)| (after - before) * 1e6 / rows);
        let server = server.map_or("-".to_owned(), |micros| format!("{micros:.1}"));
        println!("{dimension:>5} {name:>10} {in_flight:>9} | {:>9.0} {client:>13.1} {server:>13}", rows / took.as_secs_f64());
    }

    /// Wall and CPU time, the requests' preparation apart.
    fn through_sdk(&self, spec: &CollectionSpec, in_flight: usize) -> (Duration, f64) {
        let mut requests: Vec<UpsertRequest> =
            batches(self.batches, spec.dimension).map(|batch| sdk_request(spec, &batch)).collect();
        self.runtime.block_on(async {
            let client = ClientV2::new(&ConnectConfig::new().uri(&self.settings.uri)).await.expect("connected");
            let (begun, cpu) = (Instant::now(), own_cpu());
            let mut running = JoinSet::new();
            while !requests.is_empty() || !running.is_empty() {
                while let Some(request) = if running.len() < in_flight { requests.pop() } else { None } {
                    let client = client.clone();
                    running.spawn(async move { client.upsert(request).await });
                }
                if let Some(done) = running.join_next().await {
                    done.expect("the task ends").expect("acknowledged");
                }
            }
            (begun.elapsed(), own_cpu() - cpu)
        })
    }

    fn through_store(&self, spec: &CollectionSpec, in_flight: usize) -> (Duration, f64) {
        let mut batches: Vec<Arc<RowBatch>> = batches(self.batches, spec.dimension).map(Arc::new).collect();
        let (ring, woken) = channel();
        let wake: Wake = Arc::new(move || ring.send(()).unwrap_or(()));
        let collections = Arc::new(Collections::new(vec![spec.clone()]));
        let handle = self.runtime.handle().clone();
        let mut store = MilvusStore::new(handle, collections, &self.settings, wake).expect("settings are good");
        let (begun, cpu) = (Instant::now(), own_cpu());
        let (mut out, mut responses) = (0, Vec::new());
        while !batches.is_empty() || out > 0 {
            while let Some(batch) = if out < in_flight { batches.pop() } else { None } {
                store.submit(CollectionId(0), StoreRequest::Write(batch), 0);
                out += 1;
            }
            woken.recv().expect("the store lives");
            store.poll(&mut responses);
            for response in responses.drain(..) {
                response.outcome.expect("acknowledged");
                out -= 1;
            }
        }
        (begun.elapsed(), own_cpu() - cpu)
    }

    /// CPU seconds of the server so far, from its metrics.
    fn server_cpu(&self) -> Option<f64> {
        let address = self.metrics.as_ref()?.strip_prefix("http://")?;
        let (host, path) = address.split_once('/')?;
        let mut stream = std::net::TcpStream::connect(host).ok()?;
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "))?.trim().parse().ok()
    }
}

fn batch_rows(dimension: usize) -> usize {
    BATCH_BYTES / (4 * dimension + ROW_OVERHEAD)
}

fn batches(count: usize, dimension: usize) -> impl Iterator<Item = RowBatch> {
    let rows = batch_rows(dimension);
    (0..count).map(move |number| {
        let mut batch = RowBatch::default();
        for row in 0..rows {
            let id = (number * rows + row) as u128;
            // Spread over the whole range, as random UUIDs are.
            batch.ids.push(VectorId::Uuid((id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)));
            batch.vectors.extend((0..dimension).map(|place| ((row * 31 + place * 17) % 1009) as f32 / 1009.0));
            batch.versions.push(Version { hlc: Hlc(1 << 60), origin: Region::new("us"), sequence: row as u64 });
            batch.metadata.push(METADATA.as_bytes().to_vec());
        }
        batch
    })
}

fn sdk_request(spec: &CollectionSpec, batch: &RowBatch) -> UpsertRequest {
    let metadata = batch.metadata.iter().map(|object| serde_json::from_slice(object).expect("a JSON object"));
    let columns = vec![
        FieldData::varchar("id", batch.ids.iter().map(VectorId::to_string).collect::<Vec<String>>()),
        FieldData::float_vector("vector", batch.vectors.chunks_exact(spec.dimension).map(<[f32]>::to_vec).collect()),
        FieldData::int64("_hlc", batch.versions.iter().map(|version| version.hlc.0 as i64).collect()),
        FieldData::varchar("_origin", batch.versions.iter().map(|version| version.origin.to_string()).collect::<Vec<_>>()),
        FieldData::int64("_seq", batch.versions.iter().map(|version| version.sequence as i64).collect()),
        FieldData::json("$meta", metadata.collect()),
    ];
    let insert = InsertRequest::builder().collection_name(&spec.name).columns(columns).build().expect("a good request");
    UpsertRequest::builder().insert(insert).build().expect("a good request")
}

/// CPU seconds of this process so far: `utime` and `stime` of proc(5), in ticks of 10 ms.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit_once(')').expect("a process's name in parentheses").1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

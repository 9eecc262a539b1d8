//! Configuration files: no panic, faults that say where and what to do, and what is accepted is consistent.

use crate::faults::assert_useful;
use crate::meter::measure;
use crate::run::{Target, Verdict};
use driftless::config::Config;
use rand::Rng;
use rand::rngs::SmallRng;
use std::path::Path;

pub const TARGET: Target = Target {
    name: "config",
    good,
    words: &[
        b"region = ",
        b"[kafka]\n",
        b"[milvus]\n",
        b"[regions.eu]\n",
        b"[[collections]]\n",
        b"[worker]\n",
        b"[sink]\n",
        b"[topology]\n",
        b"[admission]\nmax_lateness = \"1h\"\n",
        b"properties = { a = 1 }\n",
        b"password_env = \"SECRET\"\n",
        b"username = \"u\"\n",
        b"index = { type = \"ivf_pq\" }\n",
        b"\"\"\"",
        b"'''",
        b"\"",
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b".",
        b"\n",
        b"1979-05-27",
        b"0x",
        b"inf",
        b"\"5s\"",
        b"\"2MiB\"",
        b"\\u0000",
        b"\xef\xbb\xbf",
        b"\xc3\xa9",
        b"\r\n",
        b"99999999999999999999",
        b"[[[[[[[[",
        b"{a={a={a={",
    ],
    body,
    bytes_max: (256 << 10, 1024),
};

const SECRET: &str = "hunter2-hunter2";

fn good(rng: &mut SmallRng) -> Vec<u8> {
    if rng.random() {
        return include_bytes!("../../docker/driftless/us.toml").to_vec();
    }
    let metric = ["l2", "ip", "COSINE"][rng.random_range(0..3)];
    let id = ["uuid", "int64", "text"][rng.random_range(0..3)];
    let index = ["auto\"", "hnsw\", m = 8", "ivf_flat\", nlist = 64", "ivf_pq\", m = 4"][rng.random_range(0..4)];
    let extra = [
        "",
        "[worker]\nthreads = 2\ndrain_timeout = \"30s\"\n",
        "[sink]\nbatch_bytes = \"1MiB\"\nlinger = \"7ms\"\n",
        "[admission]\nmax_lateness = \"2h\"\n[placement]\nshards = 3\n",
    ];
    format!(
        "region = \"us\"\nstate_dir = \"state\"\n[kafka]\nbootstrap_servers = \"k:9092\"\nusername = \"u\"\npassword_env = \"SECRET\"\n\
         [kafka.properties]\n\"session.timeout.ms\" = {}\n[regions.us]\nregistry = \"http://r:8081\"\n\
         [milvus]\nuri = \"http://m:19530\"\nrpc_deadline = \"{}s\"\n[topics]\npartitions = {}\n{}\
         [[collections]]\nname = \"docs\"\nid = \"{id}\"\ndimension = 128\nmetric = \"{metric}\"\nindex = {{ type = \"{index} }}\n",
        rng.random_range(9_000..20_000),
        rng.random_range(1..6),
        rng.random_range(1..50),
        extra[rng.random_range(0..4)],
    )
    .into_bytes()
}

fn body(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let environment = |_: &str| Some(SECRET.to_owned());
    // A folder that isn't there: what the file refers to is not found, and nothing of this machine is read.
    let folder = Path::new("/nonexistent/driftless");
    let (read, held) = measure(|| Config::parse("f.toml", &text, folder, &environment));
    let kind = match &read {
        Ok(config) => {
            assert_consistent(config);
            format!(
                "{:?} {:?} {}",
                config.collections.iter().map(|(_, spec)| spec.index).collect::<Vec<_>>(),
                config.worker,
                config.shards
            )
        }
        Err(faults) => assert_useful(faults, &text),
    };
    Verdict::new(read.is_ok(), &kind, held)
}

fn assert_consistent(config: &Config) {
    assert!(!format!("{config:?} {config:#?}").contains(SECRET), "a secret is printed");
    assert!(config.regions.contains_key(&config.region));
    assert_eq!(config.peers().len() + 1, config.regions.len());
    assert!(config.partitions > 0 && config.shards > 0 && config.worker.threads > 0);
    assert!(!config.collections.is_empty() && config.sink.batch_bytes > 0 && config.worker.buffer_bytes > 0);
    for shard in 0..config.shards {
        assert_eq!(config.topics().shard_of_local(&config.topics().local(shard)), Some(shard));
    }
    // Both are computed for every start.
    let _ = (config.topic_plan(), config.kafka.client_properties());
}

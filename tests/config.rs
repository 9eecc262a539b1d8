//! The configuration: what the examples say, every fault with its place and remedy, and secrets kept.

use driftless::base::ids::{CollectionId, Region};
use driftless::config::{Config, MilvusAuth, StoreKind};
use driftless::record::collection::{IdKind, IndexKind};
use std::path::Path;
use std::time::Duration;

/// The least that a worker needs; line numbers of the faults below refer to it.
const GOOD: &str = r#"region = "us"
application_id = "app"
state_dir = "state"
[kafka]
bootstrap_servers = "127.0.0.1:9092"
replication_factor = 1
[regions.us]
registry = "http://127.0.0.1:8081"
[regions.eu]
registry = "http://127.0.0.1:8082"
[milvus]
uri = "http://127.0.0.1:19530"
[http]
listen = "127.0.0.1:9464"
[topics]
partitions = 4
[[collections]]
name = "docs"
id = "uuid"
dimension = 128
metric = "COSINE"
index = { type = "hnsw", m = 8, ef_construction = 64 }
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("us.toml", text, Path::new("/etc/driftless"), &|name| (name == "SECRET").then(|| "hunter2".to_owned()))
        .map_err(|faults| faults.to_string())
}

#[test]
fn a_minimal_configuration_is_completed_by_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.peers(), [Region::new("eu")]);
    assert_eq!(config.state_dir, Path::new("/etc/driftless/state"));
    assert_eq!(config.store, StoreKind::Memory);
    assert_eq!(parse(&format!("{GOOD}[state]\nstore = \"disk\"\n")).unwrap().store, StoreKind::Disk);
    assert_eq!(config.max_lateness, Duration::from_secs(3600));
    assert_eq!((config.shards, config.partitions), (1, 4));
    let docs = config.collections.get(CollectionId(0));
    assert_eq!((docs.id, docs.dimension), (IdKind::Uuid, 128));
    assert_eq!(docs.index, IndexKind::Hnsw { m: 8, ef_construction: 64 });
}

#[test]
fn the_examples_are_good_and_alike_but_for_their_region() {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/driftless").join(file);
        Config::load(&path).unwrap()
    };
    let (us, eu) = (read("us.toml"), read("eu.toml"));
    assert_eq!((us.region.as_str(), eu.region.as_str()), ("us", "eu"));
    assert_eq!(us.collections.schema_hash(), eu.collections.schema_hash());
    assert_eq!(us.max_lateness, eu.max_lateness);
}

/// Every commented-out key of the example is a known one: uncommented, the file is as good as before.
#[test]
fn what_the_example_comments_out_can_be_used() {
    let example = include_str!("../docker/driftless/us.toml");
    let mut text = String::new();
    for line in example.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_key = bare.split_once(" = ").is_some_and(|(key, _)| !key.trim_matches('"').contains(' '));
        let skip = bare.starts_with("token_env") || bare.starts_with("file = ");
        if !skip && (is_key || bare.starts_with('[')) {
            text.push_str(bare);
        }
        text.push('\n');
    }
    for variable in ["DRIFTLESS_KAFKA_PASSWORD", "DRIFTLESS_REGISTRY_US_PASSWORD", "DRIFTLESS_MILVUS_PASSWORD"] {
        assert!(text.contains(variable), "{text}");
    }
    let read = Config::parse("us.toml", &text, Path::new(""), &|_| Some("x".to_owned()));
    assert!(read.is_ok(), "{}", read.unwrap_err());
}

/// What is replaced, by what, and the place, the message and the remedy to be told.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    ("region = \"us\"", "regoin = \"us\"", "us.toml:1:1:", "unknown key `regoin`", "Did you mean `region`?"),
    ("region = \"us\"", "region = \"us.east\"", "us.toml:1:1:", "cannot be a region's name", "letters, digits"),
    ("region = \"us\"", "region = \"ap\"", "us.toml:1:1:", "does not name this region, \"ap\"", "Add [regions.ap]"),
    ("bootstrap_servers = \"127.0.0.1:9092\"", "bootstrap_servers = \"kafka\"", "us.toml:5:1:", "has no port", "HOST:PORT"),
    ("bootstrap_servers = \"127.0.0.1:9092\"", "", "us.toml:4:1:", "`bootstrap_servers` is missing in [kafka]", "HOST:PORT"),
    ("replication_factor = 1", "replication_factor = 0", "us.toml:6:22:", "out of range", "Choose a number from 1"),
    ("replication_factor = 1", "replication_factor = \"1\"", "us.toml:6:22:", "is a text", "a whole number"),
    ("replication_factor = 1", "password = \"x\"", "us.toml:6:1:", "is written in the file", "password_env"),
    ("replication_factor = 1", "username = \"x\"", "us.toml:6:12:", "a username and no password", "Add password_env"),
    ("replication_factor = 1", "password_env = \"NONE\"", "us.toml:6:16:", "no variable NONE", "Set NONE"),
    ("replication_factor = 1", "password_file = \"none\"", "us.toml:6:17:", "/etc/driftless/none cannot be read", "readable"),
    ("replication_factor = 1", "mechanism = \"GSSAPI\"", "us.toml:6:13:", "unknown `mechanism`", "SCRAM-SHA-512"),
    ("replication_factor = 1", "properties = { \"enable.auto.commit\" = true }", "us.toml:6:16:", "cannot be set", "always off"),
    (
        "replication_factor = 1",
        "properties = { \"session.timeout.ms\" = 4000 }",
        "us.toml:11:1:",
        "`rpc_deadline` = 5s",
        "Lower it",
    ),
    ("registry = \"http://127.0.0.1:8082\"", "registry = \"127.0.0.1:8082\"", "us.toml:10:1:", "is not a URL", "http://"),
    (
        "registry = \"http://127.0.0.1:8082\"",
        "registry = \"http://a:b@h\"",
        "us.toml:10:1:",
        "carries credentials",
        "password_env",
    ),
    ("uri =", "url =", "us.toml:12:1:", "unknown key `url` in [milvus]", "Did you mean `uri`?"),
    ("[http]", "rpc_deadline = \"5\"\n[http]", "us.toml:13:16:", "is not a usable duration", "with its unit"),
    ("[http]", "rpc_deadline = \"11s\"\n[http]", "us.toml:13:1:", "is not below the session time-out of 10s", "Lower it"),
    ("listen = \"127.0.0.1:9464\"", "listen = \"9464\"", "us.toml:14:10:", "is not an address", "127.0.0.1:9464"),
    ("partitions = 4", "partitions = 4\n[sink]\nbatch_bytes = \"2MB\"", "us.toml:18:15:", "is not a size", "MiB"),
    ("partitions = 4", "partitions = 4\n[admission]\nmax_lateness = \"80h\"", "us.toml:18:1:", "retention of 72h", "Lower it"),
    (
        "partitions = 4",
        "partitions = 4\n[topology]\nfile = \"none.toml\"",
        "us.toml:18:8:",
        "cannot be read",
        "leave [topology] out",
    ),
    (
        "partitions = 4",
        "partitions = 4\n[worker]\ndrain_timeout = \"1s\"",
        "us.toml:18:1:",
        "is below `rpc_deadline`",
        "Raise it",
    ),
    ("[[collections]]", "[[collection]]", "us.toml:17:3:", "unknown key `collection`", "Did you mean `collections`?"),
    ("name = \"docs\"", "name = \"my-docs\"", "us.toml:18:8:", "cannot be a collection's name", "letters, digits and `_`"),
    ("id = \"uuid\"", "id = \"guid\"", "us.toml:19:6:", "unknown `id` \"guid\"", "\"uuid\", \"int64\" or \"text\""),
    ("id = \"uuid\"", "id = \"uuid\"\nid_max_bytes = 9", "us.toml:20:1:", "only for id = \"text\"", "Remove it"),
    ("dimension = 128", "dimension = 40000", "us.toml:20:13:", "out of range", "Choose a number from 1 to 32768"),
    ("metric = \"COSINE\"", "metric = \"dot\"", "us.toml:21:10:", "unknown `metric`", "\"ip\""),
    ("\"hnsw\", m = 8", "\"hnsw\", M = 8", "us.toml:22:26:", "unknown key `M` in [collections.index]", "Did you mean `m`?"),
    ("\"hnsw\", m = 8, ef_construction = 64", "\"ivf_pq\", m = 7", "us.toml:22:28:", "does not divide", "a divisor"),
];

#[test]
fn every_fault_is_told_with_its_place_and_remedy() {
    let mut unseen = Vec::new();
    for (good, bad, place, message, remedy) in FAULTS {
        assert!(GOOD.contains(good), "{good}");
        let told = parse(&GOOD.replacen(good, bad, 1)).err().unwrap_or_default();
        let found = |fault: &str| fault.starts_with(place) && fault.contains(message) && fault.contains(remedy);
        if !told
            .split("\nus.toml")
            .enumerate()
            .any(|(n, fault)| found(&if n == 0 { fault.into() } else { format!("us.toml{fault}") }))
        {
            unseen.push(format!("{place} {message} … {remedy}\n  told instead: {told}"));
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn faults_of_all_sections_are_told_at_once() {
    let bad = GOOD.replace("partitions = 4", "partitions = 0").replace("metric", "mertic").replace("uri =", "url =");
    let told = parse(&bad).unwrap_err();
    for place in ["us.toml:11:", "us.toml:12:", "us.toml:16:", "us.toml:21:"] {
        assert!(told.contains(place), "{place} in\n{told}");
    }
}

#[test]
fn a_secret_is_taken_from_the_environment_or_a_file_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let text = GOOD
        .replace(
            "replication_factor = 1",
            "username = \"u\"\npassword_env = \"SECRET\"\nproperties = { \"ssl.key.password\" = \"hunter2\" }",
        )
        .replace("[http]", "username = \"root\"\npassword_file = \"password\"\n[http]");
    let config =
        Config::parse("us.toml", &text, folder.path(), &|name| (name == "SECRET").then(|| "hunter2".to_owned())).unwrap();
    assert_eq!(config.kafka.client_properties()["sasl.password"], "hunter2");
    let MilvusAuth::Login(login) = &config.milvus.auth else { panic!("a login") };
    assert_eq!(secrecy::ExposeSecret::expose_secret(&login.password), "hunter2");
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

#[test]
fn a_peers_kafka_has_the_keys_of_our_own_and_stands_at_a_peer_alone() {
    let peers = "[regions.eu.kafka]\nbootstrap_servers = \"eu:9092\"\nusername = \"u\"\npassword_env = \"SECRET\"\n[milvus]";
    let config = parse(&GOOD.replace("[milvus]", peers)).unwrap();
    let eu = &config.peer_kafka[&Region::new("eu")];
    assert_eq!((eu.bootstrap_servers.as_str(), &eu.client_properties()["sasl.password"][..]), ("eu:9092", "hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let without = parse(&GOOD.replace("[milvus]", "[regions.eu.kafka]\nreplication_factor = 3\n[milvus]")).unwrap_err();
    assert!(without.contains("bootstrap_servers") && without.contains("replication_factor"), "{without}");
    let own = parse(&GOOD.replace("[milvus]", "[regions.us.kafka]\nbootstrap_servers = \"us:9092\"\n[milvus]")).unwrap_err();
    assert!(own.contains("given twice"), "{own}");
    let reserved = parse(&GOOD.replace("[regions.eu]", "[regions.repair]")).unwrap_err();
    assert!(reserved.contains("stands for the repair topic"), "{reserved}");
}

//! When changes pass a place: the worker with one more type of node, or the least that a program on librdkafka must do to
//! have a change in hand.
//!
//! ```text
//! stopwatch worker CONFIG              its topology may have a [[processor]] of type "stopwatch", which passes everything on
//! stopwatch consumer SERVERS TOPIC     polls, from the topic's end on
//! ```
//!
//! `scripts/bench.sh` runs it for `latency` and `regions`. Once in a second it prints a line of JSON: of what has passed
//! meanwhile the stamp, whose counter `bench/paced.py` fills with microseconds, and the time, both in Unix microseconds.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures real time and prints")]

use driftless::app;
use driftless::base::error::Result;
use driftless::base::time::UnixMs;
use driftless::config::Config;
use driftless::merge::hlc::Hlc;
use driftless::ops::state_dir;
use driftless::processor::register_standard;
use driftless::topology::build::{NodeTypes, maker};
use driftless::topology::node::{Context, Message, Processor};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TOLD_EVERY: Duration = Duration::from_secs(1);
const POLL_MAX: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", config] => work(Path::new(config)),
        ["consumer", servers, topic] => consume(servers, topic),
        _ => panic!("usage: stopwatch worker CONFIG | stopwatch consumer SERVERS TOPIC"),
    }
}

/// What has passed one place since it was told last.
#[derive(Clone)]
struct Passed(Arc<Mutex<Vec<(i64, i64)>>>);

impl Passed {
    /// `place` is what its lines are called. It is told of until the process ends.
    fn at(place: &str) -> Self {
        let passed = Self(Arc::default());
        let (told, place) = (passed.clone(), place.to_owned());
        thread::spawn(move || {
            loop {
                thread::sleep(TOLD_EVERY);
                let since = std::mem::take(&mut *told.0.lock().expect("nobody panics with it"));
                if !since.is_empty() {
                    println!("{}", serde_json::json!({ "place": place, "passed": since }));
                }
            }
        });
        passed
    }

    fn note(&self, stamp: Hlc) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_micros() as i64;
        let stamped = stamp.wall().0 * 1000 + i64::from(stamp.counter());
        self.0.lock().expect("nobody panics with it").push((stamped, now));
    }
}

struct Stopwatch(Passed);

impl Processor for Stopwatch {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        self.0.note(message.change.version.hlc);
        context.forward(message);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    place: String,
}

fn work(config: &Path) {
    let mut types = NodeTypes::default();
    register_standard(&mut types);
    types.register("stopwatch", |options| {
        let passed = Passed::at(&options.read::<Options>()?.place);
        Ok(maker(move || Stopwatch(passed.clone())))
    });
    let config = Config::load(config).expect("a good configuration");
    state_dir::prepare(&config.state_dir).expect("a folder for its state");
    app::run_worker(config, &types).expect("it runs until it is ended");
}

fn consume(servers: &str, topic: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "stopwatch")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("Kafka answers");
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        assignment.add_partition_offset(topic, partition.id(), Offset::End).expect("a partition");
    }
    consumer.assign(&assignment).expect("an assignment");
    let passed = Passed::at(topic);
    loop {
        if let Some(message) = consumer.poll(POLL_MAX) {
            let message = message.expect("Kafka answers");
            passed.note(stamp(message.payload().expect("a change")));
        }
    }
}

/// The second field of a change in our own schema, after five bytes of framing and one that says what it does.
fn stamp(value: &[u8]) -> Hlc {
    let (mut zigzag, mut shift) = (0_u64, 0);
    for byte in &value[6..] {
        zigzag |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    let bits = zigzag >> 1;
    Hlc::new(UnixMs((bits >> 16) as i64), bits as u16)
}

//! Plays a case: its steps on a driver, and what was piped in under which name.

use crate::file::{Case, Change, Raw, Refuse, Step};
use bytes::Bytes;
use driftless::adapter::embedded::broker::Message;
use driftless::base::ids::{Region, TopicPartition, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::port::vector::StoreError;
use driftless::processor::register_standard;
use driftless::record::avro::{self, Fields, WireOp};
use driftless::record::change::MetaValue;
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::record::framing;
use driftless::region::topics::TopicNames;
use driftless::stream::settings::StreamSettings;
use driftless::testing::topology_driver::{InputChange, Leftovers, START, TopologyDriver};
use driftless::topology::build::NodeTypes;
use driftless::topology::spec::REPLICATE;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A record of the case, as it lies in the log.
#[derive(Clone)]
pub struct Piped {
    pub at: TopicPartition,
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub version: Option<Version>,
    /// What the row must be if this holds it.
    pub row: Option<Row>,
    /// A, which a mirror keeps.
    pub appended_at: UnixMs,
    /// Places of the same record, piped again.
    pub copies: Vec<i64>,
}

#[derive(Clone)]
pub struct Row {
    pub vector: Vec<f32>,
    pub metadata: Json,
}

pub struct Played {
    pub driver: TopologyDriver,
    pub piped: BTreeMap<String, Piped>,
}

pub fn whole(case: &Case) -> Played {
    play(case, |_| {})
}

/// With the first worker killed after so many steps.
pub fn with_crash(case: &Case, steps: u64, leftovers: Leftovers) -> Played {
    play(case, |driver| driver.crash_after(steps, leftovers))
}

fn play(case: &Case, prepare: impl FnOnce(&mut TopologyDriver)) -> Played {
    let mut types = NodeTypes::default();
    register_standard(&mut types);
    let driver = TopologyDriver::parse("replicate.toml", REPLICATE, &types, settings(&case.region, &case.peers))
        .expect("the built-in topology");
    let mut played = Played { driver, piped: BTreeMap::new() };
    prepare(&mut played.driver);
    let refused: Arc<Mutex<BTreeSet<i64>>> = Arc::default();
    refuse_rows(&played.driver, refused.clone());
    for step in &case.steps {
        match step {
            Step::Advance(step) => played.driver.advance_wall_clock(step.advance.duration()).expect("nothing here is fatal"),
            Step::Change(change) => pipe_change(&mut played, case, change),
            Step::Raw(raw) => pipe_raw(&mut played, case, raw),
            Step::Heartbeat(step) => {
                played.driver.pipe_change(InputChange::heartbeat(&step.heartbeat)).expect("a region of the case");
            }
            Step::Refuse(Refuse { refuse, accept }) => {
                let mut refused = refused.lock().expect("held for moments");
                refused.extend(refuse);
                refused.retain(|id| Some(id) != accept.as_ref());
            }
            Step::Again(step) => pipe_again(&mut played, &step.again),
            Step::Restart(step) => {
                assert!(step.restart, "leave the step out");
                played.driver.restart().expect("a stop that ends");
            }
        }
    }
    played
}

pub fn settings(region: &str, peers: &[String]) -> StreamSettings {
    let spec = |name: &str, id| CollectionSpec {
        name: name.to_owned(),
        id,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    };
    let collections = Collections::new(vec![spec("docs", IdKind::Int64), spec("people", IdKind::Uuid)]);
    let regions = std::iter::once(region).chain(peers.iter().map(String::as_str)).map(Region::new).collect();
    StreamSettings::new(Region::new(region), regions, TopicNames::new("app", 1), Arc::new(collections))
}

fn refuse_rows(driver: &TopologyDriver, refused: Arc<Mutex<BTreeSet<i64>>>) {
    let is_refused =
        move |id: &VectorId| matches!(id, VectorId::Int(id) if refused.lock().is_ok_and(|refused| refused.contains(id)));
    driver.database().check_writes_with(Some(Box::new(move |_, batch| match batch.ids.iter().any(&is_refused) {
        true => Err(StoreError::Refused("the proxy does not like it".to_owned())),
        false => Ok(()),
    })));
}

fn topic(case: &Case, from: Option<&String>) -> Arc<str> {
    let names = TopicNames::new("app", 1);
    match from.filter(|from| **from != case.region) {
        Some(peer) => names.mirror(&Region::new(peer), 0),
        None => names.local(0),
    }
}

fn pipe_change(played: &mut Played, case: &Case, change: &Change) {
    let (op, id) = match (&change.upsert, &change.delete) {
        (Some(id), None) => (WireOp::Upsert, id),
        (None, Some(id)) => (WireOp::Delete, id),
        _ => panic!("{}: either upsert or delete", change.name),
    };
    let from = change.from.as_ref().unwrap_or(&case.region);
    let origin = change.origin.as_ref().unwrap_or(from);
    let hlc = Hlc::new(UnixMs(START.0 + change.stamp.ms), change.counter);
    let metadata: Vec<(String, MetaValue)> =
        change.metadata.iter().map(|(key, value)| (key.clone(), meta_value(value))).collect();
    let body = avro::encode(&Fields {
        op,
        hlc,
        origin,
        sequence: change.sequence,
        collection: &change.collection,
        vector_id: id,
        vector: &change.vector,
        metadata: &metadata,
    });
    let key = change.key.as_ref().unwrap_or(id);
    let key = (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes()));
    let value = Some(framing::frame(1, &body).into());
    let version = Version { hlc, origin: Region::new(origin), sequence: change.sequence };
    let json = serde_json::to_value(&change.metadata).expect("scalars");
    let appended_at = change.appended.map_or_else(|| played.driver.now().wall, |span| UnixMs(START.0 + span.ms));
    let record = Piped {
        at: TopicPartition::new(topic(case, Some(from)), 0),
        offset: 0,
        key,
        value,
        version: Some(version),
        row: Some(Row { vector: change.vector.clone(), metadata: json }),
        appended_at,
        copies: Vec::new(),
    };
    pipe(played, &change.name, record);
}

/// `"null"` stands for a null, which TOML does not have.
fn meta_value(value: &toml::Value) -> MetaValue {
    match value {
        toml::Value::String(text) if text == "null" => MetaValue::Null,
        toml::Value::String(text) => MetaValue::Text(text.clone()),
        toml::Value::Integer(number) => MetaValue::Long(*number),
        toml::Value::Float(number) => MetaValue::Double(*number),
        toml::Value::Boolean(value) => MetaValue::Bool(*value),
        other => panic!("{other} is no scalar"),
    }
}

fn pipe_raw(played: &mut Played, case: &Case, raw: &Raw) {
    let digits: Vec<u8> = raw.raw.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    let bytes = if raw.hex { digits.chunks(2).map(byte).collect() } else { raw.raw.clone().into_bytes() };
    let key = raw.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let json = serde_json::from_slice::<Json>(&bytes).ok();
    let timestamp = json.as_ref().and_then(|json| json["timestamp"].as_i64());
    let origin = Region::new(raw.from.as_ref().unwrap_or(&case.region));
    let version = timestamp.map(|ms| Version { hlc: Hlc::at(UnixMs(ms)), origin, sequence: ContentHash::of(&bytes).0 });
    let record = Piped {
        at: TopicPartition::new(topic(case, raw.from.as_ref()), 0),
        offset: 0,
        key,
        value: (!raw.null).then(|| bytes.into()),
        version,
        row: json.map(json_row),
        appended_at: played.driver.now().wall,
        copies: Vec::new(),
    };
    pipe(played, &raw.name, record);
}

fn json_row(json: Json) -> Row {
    let floats = json["payload"].as_array().map(Vec::as_slice).unwrap_or_default();
    let vector = floats.iter().map(|float| float.as_f64().expect("a number") as f32).collect();
    Row { vector, metadata: json.get("metadata").cloned().unwrap_or_else(|| Json::Object(serde_json::Map::new())) }
}

fn pipe(played: &mut Played, name: &str, record: Piped) {
    let offset = append(played, &record);
    let before = played.piped.insert(name.to_owned(), Piped { offset, ..record });
    assert!(before.is_none(), "two records are called {name}");
}

fn pipe_again(played: &mut Played, name: &str) {
    let record = played.piped.get(name).unwrap_or_else(|| panic!("no record is called {name}")).clone();
    let offset = append(played, &record);
    played.piped.get_mut(name).expect("seen a moment ago").copies.push(offset);
}

fn append(played: &mut Played, record: &Piped) -> i64 {
    let Piped { at, key, value, appended_at, .. } = record.clone();
    let message = Message { key, value, timestamp: Some(appended_at), ..Message::default() };
    played.driver.pipe_message(&at.topic, message).expect("nothing here is fatal")
}

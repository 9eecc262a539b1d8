//! What the targets that read changes share: the collections, a writer's schemas, good bodies, and what a record
//! turned out to be, in a form that two readings can be compared by.

use crate::mutate::long;
use apache_avro::Schema;
use bytes::Bytes;
use driftless::base::ids::{Region, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::record::avro::{self, Fields, SCHEMA_TEXT, WireOp};
use driftless::record::change::{Body, Change, MetaValue, Op};
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::record::decode::{Decoded, decode, decode_body, decode_row};
use driftless::record::raw::RawRecord;
use driftless::record::reason::{Reason, Rejection};
use driftless::record::schema::{SchemaLookup, SchemaSource};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub const ORIGIN: &str = "us";
pub const APPENDED_AT: UnixMs = UnixMs(1_700_000_000_000);
/// Ids of the texts collection have at most so many bytes.
pub const TEXT_ID_MAX: usize = 24;

pub static COLLECTIONS: LazyLock<Collections> = LazyLock::new(|| {
    let kinds = [("texts", IdKind::Text { max_bytes: TEXT_ID_MAX }), ("numbers", IdKind::Int64), ("uuids", IdKind::Uuid)];
    let specs = kinds.map(|(name, id)| CollectionSpec {
        name: name.to_owned(),
        id,
        dimension: 3,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    });
    Collections::new(specs.into())
});

/// Ours, read by apache-avro as if it were another's.
pub static OURS: LazyLock<Schema> = LazyLock::new(|| Schema::parse_str(SCHEMA_TEXT).expect("the shipped schema is good"));

/// What a registry answers, whichever region and id it is asked for.
pub struct Registry(pub SchemaLookup);

impl SchemaSource for Registry {
    fn lookup(&mut self, _origin: &Region, _id: u32) -> SchemaLookup {
        self.0.clone()
    }
}

pub fn record(value: Bytes) -> RawRecord {
    let appended_at = APPENDED_AT;
    RawRecord { topic: Arc::from("t"), partition: 0, offset: 7, appended_at, key: None, value: Some(value), headers: Vec::new() }
}

/// What a reading made of a record. Floats are bits, since a NaN must equal itself here.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Refused(Reason),
    NeedsSchema,
    IgnoredHeartbeat,
    Heartbeat { hlc: u64, metadata: BTreeMap<String, String> },
    Change { op: Op, collection: u16, id: VectorId, hlc: u64, sequence: u64, body: WholeBody },
}

#[derive(Debug, PartialEq, Default)]
pub struct WholeBody {
    pub vector: Vec<u32>,
    /// Where a key is repeated, the last one holds.
    pub metadata: BTreeMap<String, String>,
}

impl From<Body> for WholeBody {
    fn from(body: Body) -> Self {
        Self { vector: body.vector.into_iter().map(f32::to_bits).collect(), metadata: metadata(body.metadata) }
    }
}

pub fn metadata(entries: Vec<(String, MetaValue)>) -> BTreeMap<String, String> {
    let text = |value| match value {
        MetaValue::Double(number) => format!("double {:016x}", number.to_bits()),
        other => format!("{other:?}"),
    };
    entries.into_iter().map(|(key, value)| (key, text(value))).collect()
}

/// A row as it would be written, or why it would not be.
pub type Row = Result<(Vec<u32>, Vec<u8>), Reason>;

/// What came of a record, its row if it is a change, and why it was refused, in words.
pub struct Reading {
    pub outcome: Outcome,
    pub row: Option<Row>,
    pub words: String,
}

impl From<Outcome> for Reading {
    fn from(outcome: Outcome) -> Self {
        Self { words: format!("{:?}", std::mem::discriminant(&outcome)), outcome, row: None }
    }
}

impl From<Rejection> for Reading {
    fn from(refused: Rejection) -> Self {
        Self { outcome: Outcome::Refused(refused.reason), row: None, words: refused.to_string() }
    }
}

/// The production way of a record, to its row.
pub fn read(record: RawRecord, schemas: &mut dyn SchemaSource) -> Reading {
    match decode(record, &Region::new(ORIGIN), &COLLECTIONS, schemas) {
        Decoded::NeedsSchema(_) => Outcome::NeedsSchema.into(),
        Decoded::IgnoredHeartbeat(..) => Outcome::IgnoredHeartbeat.into(),
        Decoded::Rejected(_, refused) => refused.into(),
        Decoded::Heartbeat(beat) => Outcome::Heartbeat { hlc: beat.hlc.0, metadata: metadata(beat.metadata) }.into(),
        Decoded::Change(change) => match decode_body(&change) {
            Ok(body) => {
                let row = row(&change);
                Reading { row: Some(row), ..whole(change, body).into() }
            }
            Err(refused) => {
                assert_eq!(row(&change), Err(refused.reason), "a body that can't be read has no row");
                refused.into()
            }
        },
    }
}

fn whole(change: Change, body: Body) -> Outcome {
    Outcome::Change {
        op: change.op,
        collection: change.key.collection.0,
        id: change.key.id,
        hlc: change.version.hlc.0,
        sequence: change.version.sequence,
        body: body.into(),
    }
}

fn row(change: &Change) -> Row {
    let (mut vector, mut metadata) = (vec![9.0; 9], b"left over".to_vec());
    decode_row(change, COLLECTIONS.get(change.key.collection), &mut vector, &mut metadata).map_err(|refused| refused.reason)?;
    Ok((vector.into_iter().map(f32::to_bits).collect(), metadata))
}

/// Mostly good: known names, our region, an id that fits, three dimensions.
pub fn good_body(rng: &mut SmallRng) -> Vec<u8> {
    let mostly = |rng: &mut SmallRng| rng.random_range(0..12) != 0;
    let op = [WireOp::Upsert, WireOp::Upsert, WireOp::Upsert, WireOp::Delete, WireOp::Heartbeat][rng.random_range(0..5)];
    let (collection, id) = good_key(rng);
    let dimension = if mostly(rng) { 3 } else { rng.random_range(0..9) };
    let vector: Vec<f32> =
        (0..dimension).map(|_| if mostly(rng) { rng.random() } else { f32::from_bits(rng.random()) }).collect();
    let metadata: Vec<(String, MetaValue)> = (0..rng.random_range(0..4)).map(|_| (meta_key(rng), meta_value(rng))).collect();
    let fields = Fields {
        op,
        hlc: Hlc(if mostly(rng) { (APPENDED_AT.0 as u64) << 16 | 5 } else { rng.random() }),
        origin: if mostly(rng) { ORIGIN } else { ["", "eu", "\u{e9}"][rng.random_range(0..3)] },
        sequence: rng.random(),
        collection: if mostly(rng) { collection } else { "others" },
        vector_id: &id,
        vector: if rng.random() { &vector } else { &[] },
        metadata: &metadata,
    };
    let mut body = avro::encode(&fields);
    if fields.vector.is_empty() && metadata.is_empty() {
        body.truncate(body.len() - 2);
        put_blocks(rng, &mut body, &vector);
    }
    body
}

pub fn good_key(rng: &mut SmallRng) -> (&'static str, String) {
    match rng.random_range(0..3) {
        0 => ("texts", (0..rng.random_range(1..8)).map(|_| char::from(rng.random_range(b' '..=b'~'))).collect()),
        1 => ("numbers", rng.random::<i64>().to_string()),
        _ => ("uuids", VectorId::Uuid(rng.random()).to_string()),
    }
}

fn meta_key(rng: &mut SmallRng) -> String {
    ["", "a", "b", "lang", "_own", "$meta", "id", "\u{e4}"][rng.random_range(0..8)].to_owned()
}

fn meta_value(rng: &mut SmallRng) -> MetaValue {
    match rng.random_range(0..5) {
        0 => MetaValue::Null,
        1 => MetaValue::Bool(rng.random()),
        2 => MetaValue::Long(rng.random()),
        3 => MetaValue::Double(if rng.random() { 0.5 } else { f64::from_bits(rng.random()) }),
        _ => MetaValue::Text("text\u{e9}"[..rng.random_range(0..5)].to_owned()),
    }
}

/// An array and a map in several blocks, with and without their sizes, as other writers make them.
fn put_blocks(rng: &mut SmallRng, body: &mut Vec<u8>, vector: &[f32]) {
    for block in vector.chunks(2) {
        let bytes: Vec<u8> = block.iter().flat_map(|float| float.to_le_bytes()).collect();
        put_block(rng, body, block.len(), &bytes);
    }
    body.push(0);
    put_block(rng, body, 1, &[&long(1)[..], b"k", &long(1), &[1]].concat());
    body.push(0);
}

fn put_block(rng: &mut SmallRng, body: &mut Vec<u8>, items: usize, bytes: &[u8]) {
    if rng.random() {
        body.extend(long(items as i64));
    } else {
        body.extend(long(-(items as i64)));
        body.extend(long(bytes.len() as i64));
    }
    body.extend_from_slice(bytes);
}

use super::*;
use crate::base::ids::{CollectionId, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::record::avro::{Fields, encode};
use crate::record::change::MetaValue;
use crate::record::collection::{IdKind, IndexKind, Metric};
use crate::record::framing::frame;
use std::sync::Arc;

const A: UnixMs = UnixMs(1_700_000_000_000);
const UUID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OURS: u32 = 1;
const NEWER: u32 = 2;
const NOT_A_CHANGE: u32 = 3;
const UNKNOWN: u32 = 4;
const PENDING: u32 = 5;

struct Registry {
    newer: Arc<WriterSchema>,
}

impl SchemaSource for Registry {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        assert_eq!(origin.as_str(), "us", "ids belong to the origin's registry");
        match id {
            OURS => SchemaLookup::Known(Arc::new(WriterSchema::Ours)),
            NEWER => SchemaLookup::Known(self.newer.clone()),
            NOT_A_CHANGE => SchemaLookup::Known(Arc::new(WriterSchema::Unusable("a string".to_owned()))),
            PENDING => SchemaLookup::Pending,
            _ => SchemaLookup::Unknown,
        }
    }
}

/// Ours with one field more, which holds an empty string.
fn newer() -> Registry {
    let mut schema: serde_json::Value = serde_json::from_str(avro::SCHEMA_TEXT).unwrap();
    let added = serde_json::json!({"name": "note", "type": "string", "default": ""});
    schema["fields"].as_array_mut().unwrap().push(added);
    Registry { newer: Arc::new(avro::writer_schema(&schema.to_string())) }
}

fn spec(name: &str, id: IdKind) -> CollectionSpec {
    CollectionSpec { name: name.to_owned(), id, dimension: 2, metric: Metric::L2, index: IndexKind::Auto, auto_create: false }
}

fn collections() -> Collections {
    Collections::new(vec![spec("docs", IdKind::Uuid), spec("items", IdKind::Int64), spec("texts", IdKind::Text { max_bytes: 4 })])
}

fn good() -> Fields<'static> {
    Fields {
        op: WireOp::Upsert,
        hlc: Hlc::new(A, 1),
        origin: "us",
        sequence: 5,
        collection: "docs",
        vector_id: UUID,
        vector: &[1.0, 2.0],
        metadata: &[],
    }
}

fn decode_value(value: Option<Vec<u8>>) -> Decoded {
    let record = RawRecord {
        topic: "vector-cdc".into(),
        partition: 0,
        offset: 0,
        appended_at: A,
        key: None,
        value: value.map(Bytes::from),
        headers: Vec::new(),
    };
    decode(record, &Region::new("us"), &collections(), &mut newer())
}

fn change_of(decoded: Decoded) -> Change {
    if let Decoded::Change(change) = decoded { change } else { panic!("{decoded:?}") }
}

fn reason_of(decoded: Decoded) -> Reason {
    if let Decoded::Rejected(_, rejection) = decoded { rejection.reason } else { panic!("{decoded:?}") }
}

fn row_of(change: &Change) -> Result<(Vec<f32>, String), Rejection> {
    let (mut vector, mut metadata) = (vec![9.0; 3], b"old".to_vec());
    decode_row(change, collections().get(change.key.collection), &mut vector, &mut metadata)?;
    Ok((vector, String::from_utf8(metadata).unwrap()))
}

/// The same change in both Avro encodings: what reads it must not matter.
fn both(body: &[u8]) -> [Change; 2] {
    let newer = [body, &[0]].concat();
    [decode_value(Some(frame(OURS, body))), decode_value(Some(frame(NEWER, &newer)))].map(change_of)
}

fn meta(entries: &[(&str, MetaValue)]) -> Vec<(String, MetaValue)> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

#[test]
fn a_good_change_is_read_alike_in_every_encoding() {
    let metadata = meta(&[("b", MetaValue::Double(1.0)), ("a", MetaValue::Long(1)), ("n", MetaValue::Null)]);
    let body = encode(&Fields { metadata: &metadata, ..good() });
    for change in both(&body) {
        assert_eq!(change.key, RowKey { collection: CollectionId(0), id: VectorId::Uuid(0x6ba7b8109dad11d180b400c04fd430c8) });
        assert_eq!(change.version, Version { hlc: Hlc::new(A, 1), origin: Region::new("us"), sequence: 5 });
        assert_eq!(row_of(&change).unwrap(), (vec![1.0, 2.0], r#"{"a":1,"b":1.0}"#.to_owned()));
        assert_eq!(decode_body(&change).unwrap().vector, [1.0, 2.0]);
    }
    let ours = change_of(decode_value(Some(frame(OURS, &body))));
    assert_eq!(ours.content_hash(), ContentHash::of(&body), "the framing is not part of the content");

    let json = format!(
        r#"{{"type":"upsert","collection":"items","vector_id":-7,"payload":[1,2],"timestamp":{},"metadata":{{"b":1.0,"a":1,"n":null}}}}"#,
        A.0
    );
    let change = change_of(decode_value(Some(json.clone().into_bytes())));
    assert_eq!(change.key, RowKey { collection: CollectionId(1), id: VectorId::Int(-7) });
    let hash = ContentHash::of(json.as_bytes());
    assert_eq!(change.version, Version { hlc: Hlc::at(A), origin: Region::new("us"), sequence: hash.0 });
    assert_eq!(change.content_hash(), hash);
    assert_eq!(row_of(&change).unwrap(), (vec![1.0, 2.0], r#"{"a":1,"b":1.0}"#.to_owned()));
}

#[test]
fn size_is_judged_first_whatever_else_is_wrong() {
    let large = |first: u8| decode_value(Some([vec![first], vec![b' '; size::RECORD_BYTES_MAX]].concat()));
    for first in [b'{', 0, 1] {
        assert_eq!(reason_of(large(first)), Reason::TooLarge);
    }
    assert_eq!(reason_of(decode_value(Some(vec![1; size::RECORD_BYTES_MAX]))), Reason::Malformed);
}

#[test]
fn what_is_not_a_change_is_refused_with_its_reason() {
    let body = encode(&good());
    assert_eq!(reason_of(decode_value(None)), Reason::NullValue);
    assert_eq!(reason_of(decode_value(Some(Vec::new()))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(b"\x01abcd".to_vec()))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(b"{".to_vec()))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(frame(OURS, &body[..9])))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(frame(NEWER, &body)))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(frame(NOT_A_CHANGE, &body)))), Reason::Malformed);
    assert_eq!(reason_of(decode_value(Some(frame(UNKNOWN, &body)))), Reason::UnknownSchema);
    assert!(matches!(decode_value(Some(frame(PENDING, &body))), Decoded::NeedsSchema(_)));
}

/// Collection, then id, then origin: the first fault found names the reason.
#[test]
fn the_header_is_judged_in_the_order_of_the_contract() {
    let cases = [
        (Fields { collection: "nope", vector_id: "", origin: "eu", ..good() }, Reason::UnknownCollection),
        (Fields { collection: "", ..good() }, Reason::UnknownCollection),
        (Fields { vector_id: "", origin: "eu", ..good() }, Reason::BadId),
        (Fields { collection: "items", vector_id: "007", ..good() }, Reason::BadId),
        (Fields { collection: "texts", vector_id: "ééa", ..good() }, Reason::BadId),
        (Fields { origin: "eu", ..good() }, Reason::ForeignOrigin),
        (Fields { origin: "", ..good() }, Reason::ForeignOrigin),
    ];
    for (fields, reason) in cases {
        assert_eq!(reason_of(decode_value(Some(frame(OURS, &encode(&fields))))), reason, "{fields:?}");
        let newer = [encode(&fields).as_slice(), &[0]].concat();
        assert_eq!(reason_of(decode_value(Some(frame(NEWER, &newer)))), reason, "{fields:?}");
    }
}

#[test]
fn a_body_is_judged_for_winners_only_and_in_order() {
    let inf = meta(&[("x", MetaValue::Double(f64::INFINITY)), ("_x", MetaValue::Null)]);
    let reserved = |key: &str| meta(&[(key, MetaValue::Bool(true))]);
    let large = meta(&[("k", MetaValue::Text("x".repeat(32 * 1024)))]);
    let both_bad = meta(&[("_x", MetaValue::Text("x".repeat(32 * 1024)))]);
    let cases = [
        (&[f32::NAN][..], inf.clone(), Reason::BadDimension),
        (&[], Vec::new(), Reason::BadDimension),
        (&[1.0, f32::NAN], reserved("id"), Reason::NotFinite),
        (&[f32::NEG_INFINITY, 1.0], Vec::new(), Reason::NotFinite),
        (&[1.0, 2.0], inf, Reason::NotFinite),
        (&[1.0, 2.0], reserved(""), Reason::ReservedKey),
        (&[1.0, 2.0], reserved("$meta"), Reason::ReservedKey),
        (&[1.0, 2.0], reserved("_hlc"), Reason::ReservedKey),
        (&[1.0, 2.0], reserved("vector"), Reason::ReservedKey),
        (&[1.0, 2.0], both_bad, Reason::ReservedKey),
        (&[1.0, 2.0], large, Reason::MetadataTooLarge),
    ];
    for (vector, metadata, reason) in cases {
        for change in both(&encode(&Fields { vector, metadata: &metadata, ..good() })) {
            assert_eq!(row_of(&change).unwrap_err().reason, reason, "{vector:?}");
        }
    }
    // Cut short behind the header: good enough to lose by, malformed once it would win.
    let body = encode(&Fields { metadata: &reserved("id"), ..good() });
    for cut in [1, 2, 8] {
        let change = change_of(decode_value(Some(frame(OURS, &body[..body.len() - cut]))));
        assert_eq!(row_of(&change).unwrap_err().reason, Reason::Malformed);
    }
}

#[test]
fn metadata_of_exactly_the_limit_is_taken() {
    let text = "x".repeat(32 * 1024 - r#"{"k":""}"#.len());
    let fits = meta(&[("k", MetaValue::Text(text.clone()))]);
    let over = meta(&[("k", MetaValue::Text(text + "x"))]);
    let row = |metadata: &[(String, MetaValue)]| row_of(&both(&encode(&Fields { metadata, ..good() }))[0]);
    assert_eq!(row(&fits).unwrap().1.len(), 32 * 1024);
    assert_eq!(row(&over).unwrap_err().reason, Reason::MetadataTooLarge);
}

/// Nulls go, the last of equal keys holds (a null too), doubles stay doubles and read back bit for bit.
#[test]
fn metadata_becomes_one_json_object() {
    let metadata = meta(&[
        ("z", MetaValue::Double(-0.0)),
        ("a", MetaValue::Long(1)),
        ("a", MetaValue::Text("\"é\n".to_owned())),
        ("gone", MetaValue::Long(1)),
        ("gone", MetaValue::Null),
        ("d", MetaValue::Double(0.1 + 0.2)),
        ("e", MetaValue::Double(1e300)),
        ("l", MetaValue::Long(i64::MIN)),
    ]);
    for change in both(&encode(&Fields { metadata: &metadata, ..good() })) {
        let expected = r#"{"a":"\"é\n","d":0.30000000000000004,"e":1e+300,"l":-9223372036854775808,"z":-0.0}"#;
        assert_eq!(row_of(&change).unwrap().1, expected);
    }
}

#[test]
fn a_delete_deletes_whatever_it_carries() {
    let metadata = meta(&[("_x", MetaValue::Double(f64::NAN))]);
    let body = encode(&Fields { op: WireOp::Delete, vector: &[f32::NAN], metadata: &metadata, ..good() });
    for change in both(&body) {
        assert_eq!(change.op, Op::Delete);
        assert_eq!(row_of(&change).unwrap(), (Vec::new(), String::new()));
    }
    let cut = change_of(decode_value(Some(frame(OURS, &body[..body.len() - 1]))));
    assert_eq!(row_of(&cut).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn a_heartbeat_is_no_change_and_a_foreign_one_is_ignored() {
    let metadata = meta(&[("previous", MetaValue::Long(3))]);
    let heartbeat = Fields { op: WireOp::Heartbeat, collection: "", vector_id: "", vector: &[], metadata: &metadata, ..good() };
    let body = encode(&heartbeat);
    let newer = [body.as_slice(), &[0]].concat();
    for value in [frame(OURS, &body), frame(NEWER, &newer)] {
        let Decoded::Heartbeat(read) = decode_value(Some(value)) else { panic!("not a heartbeat") };
        assert_eq!((read.hlc, read.origin.as_str(), read.metadata), (Hlc::new(A, 1), "us", metadata.clone()));
    }
    let foreign = encode(&Fields { origin: "eu", ..heartbeat });
    assert!(matches!(decode_value(Some(frame(OURS, &foreign))), Decoded::IgnoredHeartbeat(..)));
    assert_eq!(reason_of(decode_value(Some(frame(OURS, &body[..body.len() - 1])))), Reason::Malformed);
}

/// `cargo test --release -- --ignored --nocapture reading_times`
#[test]
#[ignore = "a measurement"]
fn reading_times() {
    let vector: Vec<f32> = (0..768).map(|index| index as f32 * 0.37).collect();
    let metadata = meta(&[("lang", MetaValue::Text("en".to_owned())), ("year", MetaValue::Long(1999))]);
    let body = encode(&Fields { vector: &vector, metadata: &metadata, ..good() });
    // The best of many short runs: what the code costs, not what else the machine does.
    let time = |what: &str, mut work: Box<dyn FnMut()>| {
        let run = |work: &mut dyn FnMut()| {
            let start = std::time::Instant::now();
            (0..10_000).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / 10_000.0
        };
        let best = (0..100).map(|_| run(&mut work)).fold(f64::INFINITY, f64::min);
        println!("{what}: {best:.1} ns");
    };
    let content = body.clone();
    time("header alone", Box::new(move || drop(std::hint::black_box(avro::read_header(std::hint::black_box(&content))))));
    let Decoded::Change(change) = decode_value(Some(frame(OURS, &body))) else { panic!() };
    let (record, collections, region, mut schemas) = (change.record.clone(), collections(), Region::new("us"), Fixed::default());
    let copied = record.clone();
    time("record clone", Box::new(move || drop(std::hint::black_box(copied.clone()))));
    time("record clone and decode", Box::new(move || drop(decode(record.clone(), &region, &collections, &mut schemas))));
    let (mut vector, mut json, mut spec) = (Vec::new(), Vec::new(), spec("docs", IdKind::Uuid));
    spec.dimension = 768;
    time("row of 768", Box::new(move || decode_row(&change, &spec, &mut vector, &mut json).unwrap()));
}

struct Fixed(Arc<WriterSchema>);

impl Default for Fixed {
    fn default() -> Self {
        Self(Arc::new(WriterSchema::Ours))
    }
}

impl SchemaSource for Fixed {
    fn lookup(&mut self, _: &Region, _: u32) -> SchemaLookup {
        SchemaLookup::Known(self.0.clone())
    }
}

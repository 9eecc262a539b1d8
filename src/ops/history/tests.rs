use super::*;
use crate::merge::hlc::Hlc;
use crate::ops::scan::memory::MemoryReader;
use crate::ops::work::tests::Ticking;
use crate::record::avro::{self, Fields, WireOp};
use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};
use crate::record::framing::frame;
use crate::record::schema::{SchemaLookup, WriterSchema};
use bytes::Bytes;
use std::sync::atomic::AtomicBool;

struct Ours;

impl SchemaSource for Ours {
    fn lookup(&mut self, _origin: &Region, _id: u32) -> SchemaLookup {
        SchemaLookup::Known(Arc::new(WriterSchema::Ours))
    }
}

fn setting() -> Setting {
    let spec = CollectionSpec {
        name: "docs".to_owned(),
        id: IdKind::Int64,
        dimension: 1,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    };
    Setting {
        region: Region::new("eu"),
        peers: vec![Region::new("us")],
        names: TopicNames::new("app", 1),
        partitions: 1,
        collections: Arc::new(Collections::new(vec![spec])),
        max_lateness_ms: 3_600_000,
    }
}

fn record(offset: i64, key: &str, value: Option<Vec<u8>>, headers: Vec<(&str, &str)>) -> RawRecord {
    RawRecord {
        topic: "log".into(),
        partition: 0,
        offset,
        appended_at: UnixMs(1_000),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(Bytes::from),
        headers: headers.iter().map(|(name, text)| (Arc::from(*name), Some(Bytes::copy_from_slice(text.as_bytes())))).collect(),
    }
}

fn avro_value(origin: &str) -> Vec<u8> {
    let body = avro::encode(&Fields {
        op: WireOp::Upsert,
        hlc: Hlc::at(UnixMs(1_000)),
        origin,
        sequence: 1,
        collection: "docs",
        vector_id: "7",
        vector: &[1.0],
        metadata: &[],
    });
    frame(1, &body)
}

#[test]
fn a_winners_origin_is_its_headers_or_else_its_own_contents() {
    let json = br#"{"type":"upsert","collection":"docs","vector_id":7,"payload":[1.0],"timestamp":1000}"#.to_vec();
    let origin = |value: Vec<u8>, headers: Vec<(&str, &str)>| {
        let said = winner(&setting(), &mut Ours, record(0, "docs\x007", Some(value), headers)).unwrap();
        said.map(|said| said.version.origin.to_string())
    };
    let header = |region| vec![(headers::ORIGIN, region), (headers::APPENDED_AT, "1000")];
    assert_eq!(origin(json, header("us")), Some("us".to_owned()));
    assert_eq!(origin(avro_value("us"), header("us")), Some("us".to_owned()));
    assert_eq!(origin(avro_value("us"), vec![]), Some("us".to_owned()));
    assert_eq!(origin(avro_value("ap"), vec![]), None);
}

#[test]
fn a_null_says_what_it_forgets() {
    let null = record(0, "docs\x007", None, vec![(FORGOTTEN_HEADER, "9/2/us")]);
    let said = winner(&setting(), &mut Ours, null).unwrap().unwrap();
    assert_eq!((said.version.hlc, said.is_delete()), (Hlc(9), true));
}

/// f58 rests on it: what was planned by its offset is fetched, or its absence told.
#[test]
fn f58_fetching_gives_the_wanted_records_and_fails_where_one_is_gone() {
    let records = [0, 1, 3, 4].map(|offset| record(offset, "k", None, vec![]));
    let mut reader = MemoryReader { records: records.to_vec(), partitions: 1, opened: None };
    let (setting, clock, interrupted) = (setting(), Ticking::default(), AtomicBool::new(false));
    let (mut tell, mut pause) = (|_| {}, |_| {});
    let mut work = Work::new(&clock, &interrupted, &mut tell, &mut pause);
    let mut history = History { setting: &setting, reader: &mut reader, schemas: &mut Ours };
    let mut fetch = |offsets: &[i64]| {
        let mut found = Vec::new();
        let partition = TopicPartition::new("log", 0);
        let outcome = history.fetch(&partition, offsets, &mut work, &mut |_, _, record| {
            found.push(record.offset);
            Ok(())
        });
        outcome.map(|()| found)
    };
    assert_eq!(fetch(&[1, 4]), Ok(vec![1, 4]));
    assert_eq!(fetch(&[0, 1, 3]), Ok(vec![0, 1, 3]));
    let error = fetch(&[1, 2, 3]).unwrap_err().to_string();
    assert!(error.contains("no longer holds offset 2"), "{error}");
}

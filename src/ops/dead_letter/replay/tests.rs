use super::*;
use crate::merge::hlc::Hlc;
use crate::ops::dead_letter::{Filter, list};
use crate::ops::scan::memory::MemoryReader;
use crate::port::admin::RegisteredSchema;
use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};
use crate::record::reason::Reason;

const NOW: UnixMs = UnixMs(1_000_000_000_000);
const HOUR_MS: i64 = 3_600_000;

struct Registry;

impl RegistryAdmin for Registry {
    fn latest(&mut self, _subject: &str) -> Result<Option<RegisteredSchema>> {
        Ok(None)
    }

    fn by_id(&mut self, id: u32) -> Result<Option<String>> {
        match id {
            1 => Ok(Some(avro::SCHEMA_TEXT.to_owned())),
            2 => Ok(None),
            _ => Err(Error::retry("registry http://r: no answer")),
        }
    }

    fn register(&mut self, _subject: &str, _schema: &str) -> Result<u32> {
        Ok(1)
    }
}

fn collections() -> Collections {
    Collections::new(vec![CollectionSpec {
        name: "docs".to_owned(),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    }])
}

fn value(schema_id: u32, stamped_ms: i64, vector: &[f32]) -> Vec<u8> {
    let fields = Fields {
        op: WireOp::Upsert,
        hlc: Hlc::at(UnixMs(stamped_ms)),
        origin: "us",
        sequence: 5,
        collection: "docs",
        vector_id: "42",
        vector,
        metadata: &[],
    };
    frame(schema_id, &avro::encode(&fields))
}

fn letter(topic: &str, value: Vec<u8>) -> RawRecord {
    let header = |name: &str, text: &str| (Arc::from(name), Some(Bytes::copy_from_slice(text.as_bytes())));
    RawRecord {
        topic: "app-dead-letter".into(),
        partition: 0,
        offset: 0,
        appended_at: NOW,
        key: None,
        value: Some(value.into()),
        headers: vec![
            header("trace", "t1"),
            header(headers::REASON, "late"),
            header(headers::TOPIC, topic),
            header(headers::PARTITION, "3"),
            header(headers::OFFSET, "17"),
            header(headers::APPENDED_AT, "999999999999"),
        ],
    }
}

fn decide(record: RawRecord, restamp: bool) -> Result<Decision> {
    let (names, collections, peers) = (TopicNames::new("app", 1), collections(), [Region::new("eu")]);
    let mut registry = Registry;
    let mut replay = Replay {
        region: Region::new("us"),
        peers: &peers,
        names: &names,
        partitions: 4,
        collections: &collections,
        max_lateness_ms: HOUR_MS,
        restamp,
        now: NOW,
        clock: HlcClock::default(),
        writer: 9,
        schema_id: 1,
        schemas: RegistrySchemas::new(&mut registry),
        issued: 0,
    };
    replay.decide(&DeadLetter::read(record).expect("it has the headers of a dead letter"))
}

#[test]
fn what_was_too_large_to_be_kept_can_only_be_written_again() {
    let mut record = letter("vector-cdc", Vec::new());
    record.value = None;
    record.headers[1].1 = Some(Bytes::from_static(b"too-large"));
    record.headers.push((Arc::from(headers::DETAIL), Some(Bytes::from_static(b"it is at vector-cdc[3] offset 17"))));
    let Ok(Decision::StillRefused(why)) = decide(record, true) else { panic!("refused") };
    assert!(why.contains("offset 17") && why.contains("smaller"), "{why}");
}

#[test]
fn what_is_still_admissible_goes_back_unchanged_under_its_own_key() {
    let bytes = value(1, NOW.0 - HOUR_MS, &[1.0, 2.0]);
    let Ok(Decision::AsItIs(Offer { append, .. })) = decide(letter("vector-cdc", bytes.clone()), false) else {
        panic!("as it is")
    };
    assert_eq!(append.value.as_deref(), Some(bytes.as_slice()));
    assert_eq!(append.key.as_deref(), Some(b"42".as_slice()));
    assert_eq!(append.to, TopicPartition::new("vector-cdc", partition_for_key(b"42", 4)));
    assert_eq!(append.headers.len(), 1, "only the record's own: {:?}", append.headers);
}

#[test]
fn what_is_too_late_needs_a_new_stamp_and_keeps_its_content() {
    let late = value(1, NOW.0 - HOUR_MS - 1, &[1.0, 2.0]);
    let Ok(Decision::NeedsNewStamp(why)) = decide(letter("vector-cdc", late.clone()), false) else { panic!("too late") };
    assert!(why.contains("1h behind now"), "{why}");
    let Ok(Decision::Restamped(Offer { append, .. })) = decide(letter("vector-cdc", late), true) else { panic!("restamped") };
    let record = RawRecord { value: append.value, ..letter("vector-cdc", Vec::new()) };
    let Ok(Decision::AsItIs(_)) = decide(record.clone(), false) else { panic!("admissible now") };
    let mut registry = Registry;
    let decoded = decode::decode(record, &Region::new("us"), &collections(), &mut RegistrySchemas::new(&mut registry));
    let Decoded::Change(change) = decoded else { panic!("a change") };
    assert_eq!((change.version.hlc, change.version.sequence), (Hlc::at(NOW), 9 << 48 | 1));
    assert_eq!(decode::decode_body(&change).unwrap().vector, [1.0, 2.0]);
}

#[test]
fn what_would_fail_again_or_belongs_elsewhere_is_left_alone() {
    let good = value(1, NOW.0, &[1.0, 2.0]);
    assert!(
        matches!(decide(letter("eu.vector-cdc", good.clone()), false), Ok(Decision::ElsewhereOnly(region)) if region.as_str() == "eu")
    );
    assert!(matches!(decide(letter("other", good), false), Ok(Decision::StillRefused(_))));
    for (bytes, why) in [
        (value(1, NOW.0, &[1.0]), "bad-dimension"),
        (value(2, NOW.0, &[1.0, 2.0]), "unknown-schema"),
        (b"rubbish".to_vec(), "malformed"),
    ] {
        let Ok(Decision::StillRefused(told)) = decide(letter("vector-cdc", bytes), true) else { panic!("{why}") };
        assert!(told.starts_with(why), "{told}");
    }
    let unreached = decide(letter("vector-cdc", value(3, NOW.0, &[1.0, 2.0])), false).unwrap_err();
    assert!(unreached.to_string().contains("no answer"));
}

#[test]
fn the_list_takes_the_newest_that_the_filter_wants() {
    let mut records = Vec::new();
    for offset in 0..10 {
        let mut record = letter("vector-cdc", vec![0]);
        (record.offset, record.appended_at) = (offset, UnixMs(offset));
        if offset % 2 == 0 {
            record.headers[1].1 = Some(Bytes::from_static(b"bad-id"));
        }
        records.push(record);
    }
    records[9].headers.truncate(1);
    let mut reader = MemoryReader { records, partitions: 1, ..MemoryReader::default() };
    let filter = Filter { reasons: vec![Reason::Late], limit: 2, ..Filter::default() };
    let offsets: Vec<i64> =
        list(&mut reader, "app-dead-letter", &filter).unwrap().iter().map(|letter| letter.record.offset).collect();
    assert_eq!(offsets, [5, 7]);
    assert!(list(&mut reader, "missing", &filter).unwrap_err().to_string().contains("topics create"));
}

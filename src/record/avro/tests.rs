use super::*;
use crate::merge::hlc::Hlc;
use crate::record::change::{Body, MetaValue};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

const UUID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

fn change() -> Fields<'static> {
    Fields {
        op: WireOp::Upsert,
        hlc: Hlc::new(crate::base::time::UnixMs(1_700_000_000_123), 9),
        origin: "us",
        sequence: u64::MAX,
        collection: "docs",
        vector_id: UUID,
        vector: &[1.5, -0.0, f32::MIN_POSITIVE],
        metadata: &[],
    }
}

/// All that a value says, however it was read. Floats as bits, since NaN must compare equal to itself here.
#[derive(Debug, PartialEq)]
struct Whole {
    op: WireOp,
    hlc: u64,
    origin: String,
    sequence: u64,
    collection: String,
    vector_id: String,
    vector: Vec<u32>,
    metadata: Vec<(String, String)>,
}

impl Whole {
    fn new(header: Header<'_>, body: Body) -> Self {
        let mut metadata: Vec<(String, String)> = Vec::new();
        for (key, value) in body.metadata {
            // A repeated key: the last one holds.
            metadata.retain(|(held, _)| *held != key);
            let text = match value {
                MetaValue::Double(number) => format!("double {:016x}", number.to_bits()),
                other => format!("{other:?}"),
            };
            metadata.push((key, text));
        }
        metadata.sort();
        Self {
            op: header.op,
            hlc: header.hlc.0,
            origin: header.origin.to_owned(),
            sequence: header.sequence,
            collection: header.collection.to_owned(),
            vector_id: header.vector_id.to_owned(),
            vector: body.vector.into_iter().map(f32::to_bits).collect(),
            metadata,
        }
    }
}

/// Our own schema, as if it were another's.
fn ours() -> OtherSchema {
    OtherSchema::new(OURS.clone()).unwrap()
}

fn by_hand(content: &[u8]) -> Result<Whole, AvroError> {
    let (header, vector_at) = read_header(content)?;
    let body = read_body(content, vector_at)?;
    Ok(Whole::new(header, body))
}

fn by_resolution(writer: &OtherSchema, content: &[u8]) -> Result<Whole, AvroError> {
    let mut resolved = resolve(writer, content)?;
    let body = std::mem::take(&mut resolved.body);
    Ok(Whole::new(resolved.header(), body))
}

fn meta_value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        Just(MetaValue::Null),
        any::<bool>().prop_map(MetaValue::Bool),
        any::<i64>().prop_map(MetaValue::Long),
        any::<u64>().prop_map(|bits| MetaValue::Double(f64::from_bits(bits))),
        "\\PC{0,12}".prop_map(MetaValue::Text),
    ]
}

prop_compose! {
    fn encoded()(
        op in prop_oneof![Just(WireOp::Upsert), Just(WireOp::Delete), Just(WireOp::Heartbeat)],
        hlc in any::<u64>(),
        origin in "[a-z]{0,3}",
        sequence in any::<u64>(),
        collection in "\\PC{0,9}",
        vector_id in "\\PC{0,36}",
        vector in proptest::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..70),
        metadata in proptest::collection::vec(("[ab]{0,2}", meta_value()), 0..6),
    ) -> Vec<u8> {
        let hlc = Hlc(hlc);
        encode(&Fields {
            op, hlc, origin: &origin, sequence, collection: &collection, vector_id: &vector_id, vector: &vector, metadata: &metadata,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reading_by_hand_agrees_with_apache_avro(content in encoded()) {
        let read = by_hand(&content);
        prop_assert!(read.is_ok());
        prop_assert_eq!(read, by_resolution(&ours(), &content));
    }

    /// Both refuse the same bytes: which of the two reads a record must not decide its verdict.
    #[test]
    fn on_damaged_bytes_too(
        content in encoded(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        tail in proptest::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut content = content;
        for (place, byte) in damage {
            let place = place.index(content.len());
            content[place] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        content.extend(tail);
        match (by_hand(&content), by_resolution(&ours(), &content)) {
            (Ok(hand), Ok(resolved)) => prop_assert_eq!(hand, resolved),
            (hand, resolved) => prop_assert!(hand.is_err() && resolved.is_err(), "{:?} / {:?}", hand, resolved),
        }
    }
}

#[test]
fn every_cut_and_every_byte_left_over_is_refused() {
    let metadata = [("a".to_owned(), MetaValue::Text("b".to_owned())), ("c".to_owned(), MetaValue::Double(0.5))];
    let content = encode(&Fields { metadata: &metadata, ..change() });
    assert!(by_hand(&content).is_ok());
    for length in 0..content.len() {
        assert!(matches!(by_hand(&content[..length]), Err(AvroError::Truncated(_))), "{length}");
        assert!(by_resolution(&ours(), &content[..length]).is_err(), "{length}");
    }
    let longer = [content.as_slice(), &[0]].concat();
    assert_eq!(by_hand(&longer), Err(AvroError::LeftOver(1)));
    assert_eq!(by_resolution(&ours(), &longer), Err(AvroError::LeftOver(1)));
}

/// Arrays in several blocks, with negative counts (which a byte size follows), as other writers make them.
#[test]
fn blocks_of_both_signs_are_read() {
    let mut content = encode(&Fields { vector: &[], ..change() });
    content.truncate(content.len() - 2);
    wire::put_long(&mut content, 1);
    content.extend(1f32.to_le_bytes());
    wire::put_long(&mut content, -2);
    wire::put_long(&mut content, 8);
    content.extend(2f32.to_le_bytes());
    content.extend(3f32.to_le_bytes());
    wire::put_long(&mut content, 0);
    wire::put_long(&mut content, -1);
    wire::put_long(&mut content, 4);
    wire::put_text(&mut content, "k");
    wire::put_long(&mut content, 1);
    content.push(1);
    wire::put_long(&mut content, 0);
    let whole = by_hand(&content).unwrap();
    assert_eq!(whole.vector, [1f32, 2.0, 3.0].map(f32::to_bits));
    assert_eq!(whole.metadata, [("k".to_owned(), "Bool(true)".to_owned())]);
    assert_eq!(Ok(whole), by_resolution(&ours(), &content));
}

#[test]
fn a_count_of_items_that_are_not_there_allocates_nothing() {
    let header = {
        let mut content = encode(&Fields { vector: &[], ..change() });
        content.truncate(content.len() - 2);
        content
    };
    for count in [i64::MAX, i64::MAX / 4, 1 << 40, i64::MIN, i64::MIN + 1] {
        let mut content = header.clone();
        wire::put_long(&mut content, count);
        wire::put_long(&mut content, 1);
        let mut vector = Vec::new();
        assert!(read_row(&content, header.len(), &mut vector, &mut Default::default()).is_err());
        assert_eq!(vector.capacity(), 0, "{count}");
    }
}

#[test]
fn docs_defaults_and_logical_types_do_not_make_another_schema() {
    let same = SCHEMA_TEXT
        .replace(r#""type": "long","#, r#""type": {"type": "long", "logicalType": "timestamp-micros"},"#)
        .replace(r#""default": [],"#, "");
    assert_ne!(same, SCHEMA_TEXT);
    assert!(matches!(writer_schema(SCHEMA_TEXT), WriterSchema::Ours));
    assert!(matches!(writer_schema(&same), WriterSchema::Ours));
}

#[test]
fn what_cannot_be_a_change_is_unusable() {
    let other_name = SCHEMA_TEXT.replace("VectorChange", "Other");
    let no_sequence = SCHEMA_TEXT.replace(r#""name": "sequence""#, r#""name": "sequenz""#);
    let doubles = SCHEMA_TEXT.replace(r#""items": "float""#, r#""items": "double""#);
    // A list as deep as the producer likes, read by recursion.
    let recursive = edited(|fields| {
        let node = serde_json::json!({"name": "Node", "type": "record", "fields": [{"name": "next", "type": ["null", "Node"]}]});
        fields.push(serde_json::json!({"name": "list", "type": ["null", node], "default": null}));
    });
    for text in ["{", "\"string\"", &other_name, &no_sequence, &doubles, &recursive] {
        let WriterSchema::Unusable(why) = writer_schema(text) else { panic!("usable: {text}") };
        assert!(why.contains("writer schema"), "{why}");
    }
}

/// Writes `fields` by apache-avro with `schema`, an edited form of ours, and reads it through resolution.
fn through(schema: &str, fields: Vec<(&str, Value)>) -> Result<Whole, AvroError> {
    let WriterSchema::Resolvable(writer) = writer_schema(schema) else { panic!("{:?}", writer_schema(schema)) };
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let content =
        GenericDatumWriter::builder(writer.schema()).build().unwrap().write_value_to_vec(Value::Record(fields)).unwrap();
    for length in 0..content.len() {
        assert!(by_resolution(&writer, &content[..length]).is_err(), "cut at {length} of {}", content.len());
    }
    by_resolution(&writer, &content)
}

fn plain_fields() -> Vec<(&'static str, Value)> {
    vec![
        ("op", Value::Enum(0, "UPSERT".to_owned())),
        ("timestamp", Value::Long(7)),
        ("origin", Value::String("us".to_owned())),
        ("sequence", Value::Long(-1)),
        ("collection", Value::String("docs".to_owned())),
        ("vector_id", Value::String(UUID.to_owned())),
        ("vector", Value::Array(vec![Value::Float(0.5)])),
        ("metadata", Value::Map([("k".to_owned(), Value::Union(2, Box::new(Value::Long(3))))].into())),
    ]
}

fn plain() -> Whole {
    Whole {
        op: WireOp::Upsert,
        hlc: 7,
        origin: "us".to_owned(),
        sequence: u64::MAX,
        collection: "docs".to_owned(),
        vector_id: UUID.to_owned(),
        vector: vec![0.5f32.to_bits()],
        metadata: vec![("k".to_owned(), "Long(3)".to_owned())],
    }
}

fn edited(edit: impl FnOnce(&mut Vec<Json>)) -> String {
    let mut schema: Json = serde_json::from_str(SCHEMA_TEXT).unwrap();
    edit(schema["fields"].as_array_mut().unwrap());
    schema.to_string()
}

#[test]
fn a_newer_writers_added_field_is_passed_over() {
    for (added, value) in [
        (
            r#"{"name": "note", "type": ["null", "string"], "default": null}"#,
            Value::Union(1, Box::new(Value::String("x".into()))),
        ),
        (r#"{"name": "note", "type": ["null", "string"], "default": null}"#, Value::Union(0, Box::new(Value::Null))),
        (r#"{"name": "note", "type": "string", "default": "none"}"#, Value::String("x".into())),
        (r#"{"name": "note", "type": "boolean", "default": false}"#, Value::Boolean(true)),
    ] {
        let schema = edited(|fields| fields.push(serde_json::from_str(added).unwrap()));
        let mut fields = plain_fields();
        fields.push(("note", value));
        assert_eq!(through(&schema, fields), Ok(plain()), "{added}");
    }
}

#[test]
fn an_older_writer_may_lack_what_has_a_default() {
    let schema = edited(|fields| fields.truncate(6));
    let without = Whole { vector: Vec::new(), metadata: Vec::new(), ..plain() };
    assert_eq!(through(&schema, plain_fields().into_iter().take(6).collect()), Ok(without));
}

#[test]
fn reordered_fields_and_promoted_types_resolve() {
    let schema = edited(|fields| {
        fields.reverse();
        fields[0]["type"]["values"] = serde_json::json!(["float", "int", "string"]);
        fields[1]["type"]["items"] = serde_json::json!("int");
        fields[4]["type"] = serde_json::json!("int");
    });
    let mut fields = plain_fields();
    fields.reverse();
    fields[0].1 = Value::Map(
        [
            ("f".to_owned(), Value::Union(0, Box::new(Value::Float(0.5)))),
            ("i".to_owned(), Value::Union(1, Box::new(Value::Int(3)))),
        ]
        .into(),
    );
    fields[1].1 = Value::Array(vec![Value::Int(2)]);
    fields[4].1 = Value::Int(-1);
    let expected = Whole {
        vector: vec![2f32.to_bits()],
        metadata: vec![("f".to_owned(), format!("double {:016x}", 0.5f64.to_bits())), ("i".to_owned(), "Long(3)".to_owned())],
        ..plain()
    };
    assert_eq!(through(&schema, fields), Ok(expected));
}

/// A reader may meet a writer that knows more ops; such a value is refused, the others are read.
#[test]
fn an_op_of_a_newer_writer_is_refused() {
    let schema = edited(|fields| fields[0]["type"]["symbols"].as_array_mut().unwrap().push("PURGE".into()));
    assert_eq!(through(&schema, plain_fields()), Ok(plain()));
    let mut fields = plain_fields();
    fields[0].1 = Value::Enum(3, "PURGE".to_owned());
    assert!(matches!(through(&schema, fields), Err(AvroError::Unresolved(_))));
}

/// Found by fuzzing: apache-avro allocates what a length says before it reads.
#[test]
fn a_length_that_is_not_there_is_refused_before_anything_is_allocated_for_it() {
    let schema = edited(|fields| fields.push(serde_json::json!({"name": "note", "type": "string", "default": ""})));
    let WriterSchema::Resolvable(writer) = writer_schema(&schema) else { panic!("ours and a field more") };
    for length in [1 << 20, 1 << 28, 1 << 60] {
        let mut content = encode(&change());
        wire::put_long(&mut content, length);
        assert_eq!(resolve(&writer, &content), Err(AvroError::Truncated("the writer's fields")), "{length}");
    }
}

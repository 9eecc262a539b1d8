use super::*;

const A: UnixMs = UnixMs(1_700_000_000_000);

fn read_one(text: &str) -> Result<JsonChange, serde_json::Error> {
    read(text.as_bytes(), A)
}

fn with(field: &str, value: &str) -> String {
    let mut members = vec![
        ("type", r#""upsert""#),
        ("collection", r#""docs""#),
        ("vector_id", r#""a""#),
        ("payload", "[1, 0.5, -2e-1]"),
        ("timestamp", "1700000000000"),
        ("metadata", r#"{"k": 1}"#),
    ];
    members.retain(|(name, _)| *name != field);
    if !value.is_empty() {
        members.push((field, value));
    }
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

#[test]
fn a_change_is_read_whole() {
    let change = read_one(&with("unknown", r#"{"ignored": [1, {}]}"#)).unwrap();
    assert_eq!((change.op, change.collection.as_str()), (Op::Upsert, "docs"));
    assert_eq!(change.vector_id(), WrittenId::Text("a"));
    assert_eq!(change.hlc, Hlc::at(A));
    assert_eq!(change.body, Body { vector: vec![1.0, 0.5, -0.2], metadata: vec![("k".to_owned(), MetaValue::Long(1))] });
}

#[test]
fn a_delete_needs_neither_payload_nor_metadata() {
    let text = r#"{"type":"delete","collection":"docs","vector_id":7,"timestamp":1700000000000,"payload":null}"#;
    let change = read_one(text).unwrap();
    assert_eq!((change.op, change.vector_id(), &change.body), (Op::Delete, WrittenId::Number(7), &Body::default()));
}

#[test]
fn numbers_keep_their_kind_and_every_bit() {
    let text = r#"{"long": -9223372036854775808, "big": 9223372036854775808, "whole": 1.0, "exp": 1e3,
        "exact": 0.30000000000000004, "hard": 2.2250738585072011e-308, "huge": 1e999,
        "s": "\u00e9\n", "t": true, "n": null}"#;
    let mut metadata = read_one(&with("metadata", text)).unwrap().body.metadata;
    metadata.reverse();
    let mut take = |key: &str| {
        let place = metadata.iter().position(|(held, _)| held == key).unwrap();
        metadata.remove(place).1
    };
    assert_eq!(take("long"), MetaValue::Long(i64::MIN));
    assert_eq!(take("big"), MetaValue::Double(9223372036854775808.0));
    assert_eq!(take("whole"), MetaValue::Double(1.0));
    assert_eq!(take("exp"), MetaValue::Double(1000.0));
    assert_eq!(take("exact"), MetaValue::Double(0.1 + 0.2));
    assert_eq!(take("hard"), MetaValue::Double(f64::from_bits(0x000f_ffff_ffff_ffff)));
    assert_eq!(take("huge"), MetaValue::Double(f64::INFINITY));
    assert_eq!(take("s"), MetaValue::Text("é\n".to_owned()));
    assert_eq!((take("t"), take("n")), (MetaValue::Bool(true), MetaValue::Null));
}

#[test]
fn bad_json_is_refused() {
    let good = with("", "");
    assert!(read_one(&good).is_ok(), "{good}");
    for (field, value) in [
        ("type", ""),
        ("type", r#""heartbeat""#),
        ("collection", ""),
        ("collection", "1"),
        ("vector_id", ""),
        ("vector_id", "1.5"),
        ("vector_id", "null"),
        ("vector_id", "[1]"),
        ("payload", r#"["1"]"#),
        ("payload", "[NaN]"),
        ("payload", "[null]"),
        ("payload", "[[1]]"),
        ("timestamp", ""),
        ("timestamp", "-1"),
        ("timestamp", "1.5"),
        ("timestamp", r#""1700000000000""#),
        ("metadata", r#"{"k": [1]}"#),
        ("metadata", r#"{"k": {}}"#),
        ("metadata", r#"{"k": 1, "k": 1}"#),
        ("metadata", r#"{"k": "\ud800"}"#),
        ("metadata", "[]"),
    ] {
        let text = with(field, value);
        assert!(read_one(&text).is_err(), "{text}");
    }
    for text in [&good[..good.len() - 1], &format!("{good} x"), &good.replacen('{', r#"{"type": "upsert", "#, 1)] {
        assert!(read_one(text).is_err(), "{text}");
    }
    assert!(read(&good.replace("docs", "do\u{1}cs").into_bytes(), A).is_err());
    // In what is read, and in what is passed over.
    for word in [&b"docs"[..], b"ignored", b"note"] {
        let mut bad_utf8 = with("unknown", r#"{"ignored": "note"}"#).into_bytes();
        assert!(read(&bad_utf8, A).is_ok());
        let place = bad_utf8.windows(word.len()).position(|window| window == word).unwrap();
        bad_utf8[place] = 0xff;
        assert!(read(&bad_utf8, A).is_err(), "{}", String::from_utf8_lossy(word));
    }
}

#[test]
fn the_unit_of_a_timestamp_is_the_one_nearest_to_its_append() {
    let ms = A.0 as u64;
    let hour = 3_600_000;
    for ms in [ms - 2 * hour, ms - 1, ms, ms + 2 * hour] {
        let wall = UnixMs(ms as i64);
        assert_eq!(hlc_nearest(ms, A), Hlc::at(wall));
        assert_eq!(hlc_nearest((ms << 18) | 5, A), Hlc::new(wall, 5));
        assert_eq!(hlc_nearest((ms << 18) | 0x3_ffff, A), Hlc::new(wall, u16::MAX));
        assert_eq!(hlc_nearest((ms << 16) | 6, A), Hlc::new(wall, 6));
    }
    // Seconds are none of them: read as milliseconds they lie in 1970, and admission refuses them as late.
    assert_eq!(hlc_nearest(ms / 1000, A).wall(), UnixMs(A.0 / 1000));
    assert_eq!(hlc_nearest(u64::MAX, A), Hlc(u64::MAX >> 2 & !0xffff | 0xffff));
}

//! The form of what `resync` puts on the repair topic, for this region's tasks to read.
//!
//! | record | key | value | headers |
//! |---|---|---|---|
//! | a change, as the peer's vectors changelog has it | row key | its bytes, unchanged | its origin, its append time there |
//! | a key of which the peer knows nothing up to a version | row key | null | that version |
//! | a mark: a resync of this partition begins, or has ended | [`MARK_KEY`] | format 1: the byte 1, then JSON | |
//!
//! The origin says in whose registry the schema id is to be looked up, and the append time what a JSON change's time is
//! told by. Both were judged where the change was admitted, and are not judged again.

use crate::base::ids::{Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use crate::port::log::Append;
use crate::record::change::{BodyEncoding, Change, EncodedBody, Op};
use crate::record::collection::Collections;
use crate::record::decode::{Decoded, decode};
use crate::record::headers;
use crate::record::raw::{Headers, RawHeader, RawRecord};
use crate::record::reason::{Reason, Rejection};
use crate::record::schema::SchemaSource;
use crate::store::entry::{FORGOTTEN_HEADER, parse_version_text, version_text};
use crate::store::progress::Gap;
use crate::store::row_key::{self, RowKeyError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// No row key equals it (see [`row_key`]).
pub const MARK_KEY: &str = "driftless/resync";

const FORMAT: u8 = 1;

/// What a resync tells the task of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Until it has ended nothing is forgotten: of what the peer is read for, nothing newer may be gone.
    Begin { peer: String },
    /// All that the peer has is here. `filled`: the gaps that this makes good; `since`: of each origin the append time
    /// (Unix ms) before which the peer knows nothing itself, null for one that it knows from the beginning.
    End { filled: Vec<Gap>, since: BTreeMap<String, Option<i64>> },
}

#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error("a mark of format {0} is not known to this version; upgrade this worker")]
    UnknownFormat(u8),
    #[error("the mark is empty")]
    Empty,
    #[error("the mark is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

impl Mark {
    pub fn append(&self, to: &TopicPartition) -> Append {
        let mut value = vec![FORMAT];
        serde_json::to_writer(&mut value, self).expect("numbers and text have a JSON form");
        Append { to: to.clone(), key: Some(MARK_KEY.into()), value: Some(value.into()), headers: Headers::new() }
    }

    /// `None`: the record is none.
    pub fn read(record: &RawRecord) -> Option<Result<Self, MarkError>> {
        if record.key.as_deref() != Some(MARK_KEY.as_bytes()) {
            return None;
        }
        Some(match record.value.as_deref().unwrap_or_default().split_first() {
            None => Err(MarkError::Empty),
            Some((&FORMAT, json)) => serde_json::from_slice(json).map_err(MarkError::from),
            Some((&other, _)) => Err(MarkError::UnknownFormat(other)),
        })
    }
}

/// A peer's change: `record` is its record in the peer's vectors changelog, `version` its entry's.
pub fn change(to: &TopicPartition, record: &RawRecord, version: &Version) -> Append {
    if record.value.is_none() {
        return forgotten(to, record.key.clone(), version);
    }
    let appended_at = record.header_text(headers::APPENDED_AT).map_or_else(|| record.appended_at.to_string(), str::to_owned);
    let headers = vec![header(headers::ORIGIN, version.origin.to_string()), header(headers::APPENDED_AT, appended_at)];
    Append { to: to.clone(), key: record.key.clone(), value: record.value.clone(), headers: headers.into() }
}

/// The peer knows nothing of the key up to `version`: what is older here was deleted there.
pub fn forgotten(to: &TopicPartition, key: Option<Bytes>, version: &Version) -> Append {
    let headers = vec![header(FORGOTTEN_HEADER, version_text(version))];
    Append { to: to.clone(), key, value: None, headers: headers.into() }
}

fn header(name: &'static str, text: String) -> RawHeader {
    (Arc::from(name), Some(Bytes::from(text)))
}

/// Reads a record that is no mark. The change keeps the record as it is, with its place in the repair topic; what was
/// forgotten at the peer becomes a delete of that version.
pub fn read(record: RawRecord, collections: &Collections, schemas: &mut dyn SchemaSource) -> Decoded {
    if record.value.is_none() {
        return match read_forgotten(&record, collections) {
            Ok(change) => Decoded::Change(change),
            Err(rejection) => Decoded::Rejected(record, rejection),
        };
    }
    let Some(origin) = record.header_text(headers::ORIGIN).map(Region::new) else {
        let detail = "a record of the repair topic that names no origin: only `driftless resync` writes there";
        return Decoded::Rejected(record, Rejection::new(Reason::ForeignOrigin, detail));
    };
    let bare = RawRecord { key: None, headers: Vec::new(), ..original(&record) };
    match decode(bare, &origin, collections, schemas) {
        Decoded::Change(change) => match row_key_of(&record, collections) {
            Ok(key) if key == change.key => Decoded::Change(Change { record, ..change }),
            Ok(_) => {
                Decoded::Rejected(record, Rejection::new(Reason::Malformed, "the change is of another key than its record's"))
            }
            Err(rejection) => Decoded::Rejected(record, rejection),
        },
        Decoded::NeedsSchema(_) => Decoded::NeedsSchema(record),
        Decoded::Rejected(_, rejection) => Decoded::Rejected(record, rejection),
        Decoded::Heartbeat(_) | Decoded::IgnoredHeartbeat(..) => {
            Decoded::Rejected(record, Rejection::new(Reason::Malformed, "a heartbeat on the repair topic"))
        }
    }
}

/// The record as its origin's topic had it, as far as its time goes.
pub fn original(record: &RawRecord) -> RawRecord {
    let appended_at = record.header_text(headers::APPENDED_AT).and_then(|text| text.parse().ok());
    RawRecord { appended_at: appended_at.map_or(record.appended_at, UnixMs), ..record.clone() }
}

fn read_forgotten(record: &RawRecord, collections: &Collections) -> Result<Change, Rejection> {
    let version = record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text);
    let version = version.ok_or_else(|| Rejection::new(Reason::NullValue, "a null that names no version"))?;
    let encoding = BodyEncoding::Decoded(Box::default());
    let body = EncodedBody { content: Bytes::new(), encoding };
    Ok(Change { op: Op::Delete, key: row_key_of(record, collections)?, version, record: record.clone(), body })
}

fn row_key_of(record: &RawRecord, collections: &Collections) -> Result<crate::base::ids::RowKey, Rejection> {
    let key =
        record.key.as_deref().ok_or_else(|| Rejection::new(Reason::Malformed, "a record of the repair topic without a key"))?;
    row_key::parse(key, collections).map_err(|error| {
        let reason = match &error {
            RowKeyError::UnknownCollection(_) => Reason::UnknownCollection,
            RowKeyError::BadId(_) => Reason::BadId,
            RowKeyError::NoSeparator | RowKeyError::NotUtf8 => Reason::Malformed,
        };
        Rejection::new(reason, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(append: Append) -> RawRecord {
        RawRecord {
            topic: append.to.topic.clone(),
            partition: 0,
            offset: 3,
            appended_at: UnixMs(9),
            key: append.key,
            value: append.value,
            headers: append.headers.into_vec(),
        }
    }

    /// Format 1 as bytes: a change of this test is a change of what older workers can read.
    #[test]
    fn marks_of_format_1_are_fixed() {
        let to = TopicPartition::new("driftless-repair", 0);
        let gap = Gap { topic: "us.vector-cdc".to_owned(), from: 5, until: 9 };
        let end = Mark::End { filled: vec![gap], since: BTreeMap::from([("eu".to_owned(), None), ("us".to_owned(), Some(7))]) };
        let cases = [
            (Mark::Begin { peer: "us".to_owned() }, r#"{"begin":{"peer":"us"}}"#),
            (end, r#"{"end":{"filled":[{"topic":"us.vector-cdc","from":5,"until":9}],"since":{"eu":null,"us":7}}}"#),
        ];
        for (mark, json) in cases {
            let record = record(mark.append(&to));
            assert_eq!(record.value.as_deref(), Some(format!("\u{1}{json}").as_bytes()));
            assert_eq!(Mark::read(&record).expect("a mark").unwrap(), mark);
        }
        assert!(Mark::read(&record(forgotten(&to, Some("docs\x001".into()), &parse_version_text("1/2/us").unwrap()))).is_none());
    }
}

//! What lies on disk, format 1.
//!
//! | key | value |
//! |---|---|
//! | `e`, row key | the entry as in the changelog; or 0, a time, a version: forgotten up to it |
//! | `f`, time, row key | nothing: a mark on what was forgotten then |
//! | `s` | one JSON object: [`State`] |
//! | `t`, stamp, row key | nothing: a mark on a tombstone |
//!
//! A row key is its collection's place in the state's list, in two bytes, and the id: 16 bytes of a UUID, 8 of an int64,
//! or a text. Numbers are big-endian, times in Unix ms.

use crate::base::ids::{CollectionId, RowKey, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::collection::{Collections, IdKind};
use crate::store::entry::{Entry, parse_version_text, version_text};
use crate::store::progress::Progress;
use crate::store::{Applied, Position};
use serde::{Deserialize, Serialize};

pub(super) const FORMAT: u32 = 1;
pub(super) const STATE_KEY: &[u8] = b"s";
/// Where the entries begin.
pub(super) const ENTRIES: &[u8] = b"e";

/// No format of an entry.
const FORGOTTEN: u8 = 0;
const TOMBSTONE_MARK: u8 = b't';
const FORGOTTEN_MARK: u8 = b'f';

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Entry(Entry),
    Forgotten { up_to: Version, at: UnixMs },
}

impl Known {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Known::Entry(entry) => entry.encode(),
            Known::Forgotten { up_to, at } => {
                let mut bytes = vec![FORGOTTEN];
                bytes.extend_from_slice(&at.0.to_be_bytes());
                bytes.extend_from_slice(version_text(up_to).as_bytes());
                bytes
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some((&FORGOTTEN, rest)) = bytes.split_first() else {
            return Entry::decode(bytes).map(Known::Entry).map_err(|error| error.to_string());
        };
        let damaged = || "what is known of a forgotten key is damaged".to_owned();
        let (at, version) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let version = std::str::from_utf8(version).ok().and_then(parse_version_text).ok_or_else(damaged)?;
        Ok(Known::Forgotten { up_to: version, at: UnixMs(i64::from_be_bytes(*at)) })
    }

    /// What marks it, if anything does.
    pub fn mark(&self) -> Option<Mark> {
        match self {
            Known::Entry(entry) => entry.tombstone.then_some(Mark::Tombstone(entry.version.hlc)),
            Known::Forgotten { at, .. } => Some(Mark::Forgotten(*at)),
        }
    }

    pub fn entry(self) -> Option<Entry> {
        match self {
            Known::Entry(entry) => Some(entry),
            Known::Forgotten { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Tombstone(Hlc),
    Forgotten(UnixMs),
}

const MARK_BYTES: usize = 9;

impl Mark {
    /// With an empty key: where the marks of this stamp or time begin.
    pub fn key(self, entry_key: &[u8]) -> Vec<u8> {
        let (kind, number) = match self {
            Mark::Tombstone(hlc) => (TOMBSTONE_MARK, hlc.0),
            Mark::Forgotten(at) => (FORGOTTEN_MARK, at.0.max(0) as u64),
        };
        let mut bytes = Vec::with_capacity(MARK_BYTES + entry_key.len());
        bytes.push(kind);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(entry_key.get(ENTRIES.len()..).unwrap_or_default());
        bytes
    }

    /// The key of the entry that is marked.
    pub fn entry_key(mark: &[u8]) -> Vec<u8> {
        [ENTRIES, mark.get(MARK_BYTES..).unwrap_or_default()].concat()
    }
}

/// Under which a key's entry lies.
pub(super) fn encode_key(key: &RowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(19);
    bytes.extend_from_slice(ENTRIES);
    bytes.extend_from_slice(&key.collection.0.to_be_bytes());
    match &key.id {
        VectorId::Uuid(bits) => bytes.extend_from_slice(&bits.to_be_bytes()),
        VectorId::Int(number) => bytes.extend_from_slice(&number.to_be_bytes()),
        VectorId::Text(text) => bytes.extend_from_slice(text.as_bytes()),
    }
    bytes
}

pub(super) fn decode_key(bytes: &[u8], collections: &Collections) -> Result<RowKey, String> {
    let damaged = || format!("a row key of {} bytes is damaged", bytes.len());
    let row_key = bytes.strip_prefix(ENTRIES).ok_or_else(damaged)?;
    let (collection, id) = row_key.split_first_chunk::<2>().ok_or_else(damaged)?;
    let collection = CollectionId(u16::from_be_bytes(*collection));
    if collection.index() >= collections.len() {
        return Err(damaged());
    }
    let id = match collections.get(collection).id {
        IdKind::Uuid => VectorId::Uuid(u128::from_be_bytes(id.try_into().map_err(|_| damaged())?)),
        IdKind::Int64 => VectorId::Int(i64::from_be_bytes(id.try_into().map_err(|_| damaged())?)),
        IdKind::Text { .. } => VectorId::Text(std::str::from_utf8(id).map_err(|_| damaged())?.into()),
    };
    Ok(RowKey { collection, id })
}

/// How a collection's ids are written in row keys.
pub(super) fn kind_of_id(id: IdKind) -> String {
    match id {
        IdKind::Uuid => "uuid".to_owned(),
        IdKind::Int64 => "int64".to_owned(),
        IdKind::Text { max_bytes } => format!("text of {max_bytes} bytes"),
    }
}

/// What a store is of, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub format: u32,
    pub application: String,
    pub changelog: String,
    pub partition: i32,
    pub topic_id: Option<String>,
    /// Name and kind of id of each: what row keys are read by, and which keys of the changelog were read at all.
    pub collections: Vec<(String, String)>,
    pub next_offset: i64,
    pub at_ms: i64,
    pub entries: u64,
    pub vectors_end: i64,
    /// The progress record, as in the changelog.
    pub progress: Option<String>,
}

#[derive(Deserialize)]
struct Formatted {
    format: u32,
}

impl State {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text have a JSON form")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |error: serde_json::Error| format!("its state can't be read: {error}");
        let Formatted { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(format!("it is of format {format}, and this version knows {FORMAT}"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    pub fn set_progress(&mut self, progress: Option<&Progress>) {
        self.progress =
            progress.map(|progress| String::from_utf8(progress.encode()).expect("a progress record is a byte 1 and JSON"));
    }

    pub fn applied(&self) -> Result<Applied, String> {
        let progress = self.progress.as_ref().map(|text| Progress::decode(text.as_bytes()));
        let progress = progress.transpose().map_err(|error| format!("its progress can't be read: {error}"))?;
        Ok(Applied { position: Position { next_offset: self.next_offset, at: UnixMs(self.at_ms) }, progress })
    }
}

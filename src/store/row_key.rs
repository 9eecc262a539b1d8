//! A row key's bytes in the changelogs: the collection's name, a zero byte, the id's canonical text. Names
//! hold no zero byte, so the first one ends the name whatever the id holds; and a key without one, such as
//! the progress record's, is no row key.

use crate::base::ids::{CollectionId, ID_TEXT_BYTES, RowKey};
use crate::record::collection::Collections;
use crate::record::id::{WrittenId, parse_id};
use bytes::{BufMut, BytesMut};

const SEPARATOR: u8 = 0;

/// Why a changelog's key names no row here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowKeyError {
    #[error("the key has no separator after a collection's name")]
    NoSeparator,
    #[error("the key is not UTF-8")]
    NotUtf8,
    /// Left behind by a collection that was taken out of the configuration.
    #[error("collection {0:?} is not in the configuration")]
    UnknownCollection(String),
    /// The collection's ids have another form than when this was written.
    #[error("the id does not fit its collection: {0}")]
    BadId(String),
}

pub fn encode(key: &RowKey, collections: &Collections) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    put(key, collections, &mut bytes);
    bytes.into()
}

/// The same behind what is there already.
pub fn put(key: &RowKey, collections: &Collections, bytes: &mut BytesMut) {
    let name = &collections.get(key.collection).name;
    let mut buffer = [0; ID_TEXT_BYTES];
    let id = key.id.text(&mut buffer);
    bytes.reserve(name.len() + 1 + id.len());
    bytes.put_slice(name.as_bytes());
    bytes.put_u8(SEPARATOR);
    bytes.put_slice(id.as_bytes());
}

pub fn parse(bytes: &[u8], collections: &Collections) -> Result<RowKey, RowKeyError> {
    parse_near(bytes, collections, None)
}

/// `near`: the collection of the key before, which is nearly always this one's too, so that no name is looked up.
pub fn parse_near(bytes: &[u8], collections: &Collections, near: Option<CollectionId>) -> Result<RowKey, RowKeyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RowKeyError::NotUtf8)?;
    let (name, id) = text.split_once(char::from(SEPARATOR)).ok_or(RowKeyError::NoSeparator)?;
    let near = near.filter(|near| collections.get(*near).name == name);
    let collection = near.or_else(|| collections.find(name)).ok_or_else(|| RowKeyError::UnknownCollection(name.to_owned()))?;
    let id = parse_id(collections.get(collection).id, WrittenId::Text(id));
    Ok(RowKey { collection, id: id.map_err(|rejection| RowKeyError::BadId(rejection.detail))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::VectorId;
    use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};
    use crate::store::progress::PROGRESS_KEY;

    fn collections() -> Collections {
        let spec = |name: &str, id| CollectionSpec {
            name: name.to_owned(),
            id,
            dimension: 1,
            metric: Metric::L2,
            index: IndexKind::Auto,
            auto_create: false,
        };
        let specs = vec![spec("docs", IdKind::Uuid), spec("n", IdKind::Int64), spec("t", IdKind::Text { max_bytes: 9 })];
        Collections::new(specs)
    }

    #[test]
    fn a_row_key_is_read_back() {
        let cases = [
            (0, VectorId::Uuid(7), &b"docs\x0000000000-0000-0000-0000-000000000007"[..]),
            (1, VectorId::Int(-7), b"n\0-7"),
            (2, VectorId::Text("a\0b/é".into()), b"t\0a\0b/\xc3\xa9"),
        ];
        for (collection, id, bytes) in cases {
            let key = RowKey { collection: CollectionId(collection), id };
            assert_eq!(encode(&key, &collections()), bytes);
            assert_eq!(parse(bytes, &collections()), Ok(key));
        }
    }

    #[test]
    fn what_is_no_row_key_says_why() {
        let error = |bytes: &[u8]| parse(bytes, &collections()).unwrap_err();
        assert_eq!(error(PROGRESS_KEY.as_bytes()), RowKeyError::NoSeparator);
        assert_eq!(error(b"t\0\xff"), RowKeyError::NotUtf8);
        assert_eq!(error(b"old\x001"), RowKeyError::UnknownCollection("old".to_owned()));
        assert!(matches!(error(b"n\x00007"), RowKeyError::BadId(_)));
    }
}

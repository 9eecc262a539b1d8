//! Values of our own schema, read in one pass. The header leaves the position where `vector` begins; what
//! lies behind it is read for winners only.

use super::wire::Cursor;
use super::{AvroError, WireOp};
use crate::merge::hlc::Hlc;
use crate::record::change::Body;
use crate::record::metadata::{MetaEntries, MetaRef};

const VECTOR: &str = "vector";
const METADATA: &str = "metadata";
const FLOAT_BYTES: usize = size_of::<f32>();

/// The fields before `vector`, still lying in the record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub op: WireOp,
    pub hlc: Hlc,
    pub origin: &'a str,
    pub sequence: u64,
    pub collection: &'a str,
    pub vector_id: &'a str,
}

/// The header, and where `vector` begins.
pub(crate) fn read_header(content: &[u8]) -> Result<(Header<'_>, usize), AvroError> {
    let mut cursor = Cursor::new(content, 0);
    let op = cursor.long("op")?;
    let header = Header {
        op: WireOp::from_index(op).ok_or(AvroError::NoSuchVariant { field: "op", index: op })?,
        hlc: Hlc(cursor.long("timestamp")? as u64),
        origin: cursor.text("origin")?,
        sequence: cursor.long("sequence")? as u64,
        collection: cursor.text("collection")?,
        vector_id: cursor.text("vector_id")?,
    };
    Ok((header, cursor.at()))
}

/// Replaces the contents of `vector` and `metadata` by what lies behind the header, to the very end. Entries
/// stand as written, repeated keys included.
pub(crate) fn read_row<'a>(
    content: &'a [u8],
    vector_at: usize,
    vector: &mut Vec<f32>,
    metadata: &mut MetaEntries<'a>,
) -> Result<(), AvroError> {
    let mut cursor = Cursor::new(content, vector_at);
    read_vector(&mut cursor, vector)?;
    read_metadata(&mut cursor, metadata)?;
    cursor.end()
}

/// The same as an owned value.
pub(crate) fn read_body(content: &[u8], vector_at: usize) -> Result<Body, AvroError> {
    let (mut vector, mut entries) = (Vec::new(), MetaEntries::new());
    read_row(content, vector_at, &mut vector, &mut entries)?;
    let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    Ok(Body { vector, metadata })
}

fn read_vector(cursor: &mut Cursor<'_>, vector: &mut Vec<f32>) -> Result<(), AvroError> {
    vector.clear();
    loop {
        let count = cursor.block(VECTOR)?;
        if count == 0 {
            return Ok(());
        }
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(FLOAT_BYTES));
        let block = cursor.take(length.ok_or(AvroError::Truncated(VECTOR))?, VECTOR)?;
        let (floats, _) = block.as_chunks::<FLOAT_BYTES>();
        vector.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
}

fn read_metadata<'a>(cursor: &mut Cursor<'a>, metadata: &mut MetaEntries<'a>) -> Result<(), AvroError> {
    metadata.clear();
    loop {
        let count = cursor.block(METADATA)?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            metadata.push((cursor.text(METADATA)?, read_value(cursor)?));
        }
    }
}

fn read_value<'a>(cursor: &mut Cursor<'a>) -> Result<MetaRef<'a>, AvroError> {
    match cursor.long(METADATA)? {
        0 => Ok(MetaRef::Null),
        1 => match cursor.byte(METADATA)? {
            byte @ 0..=1 => Ok(MetaRef::Bool(byte == 1)),
            byte => Err(AvroError::NotBoolean { field: METADATA, byte }),
        },
        2 => cursor.long(METADATA).map(MetaRef::Long),
        3 => cursor.double(METADATA).map(MetaRef::Double),
        4 => cursor.text(METADATA).map(MetaRef::Text),
        index => Err(AvroError::NoSuchVariant { field: METADATA, index }),
    }
}

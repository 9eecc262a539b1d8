//! Avro's binary encoding, read by hand: zig-zag varints, length-prefixed bytes, blocks.
//!
//! Nothing is allocated for a length before as many bytes are there.

use super::AvroError;

/// Of the longest varint of 64 bits.
const LONG_BYTES_MAX: usize = 10;

/// A position in an Avro body, at its end at most. `field` is named in errors only.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, AvroError> {
        let byte = *self.bytes.get(self.at).ok_or(AvroError::Truncated(field))?;
        self.at += 1;
        Ok(byte)
    }

    /// At most ten bytes; what the tenth has beyond the 64th bit is dropped, as Avro's own readers do.
    pub(super) fn long(&mut self, field: &'static str) -> Result<i64, AvroError> {
        let groups = &self.bytes[self.at..];
        let mut zigzag = 0u64;
        for (group, byte) in groups.iter().take(LONG_BYTES_MAX).enumerate() {
            zigzag |= u64::from(byte & 0x7f) << (7 * group);
            if *byte < 0x80 {
                self.at += group + 1;
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(if groups.len() < LONG_BYTES_MAX { AvroError::Truncated(field) } else { AvroError::Overflow(field) })
    }

    pub(super) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], AvroError> {
        let end = self.at.checked_add(length).ok_or(AvroError::Truncated(field))?;
        let taken = self.bytes.get(self.at..end).ok_or(AvroError::Truncated(field))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, AvroError> {
        let length = usize::try_from(self.long(field)?).map_err(|_| AvroError::NegativeLength(field))?;
        std::str::from_utf8(self.take(length, field)?).map_err(|_| AvroError::NotUtf8(field))
    }

    pub(super) fn double(&mut self, field: &'static str) -> Result<f64, AvroError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8, field)?);
        Ok(f64::from_le_bytes(bytes))
    }

    /// The item count of the next block of an array or map, 0 at its end. A negative count is followed by
    /// the block's size in bytes, which serves those who skip it.
    pub(super) fn block(&mut self, field: &'static str) -> Result<u64, AvroError> {
        let count = self.long(field)?;
        if count < 0 {
            self.long(field)?;
            if count == i64::MIN {
                return Err(AvroError::NegativeLength(field));
            }
        }
        Ok(count.unsigned_abs())
    }

    pub(super) fn end(&self) -> Result<(), AvroError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(AvroError::LeftOver(left)),
        }
    }
}

pub(super) fn put_long(bytes: &mut Vec<u8>, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_long(bytes, text.len() as i64);
    bytes.extend_from_slice(text.as_bytes());
}

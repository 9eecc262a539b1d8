//! Vector ids: exactly one text form of each is accepted, so that equal ids have equal text (and equal keys
//! and partitions) everywhere. An id in another form is refused, never put right: the producer's key, and so
//! its partition, was computed from the wrong text.

use crate::base::ids::VectorId;
use crate::record::collection::IdKind;
use crate::record::reason::{Reason, Rejection};

/// An id as a record has it. Only JSON writes numbers, and only for a collection of int64 ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenId<'a> {
    Text(&'a str),
    Number(i128),
}

/// Canonical forms: a lower-case hyphenated UUID; a decimal int64 without plus sign, leading zeros or
/// minus zero; any text that is not empty and fits the column.
pub fn parse_id(kind: IdKind, written: WrittenId<'_>) -> Result<VectorId, Rejection> {
    match (kind, written) {
        (IdKind::Uuid, WrittenId::Text(text)) => parse_uuid(text).map(VectorId::Uuid).ok_or_else(|| bad_uuid(text)),
        (IdKind::Int64, WrittenId::Text(text)) => parse_int(text).map(VectorId::Int).ok_or_else(|| bad_int(text)),
        (IdKind::Int64, WrittenId::Number(number)) => {
            i64::try_from(number).map(VectorId::Int).map_err(|_| bad_int(&number.to_string()))
        }
        (IdKind::Text { max_bytes }, WrittenId::Text(text)) => parse_text(text, max_bytes),
        (_, WrittenId::Number(number)) => Err(bad_id(format!("{number} is a number; this collection's ids are text"))),
    }
}

/// By hand, since the uuid crate takes upper case, braces and other forms as well. Without a branch for each digit: every
/// change has one.
fn parse_uuid(text: &str) -> Option<u128> {
    const PAIRS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut parsed = [0; 16];
    let mut seen = 0;
    for (byte, at) in parsed.iter_mut().zip(PAIRS) {
        let (high, low) = (DIGITS[usize::from(bytes[at])], DIGITS[usize::from(bytes[at + 1])]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    let hyphens = [bytes[8], bytes[13], bytes[18], bytes[23]] == *b"----";
    (hyphens && seen != NO_DIGIT).then(|| u128::from_be_bytes(parsed))
}

/// All bits, so that one of them shows among any digits.
const NO_DIGIT: u8 = 0xff;

/// The value of each byte as a lower-case hexadecimal digit.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

fn parse_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let padded = digits.starts_with('0') && text != "0";
    if padded || digits.starts_with(['+', '-']) { None } else { text.parse().ok() }
}

fn parse_text(text: &str, max_bytes: usize) -> Result<VectorId, Rejection> {
    if text.is_empty() {
        return Err(bad_id("it is empty".to_owned()));
    }
    if text.len() > max_bytes {
        return Err(bad_id(format!("{} has {} bytes, the column takes {max_bytes}", excerpt(text), text.len())));
    }
    Ok(VectorId::Text(text.into()))
}

fn bad_uuid(text: &str) -> Rejection {
    bad_id(format!("{} is not a lower-case hyphenated UUID", excerpt(text)))
}

fn bad_int(text: &str) -> Rejection {
    bad_id(format!("{} is not a plain decimal int64 (no plus sign, no leading zeros)", excerpt(text)))
}

fn bad_id(detail: String) -> Rejection {
    Rejection::new(Reason::BadId, detail)
}

/// The text quoted and escaped, cut after 64 characters: details go into headers and logs.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kind: IdKind, text: &str) -> bool {
        match parse_id(kind, WrittenId::Text(text)) {
            Ok(id) => {
                assert_eq!(id.to_string(), text, "an accepted id must print as it was written");
                true
            }
            Err(rejection) => {
                assert_eq!(rejection.reason, Reason::BadId);
                false
            }
        }
    }

    #[test]
    fn only_canonical_forms_are_accepted() {
        let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let cases = [
            (IdKind::Uuid, uuid, true),
            (IdKind::Uuid, "00000000-0000-0000-0000-000000000000", true),
            (IdKind::Uuid, "6BA7B810-9dad-11d1-80b4-00c04fd430c8", false),
            (IdKind::Uuid, "6ba7b8109dad11d180b400c04fd430c8", false),
            (IdKind::Uuid, "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", false),
            (IdKind::Uuid, "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8", false),
            (IdKind::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430-8", false),
            (IdKind::Uuid, "6ba7b810a9dad-11d1-80b4-00c04fd430c8", false),
            (IdKind::Uuid, "6ba7b81-09dad-11d1-80b4-00c04fd430c8", false),
            (IdKind::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430cg", false),
            (IdKind::Uuid, " 6ba7b810-9dad-11d1-80b4-00c04fd430c", false),
            (IdKind::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430cé", false),
            (IdKind::Uuid, "", false),
            (IdKind::Int64, "0", true),
            (IdKind::Int64, "7", true),
            (IdKind::Int64, "-7", true),
            (IdKind::Int64, "9223372036854775807", true),
            (IdKind::Int64, "-9223372036854775808", true),
            (IdKind::Int64, "9223372036854775808", false),
            (IdKind::Int64, "007", false),
            (IdKind::Int64, "-07", false),
            (IdKind::Int64, "00", false),
            (IdKind::Int64, "-0", false),
            (IdKind::Int64, "+5", false),
            (IdKind::Int64, "-+5", false),
            (IdKind::Int64, "--5", false),
            (IdKind::Int64, "-", false),
            (IdKind::Int64, "5 ", false),
            (IdKind::Int64, "5.0", false),
            (IdKind::Int64, "٧", false),
            (IdKind::Int64, "", false),
            (IdKind::Text { max_bytes: 4 }, "abcd", true),
            (IdKind::Text { max_bytes: 4 }, "éé", true),
            (IdKind::Text { max_bytes: 4 }, "ééa", false),
            (IdKind::Text { max_bytes: 4 }, " \0x ", true),
            (IdKind::Text { max_bytes: 4 }, "", false),
        ];
        for (kind, text, good) in cases {
            assert_eq!(accepts(kind, text), good, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn a_number_is_an_id_of_int64_collections_only() {
        assert_eq!(parse_id(IdKind::Int64, WrittenId::Number(-7)), Ok(VectorId::Int(-7)));
        for (kind, number) in [(IdKind::Int64, 1 << 63), (IdKind::Uuid, 7), (IdKind::Text { max_bytes: 9 }, 7)] {
            assert_eq!(parse_id(kind, WrittenId::Number(number)).unwrap_err().reason, Reason::BadId);
        }
    }
}

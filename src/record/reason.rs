//! Why a record is not applied: a fixed set of codes, the same in every region.

use std::fmt;

/// The code in the header `driftless.reason` of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    TooLarge,
    NullValue,
    Malformed,
    UnknownSchema,
    UnknownCollection,
    BadId,
    ForeignOrigin,
    Early,
    Late,
    BelowFloor,
    BadDimension,
    NotFinite,
    ReservedKey,
    MetadataTooLarge,
    RefusedByMilvus,
}

impl Reason {
    pub const ALL: [Reason; 15] = [
        Reason::TooLarge,
        Reason::NullValue,
        Reason::Malformed,
        Reason::UnknownSchema,
        Reason::UnknownCollection,
        Reason::BadId,
        Reason::ForeignOrigin,
        Reason::Early,
        Reason::Late,
        Reason::BelowFloor,
        Reason::BadDimension,
        Reason::NotFinite,
        Reason::ReservedKey,
        Reason::MetadataTooLarge,
        Reason::RefusedByMilvus,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Reason::TooLarge => "too-large",
            Reason::NullValue => "null-value",
            Reason::Malformed => "malformed",
            Reason::UnknownSchema => "unknown-schema",
            Reason::UnknownCollection => "unknown-collection",
            Reason::BadId => "bad-id",
            Reason::ForeignOrigin => "foreign-origin",
            Reason::Early => "early",
            Reason::Late => "late",
            Reason::BelowFloor => "below-floor",
            Reason::BadDimension => "bad-dimension",
            Reason::NotFinite => "not-finite",
            Reason::ReservedKey => "reserved-key",
            Reason::MetadataTooLarge => "metadata-too-large",
            Reason::RefusedByMilvus => "refused-by-milvus",
        }
    }

    pub fn from_code(code: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A detail that quotes what it was given must still fit into a header beside it.
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// A refusal: the code for machines, the detail for people (what was found, what was expected).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
}

impl Rejection {
    /// A long detail is cut.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > DETAIL_BYTES_MAX {
            let end = (0..=DETAIL_BYTES_MAX).rev().find(|end| detail.is_char_boundary(*end));
            detail.truncate(end.unwrap_or_default());
            detail.push('…');
        }
        Self { reason, detail }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_two_characters() {
        let cut = |text: String| Rejection::new(Reason::Malformed, text).detail;
        assert_eq!(cut("x".repeat(DETAIL_BYTES_MAX)), "x".repeat(DETAIL_BYTES_MAX));
        assert_eq!(cut("x".repeat(DETAIL_BYTES_MAX + 1)), "x".repeat(DETAIL_BYTES_MAX) + "…");
        assert_eq!(
            cut("x".to_owned() + &"é".repeat(DETAIL_BYTES_MAX)),
            "x".to_owned() + &"é".repeat(DETAIL_BYTES_MAX / 2 - 1) + "…"
        );
    }
}

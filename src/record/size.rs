//! How large a record may be.
//!
//! A topic's limit counts bytes as they are sent, compressed; what we keep of a record is appended again as it is,
//! with headers of ours beside. So a topic can take a record of which no copy fits anywhere: into the vectors
//! changelog, or among the dead letters. It is refused by its own size, before anything in it is looked at and
//! alike in every region (INV-5).

use crate::record::raw::RawRecord;
use crate::record::reason::{Reason, Rejection};

/// What one append of ours may have (our producer's `message.max.bytes`, our topics' `max.message.bytes`).
pub const COPY_BYTES_MAX: usize = 16 << 20;

/// What a record may have, so that each copy of it fits: the rest is for what is put beside it (headers with
/// their detail, a collection's name in the key) and for the framing of a batch.
pub const RECORD_BYTES_MAX: usize = COPY_BYTES_MAX - (64 << 10);

/// Two lengths of at most five bytes go with each header.
const HEADER_FRAMING_BYTES: usize = 10;

/// Refuses a record that is too large for any copy of it to be kept.
pub fn judge(record: &RawRecord) -> Result<(), Rejection> {
    let bytes = sent_bytes(record);
    if bytes <= RECORD_BYTES_MAX {
        return Ok(());
    }
    let detail = format!(
        "{bytes} bytes of key, value and headers, at most {RECORD_BYTES_MAX} can be kept: its value is left out here; while its topic keeps it, it is at {}[{}] offset {}",
        record.topic, record.partition, record.offset
    );
    Err(Rejection::new(Reason::TooLarge, detail))
}

/// What a dead letter can carry of a record that is too large: all but its value; nothing at all if the rest is
/// too large as well.
pub fn without_value(record: &RawRecord) -> RawRecord {
    let rest = RawRecord { value: None, ..record.clone() };
    if sent_bytes(&rest) <= RECORD_BYTES_MAX { rest } else { RawRecord { key: None, headers: Vec::new(), ..rest } }
}

/// At most so many, uncompressed.
fn sent_bytes(record: &RawRecord) -> usize {
    record.bytes() + record.headers.len() * HEADER_FRAMING_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::UnixMs;
    use bytes::Bytes;

    fn record(key: usize, value: usize, headers: usize) -> RawRecord {
        let header = ("h".into(), Some(Bytes::from_static(b"v")));
        RawRecord {
            topic: "us.vector-cdc".into(),
            partition: 3,
            offset: 17,
            appended_at: UnixMs(0),
            key: Some(vec![0; key].into()),
            value: Some(vec![0; value].into()),
            headers: vec![header; headers],
        }
    }

    #[test]
    fn key_value_and_headers_count_together_and_the_limit_itself_is_good() {
        assert_eq!(judge(&record(2, RECORD_BYTES_MAX - 2 - 12, 1)), Ok(()));
        for larger in [record(3, RECORD_BYTES_MAX - 2 - 12, 1), record(2, RECORD_BYTES_MAX - 2 - 12, 2)] {
            let rejection = judge(&larger).unwrap_err();
            assert_eq!(rejection.reason, Reason::TooLarge);
            for part in ["us.vector-cdc[3] offset 17", &sent_bytes(&larger).to_string()] {
                assert!(rejection.detail.contains(part), "{rejection}");
            }
        }
    }

    #[test]
    fn what_is_left_of_a_record_that_is_too_large_fits_whatever_made_it_so() {
        let kept = |record: &RawRecord| {
            let left = without_value(record);
            assert_eq!(judge(&left), Ok(()));
            (left.key.is_some(), left.value.is_some(), left.headers.len())
        };
        assert_eq!(kept(&record(2, COPY_BYTES_MAX, 5)), (true, false, 5));
        assert_eq!(kept(&record(COPY_BYTES_MAX, 2, 5)), (false, false, 0));
        assert_eq!(kept(&record(2, 2, COPY_BYTES_MAX / 12)), (false, false, 0));
    }
}

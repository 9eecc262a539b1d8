//! What a failure means for the batch, told from codes.
//!
//! Milvus answers in two ways: a gRPC status (the transport, the proxy's interceptors) or a reply that
//! carries Milvus' own status. Refusing a good row loses it to the dead letters; waiting on a bad one only
//! takes time. So a code that is not known to be about content is never a refusal.

use crate::port::vector::StoreError;
use milvus::proto::common::Status;
use std::error::Error;

/// Milvus' codes (`pkg/util/merr` of Milvus 2.3 and later), as ranges: each hundred is one kind of thing.
mod code {
    pub const MEMORY_LIMIT: i32 = 3;
    pub const REQUEST_LIMIT: i32 = 4;
    pub const DISK_LIMIT: i32 = 7;
    pub const RATE_LIMIT: i32 = 8;
    pub const FORCE_DENY: i32 = 9;
    /// Service not ready or unavailable; collection not found or not loaded; node not found: nothing was done.
    pub const NOT_READY: i32 = 1;
    pub const UNAVAILABLE: i32 = 2;
    pub const COLLECTION_FIRST: i32 = 100;
    pub const COLLECTION_LAST: i32 = 199;
    pub const NODE_FIRST: i32 = 900;
    pub const NODE_LAST: i32 = 999;
    pub const PARAMETER_FIRST: i32 = 1100;
    pub const PARAMETER_LAST: i32 = 1199;
    pub const FIELD_FIRST: i32 = 1700;
    pub const FIELD_LAST: i32 = 1799;
    pub const UNEXPECTED: i32 = 65_535;
}

/// What 2.3.5 says of content that it refuses without a code of its own (all of it is judged before the merge,
/// so this is the second net): a number that is not finite, a dynamic field's reserved name, no JSON object.
const REFUSALS_WITHOUT_CODE: [&str; 4] =
    ["is not a number or infinity", "cannot set json key", "json: cannot unmarshal", "JSON input"];

/// Milvus' own status in a reply; `None` if it says success.
#[allow(deprecated)] // 2.3 still fills the old code alone in places
pub(super) fn of_reply(status: Option<&Status>) -> Option<StoreError> {
    let Some(status) = status else {
        return Some(StoreError::Ambiguous("Milvus replied without a status".to_owned()));
    };
    if status.code == 0 && status.error_code == 0 {
        return None;
    }
    let said = format!("{} (code {}, legacy code {})", status.reason, status.code, status.error_code);
    Some(match status.code {
        code::MEMORY_LIMIT | code::REQUEST_LIMIT | code::DISK_LIMIT | code::RATE_LIMIT | code::FORCE_DENY => {
            StoreError::Throttled(said)
        }
        code::PARAMETER_FIRST..=code::PARAMETER_LAST | code::FIELD_FIRST..=code::FIELD_LAST => StoreError::Refused(said),
        code::UNEXPECTED if REFUSALS_WITHOUT_CODE.iter().any(|text| status.reason.contains(text)) => StoreError::Refused(said),
        code::NOT_READY
        | code::UNAVAILABLE
        | code::COLLECTION_FIRST..=code::COLLECTION_LAST
        | code::NODE_FIRST..=code::NODE_LAST => StoreError::Unavailable(said),
        // Cancelled, timed out, or something that only Milvus knows: part of it may have been written.
        _ => StoreError::Ambiguous(said),
    })
}

/// A failure of the call itself.
pub(super) fn of_transport(status: &tonic::Status) -> StoreError {
    let said = format!("{} ({:?})", status.message(), status.code());
    if never_connected(status) {
        return StoreError::Unavailable(said);
    }
    match status.code() {
        // Too large for the proxy's or our own limit on a message: halving makes it fit. The same code is what a
        // proxy before Milvus answers where it limits rates, which is no fault of the rows.
        tonic::Code::ResourceExhausted if !is_about_size(status.message()) => StoreError::Throttled(said),
        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange | tonic::Code::InvalidArgument => StoreError::Refused(said),
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented => {
            StoreError::Unavailable(said)
        }
        _ => StoreError::Ambiguous(said),
    }
}

/// grpc-go: "received message larger than max"; tonic: "message length too large".
fn is_about_size(message: &str) -> bool {
    message.contains("larger than") || message.contains("too large")
}

/// The connection could not be made, so nothing was sent.
fn never_connected(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Of two failures of one batch, the one that asks for more caution.
pub(super) fn graver(one: StoreError, other: StoreError) -> StoreError {
    if gravity(&one) >= gravity(&other) { one } else { other }
}

fn gravity(error: &StoreError) -> u8 {
    match error {
        StoreError::Refused(_) => 0,
        StoreError::Throttled(_) => 1,
        StoreError::Unavailable(_) => 2,
        StoreError::Ambiguous(_) => 3,
    }
}

#[cfg(test)]
#[allow(deprecated)]
mod tests {
    use super::*;

    fn reply(code: i32, error_code: i32, reason: &str) -> Option<StoreError> {
        of_reply(Some(&Status { code, error_code, reason: reason.to_owned(), ..Default::default() }))
    }

    /// Replies that a Milvus 2.3.5 gave.
    #[test]
    fn replies_of_a_real_milvus_are_told_apart() {
        assert_eq!(reply(0, 0, ""), None);
        let throttled = reply(8, 49, "request is rejected by grpc RateLimiter middleware, please retry later");
        assert!(matches!(throttled, Some(StoreError::Throttled(_))));
        let too_long = reply(1100, 5, "the length (17) of 0th string exceeds max length (16): invalid parameter");
        assert!(matches!(too_long, Some(StoreError::Refused(_))));
        let not_a_number = reply(65535, 1, "value 'NaN' is not a number or infinity");
        assert!(matches!(not_a_number, Some(StoreError::Refused(_))));
        let not_loaded = reply(101, 1, "failed to query: collection not loaded[collection=470641313980384905]");
        assert!(matches!(not_loaded, Some(StoreError::Unavailable(_))));
        let gone = reply(100, 4, "collection not found[database=default][collection=nonesuch]");
        assert!(matches!(gone, Some(StoreError::Unavailable(_))));
    }

    #[test]
    fn what_nobody_knows_refuses_no_row() {
        assert!(matches!(reply(65535, 1, "something new"), Some(StoreError::Ambiguous(_))));
        assert!(matches!(of_transport(&tonic::Status::resource_exhausted("quota of this user")), StoreError::Throttled(_)));
        assert!(matches!(of_transport(&tonic::Status::unknown("transport error")), StoreError::Ambiguous(_)));
        assert!(matches!(of_transport(&tonic::Status::unauthenticated("who?")), StoreError::Unavailable(_)));
    }

    #[test]
    fn of_two_failures_the_one_that_leaves_doubt_is_told() {
        let (doubt, refusal) = (StoreError::Ambiguous("a".into()), StoreError::Refused("r".into()));
        assert_eq!(graver(refusal.clone(), doubt.clone()), doubt);
        assert_eq!(graver(doubt.clone(), refusal), doubt);
    }
}

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
    pub const PARAMETER_FIRST: i32 = 1100;
    pub const PARAMETER_LAST: i32 = 1199;
    pub const FIELD_FIRST: i32 = 1700;
    pub const FIELD_LAST: i32 = 1799;
    pub const CANCELED: i32 = 10_000;
    pub const TIMEOUT: i32 = 10_001;
}

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
        code::CANCELED | code::TIMEOUT => StoreError::Ambiguous(said),
        _ => StoreError::Unavailable(said),
    })
}

/// A failure of the call itself.
pub(super) fn of_transport(status: &tonic::Status) -> StoreError {
    let said = format!("{} ({:?})", status.message(), status.code());
    if never_connected(status) {
        return StoreError::Unavailable(said);
    }
    match status.code() {
        // Too large for the proxy's or our own limit on a message: halving makes it fit.
        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange | tonic::Code::InvalidArgument => StoreError::Refused(said),
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented => {
            StoreError::Unavailable(said)
        }
        _ => StoreError::Ambiguous(said),
    }
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

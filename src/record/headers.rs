//! Names of the headers and keys that we write beside changes. All values are UTF-8 text, numbers in decimal.

/// On dead letters and conflicts: why, found by which node, and where the record was read.
pub const REASON: &str = "driftless.reason";
pub const DETAIL: &str = "driftless.detail";
pub const STAGE: &str = "driftless.stage";
pub const TOPIC: &str = "driftless.topic";
pub const PARTITION: &str = "driftless.partition";
pub const OFFSET: &str = "driftless.offset";
/// Also on records of the vectors changelog and of the repair topic: the append time at the origin, which the copy would lose.
pub const APPENDED_AT: &str = "driftless.appended_at";
/// On records of the vectors changelog and of the repair topic: the region where the change was accepted, and whose
/// registry knows its schema.
pub const ORIGIN: &str = "driftless.origin";
/// On changes that a roll-back wrote: the instant that it went back to, in Unix ms.
pub const ROLLED_BACK_TO: &str = "driftless.rolled_back_to";
/// On conflicts: the version that won.
pub const WINNER: &str = "driftless.winner";

/// Every header of ours begins so.
pub const PREFIX: &str = "driftless.";

/// A heartbeat's key is this with the origin's name behind it.
pub const HEARTBEAT_KEY_PREFIX: &str = "driftless/heartbeat/";

/// By its key alone: what its value says is judged elsewhere.
pub fn is_heartbeat_key(key: Option<&[u8]>) -> bool {
    key.is_some_and(|key| key.starts_with(HEARTBEAT_KEY_PREFIX.as_bytes()))
}

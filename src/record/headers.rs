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
/// On records of the repair topic: the region whose registry knows the schema, and where the change was accepted.
pub const ORIGIN: &str = "driftless.origin";
/// On conflicts: the version that won.
pub const WINNER: &str = "driftless.winner";

/// Every header of ours begins so.
pub const PREFIX: &str = "driftless.";

/// A heartbeat's key is this with the origin's name behind it.
pub const HEARTBEAT_KEY_PREFIX: &str = "driftless/heartbeat/";

//! The operators, in the order in which a change meets them: admit, dedup, lww_merge, milvus_sink.

pub mod admit;
pub mod dedup;
pub mod lww_merge;
pub mod milvus_sink;

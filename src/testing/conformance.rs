//! One suite of checks per port, run on the in-memory implementation and on the real one.

pub mod log;
pub mod store;

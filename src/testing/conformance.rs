//! What every implementation of a port must do, run against the in-memory and the real ones alike.

pub mod log;

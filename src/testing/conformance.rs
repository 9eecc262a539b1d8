//! What every implementation of a port must do: one suite per port, run on the in-memory implementation and
//! on the real one.

pub mod log;
pub mod vector;

//! One suite per port: what every implementation must do, run on the in-memory and on the real one. A suite
//! panics where an implementation breaks its promise, as a test does.

pub mod generations;
pub mod log;
pub mod store;
pub mod stores;
pub mod vector;

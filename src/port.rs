//! What the engine needs from outside, as poll-style traits: nothing here blocks, waits or is async.
//! Production, the embedded demo and the simulator each bring their own.

pub mod admin;
pub mod group;
pub mod log;
pub mod vector;

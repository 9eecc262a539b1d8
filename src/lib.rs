//! Driftless keeps vector collections the same in every region.
//!
//! See ARCHITECTURE.md for the bird's-eye view. Modules are layers: each uses only those listed above it
//! (`tests/tidy.rs` holds the table).

// A test may look at the clock and print.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

pub mod base;
pub mod merge;
pub mod record;

pub mod store;

pub mod port;
pub mod region;

pub mod topology;

pub mod processor;

pub mod task;

pub mod stream;

pub mod ops;

#[allow(clippy::disallowed_methods, reason = "the rim: clocks and waits are touched here, so that nothing else has to")]
pub mod adapter;

pub mod console;

pub mod testing;

pub mod config;

pub mod demo;

pub mod app;

pub mod cli;

//! The worker process: configuration to adapters, adapters to threads, signals to a graceful stop.

mod canary;
mod console;
pub mod http;
pub mod logging;
pub mod prepare;
mod standby;
pub mod worker;

pub use worker::run_worker;

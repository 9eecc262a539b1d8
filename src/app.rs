//! The process: logging, and (the lead's) the worker's wiring.

pub mod logging;

pub fn run_worker(_config: crate::config::Config) -> crate::base::error::Result<()> {
    Err(crate::base::error::Error::refuse("not wired yet"))
}

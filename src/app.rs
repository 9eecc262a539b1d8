//! The process: logging, and (the lead's) the worker's wiring.

pub mod logging;

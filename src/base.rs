//! The lowest layer: ids, time, errors by remedy, and the catalogue of metric names.
//!
//! Nothing in here knows of Kafka, Milvus or a topology; every other layer may use it.

pub mod error;
pub mod exit;
pub mod fault;
pub mod ids;
pub mod metric;
pub mod section;
pub mod time;

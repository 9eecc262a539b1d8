//! What users (and our own tests) need to test a topology or an adapter of their own.

pub mod conformance;
pub(crate) mod random;
pub mod sim;
pub mod topology_driver;

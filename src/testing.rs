//! What is needed to test a topology, an adapter or a store of one's own; public for that reason.

pub mod conformance;

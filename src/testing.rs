//! What tests of the ports and of one's own topologies are made of; public, so that users can run it too.

pub mod conformance;

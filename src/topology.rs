//! Topologies as data: what the file says, what a node may do, the built graph, and how it is printed.

pub mod build;
pub mod describe;
pub mod node;
pub mod spec;

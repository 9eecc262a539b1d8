//! Regions and topics: the one place that knows how topics are named, how keys are spread over partitions
//! and which topic stands for which region.

pub mod partitioner;
pub mod topics;

//! One partition of the topology at work: what a stream task holds and decides.
//!
//! The files are the record's way through it: [`partition_group`] buffers what was polled, [`graph`] walks it
//! through the processors, [`items`] holds the winners under way, [`lane`] batches them for the vector store,
//! [`completeness`] knows what the partition lacks, [`parking`] keeps back the changes of collections whose lanes are
//! held up, [`settlement`] says up to where each source is settled, [`reassert`] writes again what a lost reply or a
//! zombie may have undone, [`scrub`] compares every row with its entry for ever; [`lag`] and [`skew`] say how far behind
//! its origin a source is. [`stream_task`] ties them together; it acts by leaving [`command`]s.

pub mod command;
pub mod completeness;
pub mod graph;
pub mod heartbeat;
pub mod items;
pub mod lag;
pub mod lane;
pub mod metrics;
pub mod parking;
pub mod partition_group;
pub mod reassert;
pub mod repair_topic;
pub mod scrub;
pub mod settings;
pub mod settlement;
pub mod skew;
pub mod stream_task;
pub(crate) mod winner_bytes;

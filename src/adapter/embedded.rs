//! Logs, mirror links, vector stores and writer schemas in memory, behind the same ports as the real ones.
//!
//! Everything happens inside the calls: there are no threads in here, so that equal calls have equal
//! outcomes. A [`broker::Broker`] is one region's Kafka, shared by its clients; a [`mirror::MirrorLink`] is
//! MirrorMaker between two of them; a [`vector::Database`] is one region's Milvus.

mod appender;
pub mod broker;
mod consumer;
mod group;
mod group_view;
pub mod mirror;
mod partition_log;
mod reader;
pub mod schema;
pub mod stores;
pub mod vector;

pub use appender::EmbeddedAppender;
pub use consumer::EmbeddedConsumer;
pub use group_view::EmbeddedGroupView;
pub use reader::EmbeddedReader;

#[cfg(test)]
mod tests;

//! The log's ports over Kafka. The only folder that names rdkafka.
//!
//! [`KafkaGroupConsumer`] is a member of the consumer group: it subscribes to the local change topics and
//! extends what the group gives it by their co-partitions ([`assignment`] decides, [`rebalance`] answers the
//! group). [`KafkaAppender`] is an idempotent producer, [`KafkaLogReader`] reads single partitions outside of
//! the group, [`KafkaGroupView`] looks at the group from outside, [`KafkaSettings`] holds what all are configured by. Each client runs threads of
//! librdkafka's own and wakes the processing thread when there is something to poll.

mod admin;
mod appender;
mod assignment;
mod error;
mod fetch_state;
mod group_consumer;
mod group_view;
mod log_reader;
mod native;
mod rebalance;
mod revival;
mod settings;

pub use admin::KafkaAdmin;
pub use appender::KafkaAppender;
pub use assignment::Subscription;
pub use group_consumer::KafkaGroupConsumer;
pub use group_view::KafkaGroupView;
pub use log_reader::KafkaLogReader;
pub use settings::KafkaSettings;

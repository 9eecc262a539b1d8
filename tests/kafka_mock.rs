//! The Kafka adapter on librdkafka's mock cluster: the real C client, three brokers on loopback, and any error on any
//! request. What it stands in for on a real broker is in `stack_kafka.rs`.
//!
//! Wherever records flow, each test demands that none is lost, skipped, repeated or out of order in its partition.
//! The mock's limits: no control records, no look-up by time, no admin requests but metadata, about 5 MiB a partition,
//! and a batch that is sent again after a lost reply is stored again.

// The client's time-outs are real, so time is.
#![allow(clippy::disallowed_methods)]

#[path = "kafka_mock/appending.rs"]
mod appending;
#[path = "kafka_mock/cluster.rs"]
mod cluster;
#[path = "kafka_mock/follower.rs"]
mod follower;
#[path = "kafka_mock/group.rs"]
mod group;
#[path = "kafka_mock/reading.rs"]
mod reading;

use cluster::MockLog;
use driftless::adapter::kafka::KafkaAdmin;
use driftless::base::error::Remedy;
use driftless::port::admin::{LogAdmin, TopicToCreate};
use driftless::testing::conformance::log::{self, LogUnderTest};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn the_readers_and_appenders_behave_as_every_log_must() {
    let mut mock = MockLog::start();
    log::appends_are_acknowledged_in_order_and_read_back_whole(&mut mock);
    log::a_read_begins_anywhere_and_its_position_ends_at_the_end(&mut mock);
    // What asks for a topic's partitions asks for its id too, to which the mock gives no answer (tests/stack_kafka.rs does).
}

#[test]
fn the_group_behaves_as_every_log_must() {
    let mut mock = MockLog::start();
    log::nothing_is_fetched_before_it_is_asked_for_and_a_second_request_goes_back(&mut mock);
    log::a_paused_partition_is_silent_and_loses_nothing(&mut mock);
    log::a_position_beyond_the_log_is_reported_and_can_be_mended(&mut mock);
}

#[test]
fn members_hand_over_as_every_log_must() {
    let mut mock = MockLog::start();
    log::a_revocation_waits_for_its_release(&mut mock);
    log::a_member_that_leaves_hands_its_partitions_over(&mut mock);
    log::a_member_may_leave_with_a_revocation_unanswered(&mut mock);
}

/// Leaders and coordinators move and requests fail at every wait of the suite.
#[test]
fn f12_the_log_behaves_so_while_leaders_move_and_requests_fail() {
    let mut mock = MockLog::start();
    mock.begin_weather(20_241_122);
    log::appends_are_acknowledged_in_order_and_read_back_whole(&mut mock);
    log::a_read_begins_anywhere_and_its_position_ends_at_the_end(&mut mock);
    log::nothing_is_fetched_before_it_is_asked_for_and_a_second_request_goes_back(&mut mock);
    log::a_revocation_waits_for_its_release(&mut mock);
    assert!(mock.weather_events() > 10, "only {} faults in all that time", mock.weather_events());
}

#[test]
fn the_administrator_counts_brokers_finds_topics_and_says_which_address_does_not_answer() {
    let mut mock = MockLog::start();
    let topic = mock.unique("there");
    mock.create_topic(&topic, 5);
    let mut admin = KafkaAdmin::new(&mock.servers, &BTreeMap::new()).unwrap();
    assert_eq!(admin.broker_count().unwrap(), 3);
    assert!(admin.describe(&[Arc::from("nowhere")]).unwrap().is_empty());
    // The mock knows no admin requests: what an old or foreign broker answers.
    let new = TopicToCreate { name: Arc::from("new"), partitions: 1, replication_factor: 1, settings: Vec::new() };
    let error = admin.create(&new).unwrap_err();
    assert!(error.to_string().starts_with("creating topic new: "), "{error}");
    mock.all_brokers_down();
    let error = admin.broker_count().unwrap_err();
    assert_eq!(error.remedy, Remedy::Retry);
    assert!(error.to_string().contains(&mock.servers), "{error}");
    mock.all_brokers_up();
    cluster::until(&mut mock, "an answer, with the brokers back", |_| admin.broker_count().ok());
}

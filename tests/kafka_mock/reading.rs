//! The reader: what restore and look-ups rest on, so nothing may be left out in silence.

use crate::cluster::{BROKERS, MockLog, until};
use driftless::base::error::{Error, Remedy};
use driftless::base::ids::TopicPartition;
use driftless::port::log::{Bounds, LogReader};
use driftless::record::raw::RawRecord;
use driftless::testing::conformance::log::{LogUnderTest, append, append_all, plain};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::time::Duration;

fn partition_of(mock: &mut MockLog, records: i64) -> TopicPartition {
    let topic = mock.unique("read");
    mock.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    write(mock, &partition, 0..records);
    partition
}

/// A value is its offset. Each in a batch of its own, since the mock answers a fetch with one batch.
fn write(mock: &mut MockLog, to: &TopicPartition, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        append(mock, to, &[&offset.to_string()]);
    }
}

/// Reads on after every passing error, as the engine does, and checks that each offset comes once and in turn.
fn read_on(mock: &mut MockLog, reader: &mut dyn LogReader, records: &mut Vec<RawRecord>, end: i64) -> Vec<Error> {
    let mut errors = Vec::new();
    until(mock, "the end of the partition", |_| match reader.read(records) {
        Ok(position) => (position >= end).then_some(()),
        Err(error) => {
            errors.push(error);
            None
        }
    });
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..end).collect::<Vec<_>>(), "after the errors {errors:?}");
    errors
}

#[test]
fn f12_a_read_goes_on_through_leader_changes_and_lost_connections() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 10);
    let mut reader = mock.reader();
    reader.open(&partition, 0).unwrap();
    let mut records = Vec::new();
    let mut errors = read_on(&mut mock, &mut *reader, &mut records, 10);
    for round in 0..6 {
        mock.lead(&partition.topic, 0, round % BROKERS + 1);
        mock.fail(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR__TRANSPORT]);
        let end = i64::from(round + 2) * 10;
        write(&mut mock, &partition, end - 10..end);
        errors.extend(read_on(&mut mock, &mut *reader, &mut records, end));
    }
    assert!(errors.iter().all(|error| error.remedy == Remedy::Retry), "{errors:?}");
}

#[test]
fn f12_errors_of_a_leader_that_moves_are_not_the_readers_business() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 30);
    mock.fail(
        Api::Fetch,
        &[
            Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
            Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
            Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        ],
    );
    let mut reader = mock.reader();
    reader.open(&partition, 0).unwrap();
    let errors = read_on(&mut mock, &mut *reader, &mut Vec::new(), 30);
    assert!(errors.is_empty(), "{errors:?}");
}

/// The client fetches ahead, so the error lies between records when they are taken, as it does under a slow restore.
#[test]
fn f12_an_error_between_fetched_records_costs_none_of_them() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 10);
    let mut reader = mock.reader();
    reader.open(&partition, 0).unwrap();
    fetched_to(&mut mock, 10);
    let fetched = mock.requests(Api::Fetch);
    mock.fail(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN]);
    mock.until_requests(Api::Fetch, fetched + 2);
    write(&mut mock, &partition, 10..20);
    fetched_to(&mut mock, 10);
    let mut records = Vec::new();
    let first = reader.read(&mut records);
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!((first, offsets), (Ok(10), (0..10).collect()), "what came before the error comes without it");
    let errors = read_on(&mut mock, &mut *reader, &mut records, 20);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].remedy, Remedy::Retry, "{}", errors[0]);
}

/// Long enough for so many batches, of which each fetch brings one.
fn fetched_to(mock: &mut MockLog, batches: usize) {
    let fetched = mock.requests(Api::Fetch);
    mock.until_requests(Api::Fetch, fetched + batches + 2);
}

#[test]
fn f12_a_corrupt_or_forbidden_fetch_says_so() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 1);
    mock.fail(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 20]);
    let mut reader = mock.reader();
    reader.open(&partition, 0).unwrap();
    let error = until(&mut mock, "the refusal", |_| reader.read(&mut Vec::new()).err());
    assert_eq!(error.remedy, Remedy::Refuse, "{error}");
    assert!(error.to_string().contains("ACLs"), "{error}");
}

#[test]
fn f15_f26_a_read_whose_next_offset_is_gone_tells_it_and_reads_from_the_start_when_opened_anew() {
    let mut mock = MockLog::start();
    let topic = mock.unique("gone");
    mock.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    let large = |number: usize| plain(&partition, &number.to_string().repeat(600_000));
    append_all(&mut mock, vec![large(0)]);
    // The mock keeps about 5 MiB of a partition.
    for number in 1..10 {
        append_all(&mut mock, vec![large(number)]);
    }
    let mut reader = mock.reader();
    let Bounds { first, end } = reader.bounds(&partition).unwrap();
    assert!(first > 0 && end == 10, "{first} to {end}");
    reader.open(&partition, 0).unwrap();
    let error = until(&mut mock, "the error of an offset that is gone", |_| reader.read(&mut Vec::new()).err());
    assert_eq!(error.remedy, Remedy::Restore, "{error}");
    reader.open(&partition, first).unwrap();
    let mut records = Vec::new();
    until(&mut mock, "the end", |_| (reader.read(&mut records).unwrap() == end).then_some(()));
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (first..end).collect::<Vec<_>>());
}

#[test]
fn f12_questions_survive_errors_or_ask_to_be_put_again() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 3);
    let mut reader = mock.reader();
    let whole = Bounds { first: 0, end: 3 };
    let codes = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for code in codes {
        for api in [Api::ListOffsets, Api::Metadata] {
            mock.fail(api, &[code]);
        }
        let found = until(&mut mock, "an answer", |_| again(reader.bounds(&partition)));
        assert_eq!(found, whole, "{code:?}");
    }
}

/// The answer; none if the question is to be put again.
fn again<T>(outcome: Result<T, Error>) -> Option<T> {
    outcome.map_err(|error| assert_eq!(error.remedy, Remedy::Retry, "{error}")).ok()
}

#[test]
fn f12_a_read_waits_out_brokers_that_are_gone_and_names_them_to_who_asks() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 5);
    let mut reader = mock.reader();
    reader.open(&partition, 0).unwrap();
    let mut records = Vec::new();
    read_on(&mut mock, &mut *reader, &mut records, 5);
    mock.all_brokers_down();
    let error = reader.bounds(&partition).unwrap_err();
    assert_eq!(error.remedy, Remedy::Retry);
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    mock.all_brokers_up();
    write(&mut mock, &partition, 5..10);
    let errors = read_on(&mut mock, &mut *reader, &mut records, 10);
    assert!(errors.iter().all(|error| error.remedy == Remedy::Retry), "{errors:?}");
}

#[test]
fn f12_a_slow_link_makes_a_read_slow_and_nothing_else() {
    let mut mock = MockLog::start();
    let partition = partition_of(&mut mock, 10);
    mock.round_trip(Duration::from_millis(200));
    let mut reader = mock.reader();
    assert_eq!(reader.bounds(&partition).unwrap(), Bounds { first: 0, end: 10 });
    reader.open(&partition, 0).unwrap();
    let errors = read_on(&mut mock, &mut *reader, &mut Vec::new(), 10);
    assert!(errors.is_empty(), "{errors:?}");
}

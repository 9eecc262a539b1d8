//! Appender and reader.

use super::{LogUnderTest, until};
use crate::base::ids::{TopicId, TopicPartition};
use crate::base::time::UnixMs;
use crate::port::log::{Ack, Append, AppendRefused, Bounds};
use crate::record::raw::{Headers, RawRecord};
use bytes::Bytes;
use std::sync::Arc;

/// Appends one record per value and returns their offsets.
pub fn append(log: &mut dyn LogUnderTest, to: &TopicPartition, values: &[&str]) -> Vec<i64> {
    let records = values.iter().map(|value| plain(to, value)).collect();
    append_all(log, records)
}

pub fn plain(to: &TopicPartition, value: &str) -> Append {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Append { to: to.clone(), key: Some(value.clone()), value: Some(value), headers: Headers::new() }
}

/// Appends all and returns their offsets in the order of `records`; checks that the acks came in that order.
pub fn append_all(log: &mut dyn LogUnderTest, records: Vec<Append>) -> Vec<i64> {
    let mut appender = log.appender();
    let mut acks: Vec<Ack> = Vec::new();
    let count = records.len();
    for (record, token) in records.into_iter().zip(0..) {
        let mut offered = Some(record);
        until(log, "a place in the appender's queue", |_| {
            match appender.append(offered.take()?, token) {
                Ok(()) => return Some(()),
                Err(AppendRefused::QueueFull(back)) => offered = Some(*back),
                Err(AppendRefused::Failed(error)) => panic!("append refused: {error}"),
            }
            appender.poll_acks(&mut acks);
            None
        });
    }
    until(log, "acks for everything appended", |_| {
        appender.poll_acks(&mut acks);
        (acks.len() == count).then_some(())
    });
    acks.sort_by_key(|ack| ack.token);
    acks.into_iter().map(|ack| ack.outcome.unwrap_or_else(|error| panic!("append failed: {error}"))).collect()
}

/// Everything from `from` to the end that the partition has now, and the position after it.
pub fn read_to_end(log: &mut dyn LogUnderTest, partition: &TopicPartition, from: i64) -> (Vec<RawRecord>, i64) {
    let mut reader = log.reader();
    let end = reader.bounds(partition).unwrap().end;
    reader.open(partition, from).unwrap();
    let mut records = Vec::new();
    let position = until(log, "the end of the partition", |_| {
        let position = reader.read(&mut records).unwrap();
        (position >= end).then_some(position)
    });
    reader.close();
    (records, position)
}

pub fn appends_are_acknowledged_in_order_and_read_back_whole(log: &mut dyn LogUnderTest) {
    let topic = log.unique("whole");
    log.create_topic(&topic, 2);
    let first = TopicPartition::new(Arc::clone(&topic), 0);
    let second = TopicPartition::new(Arc::clone(&topic), 1);
    let header = |name: &str, value: Option<&'static str>| (Arc::from(name), value.map(Bytes::from));
    let mut records = vec![
        Append {
            to: first.clone(),
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from(vec![7; 100_000])),
            headers: vec![header("a", Some("1")), header("a", None), header("", Some(""))].into(),
        },
        Append { to: first.clone(), key: None, value: Some(Bytes::new()), headers: Headers::new() },
        Append { to: first.clone(), key: Some(Bytes::from("gone")), value: None, headers: Headers::new() },
    ];
    for number in 0..1_000 {
        records.push(plain(if number % 2 == 0 { &first } else { &second }, &format!("value {number}")));
    }
    let offsets = append_all(log, records.clone());
    for partition in [&first, &second] {
        let (read, position) = read_to_end(log, partition, 0);
        let appended: Vec<_> = records.iter().zip(&offsets).filter(|(record, _)| record.to == *partition).collect();
        assert_eq!(position, appended.len() as i64);
        assert_eq!(read.len(), appended.len());
        for (record, (expected, offset)) in read.iter().zip(appended) {
            assert_eq!((record.offset, &record.topic, record.partition), (*offset, &topic, partition.partition));
            assert_eq!(
                (&record.key, &record.value, record.headers.as_slice()),
                (&expected.key, &expected.value, expected.headers.as_slice())
            );
            assert!(record.appended_at > UnixMs(0));
        }
        assert!(read.iter().zip(0..).all(|(record, offset)| record.offset == offset), "appends keep their order");
    }
}

pub fn a_read_begins_anywhere_and_its_position_ends_at_the_end(log: &mut dyn LogUnderTest) {
    let topic = log.unique("position");
    log.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    assert_eq!(log.reader().bounds(&partition).unwrap(), Bounds { first: 0, end: 0 });
    assert_eq!(read_to_end(log, &partition, 0).1, 0, "an empty partition is at its end at once");
    append(log, &partition, &["a", "b", "c", "d"]);
    assert_eq!(log.reader().bounds(&partition).unwrap(), Bounds { first: 0, end: 4 });
    let (records, position) = read_to_end(log, &partition, 2);
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(position, 4);
    assert_eq!(read_to_end(log, &partition, 4), (Vec::new(), 4));

    let mut reader = log.reader();
    reader.open(&partition, 3).unwrap();
    let mut records = Vec::new();
    until(log, "the position at the end", |_| (reader.read(&mut records).unwrap() == 4).then_some(()));
    append(log, &partition, &["e"]);
    until(log, "a record that was appended during the read", |_| (reader.read(&mut records).unwrap() == 5).then_some(()));
    assert_eq!(records.len(), 2);
    reader.open(&partition, 0).unwrap();
    records.clear();
    until(log, "the whole partition, opened anew", |_| (reader.read(&mut records).unwrap() == 5).then_some(()));
    assert_eq!(records.len(), 5);
}

pub fn an_unknown_topic_has_no_partitions(log: &mut dyn LogUnderTest) {
    let topic = log.unique("unknown");
    let mut reader = log.reader();
    assert_eq!(reader.partition_count(&topic).unwrap(), None);
    assert_eq!(reader.partition_count(&topic).unwrap(), None, "asking does not create it");
    log.create_topic(&topic, 3);
    until(log, "the new topic", |_| (reader.partition_count(&topic).unwrap() == Some(3)).then_some(()));
}

pub fn a_topic_keeps_its_id_and_has_another_one_when_it_is_created_again(log: &mut dyn LogUnderTest) {
    let (topic, other) = (log.unique("identity"), log.unique("identity"));
    log.create_topic(&topic, 1);
    log.create_topic(&other, 1);
    let partition = TopicPartition::new(topic.clone(), 0);
    let mut reader = log.reader();
    let mut id = |log: &mut dyn LogUnderTest, topic: &str, not: Option<&TopicId>| {
        until(log, "an id", |_| reader.describe(topic).unwrap()?.id.filter(|id| Some(id) != not))
    };
    let first = id(log, &topic, None);
    assert_ne!(id(log, &other, None), first);
    append(log, &partition, &["a", "b"]);
    assert_eq!(id(log, &topic, None), first);
    log.delete_topic(&topic);
    let mut asked = log.reader();
    until(log, "the end of the topic", |_| asked.describe(&topic).unwrap().is_none().then_some(()));
    log.create_topic(&topic, 1);
    append(log, &partition, &["a", "b"]);
    let second = id(log, &topic, Some(&first));
    assert_eq!(id(log, &topic, None), second);
}

pub fn an_offset_is_found_by_the_time_of_its_append(log: &mut dyn LogUnderTest) {
    let topic = log.unique("time");
    log.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    append(log, &partition, &["a"]);
    let first = read_to_end(log, &partition, 0).0[0].appended_at;
    // Time passes with each wait; append until it has moved on.
    let (later, offset) = until(log, "a later append time", |log| {
        let offset = append(log, &partition, &["b"])[0];
        let at = read_to_end(log, &partition, offset).0[0].appended_at;
        (at > first).then_some((at, offset))
    });
    let mut reader = log.reader();
    assert_eq!(reader.offset_at(&partition, UnixMs(0)).unwrap(), 0);
    assert_eq!(reader.offset_at(&partition, first).unwrap(), 0);
    assert_eq!(reader.offset_at(&partition, later).unwrap(), offset);
    assert_eq!(reader.offset_at(&partition, UnixMs(later.0 + 1)).unwrap(), offset + 1, "the end, if there is none");
}

//! The appender: every append ends in exactly one ack, and the log holds what was acknowledged, in append order.

use crate::cluster::{BROKERS, MockLog, until};
use driftless::base::error::{Error, Remedy};
use driftless::base::ids::TopicPartition;
use driftless::port::log::{Ack, AppendRefused, Appender};
use driftless::testing::conformance::log::{LogUnderTest, plain, read_to_end};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::time::{Duration, Instant};

struct Writer {
    appender: Box<dyn Appender>,
    to: TopicPartition,
    appended: u64,
    acks: Vec<Ack>,
}

impl Writer {
    fn new(mock: &mut MockLog) -> Self {
        let topic = mock.unique("written");
        mock.create_topic(&topic, 1);
        Self { appender: mock.appender(), to: TopicPartition::new(topic, 0), appended: 0, acks: Vec::new() }
    }

    /// The value of an append is its token.
    fn append(&mut self, count: u64) {
        for token in self.appended..self.appended + count {
            self.appender.append(plain(&self.to, &token.to_string()), token).unwrap();
        }
        self.appended += count;
    }

    /// How many were taken before one was given back, as it was.
    fn append_until_full(&mut self) -> u64 {
        let before = self.appended;
        loop {
            let value = self.appended.to_string();
            match self.appender.append(plain(&self.to, &value), self.appended) {
                Ok(()) => self.appended += 1,
                Err(AppendRefused::QueueFull(back)) => {
                    assert_eq!(back.value.as_deref(), Some(value.as_bytes()));
                    return self.appended - before;
                }
                Err(other) => panic!("refused: {other:?}"),
            }
        }
    }

    fn append_and_wait(&mut self, mock: &mut MockLog, count: u64) {
        self.append(count);
        self.all_answered(mock);
    }

    fn all_answered(&mut self, mock: &mut MockLog) {
        until(mock, "an ack for every append", |_| {
            self.appender.poll_acks(&mut self.acks);
            (self.acks.len() as u64 >= self.appended).then_some(())
        });
        let tokens: Vec<u64> = self.acks.iter().map(|ack| ack.token).collect();
        assert_eq!(tokens, (0..self.appended).collect::<Vec<_>>(), "acks come once each and in append order");
    }

    fn failures(&self) -> Vec<&Error> {
        self.acks.iter().filter_map(|ack| ack.outcome.as_ref().err()).collect()
    }

    /// What was acknowledged is there, at its offset; nothing is there that was never acknowledged, twice, or out of
    /// order. `lost_replies`: the mock, unlike a broker, stores a batch again that is sent again.
    fn check_log(&self, mock: &mut MockLog, lost_replies: bool) {
        let (records, _) = read_to_end(mock, &self.to, 0);
        let token = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap();
        let mut found: Vec<u64> = records.iter().map(|record| token(record.value.as_deref().unwrap())).collect();
        for ack in &self.acks {
            if let Ok(offset) = ack.outcome {
                assert_eq!(found[usize::try_from(offset).unwrap()], ack.token, "another record lies at the ack's offset");
            }
        }
        if lost_replies {
            let mut seen = std::collections::BTreeSet::new();
            found.retain(|token| seen.insert(*token));
        }
        let mut expected: Vec<u64> = self.acks.iter().filter(|ack| ack.outcome.is_ok()).map(|ack| ack.token).collect();
        if lost_replies {
            // One whose reply got lost for good may be there or not.
            expected.extend(found.iter().filter(|token| self.acks[**token as usize].outcome.is_err()));
            expected.sort_unstable();
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn f12_appends_stay_in_order_while_the_leader_moves() {
    let mut mock = MockLog::start();
    let mut writer = Writer::new(&mut mock);
    for round in 0..20 {
        mock.lead(&writer.to.topic, 0, round % BROKERS + 1);
        writer.append(50);
        if round % 3 == 0 {
            writer.all_answered(&mut mock);
        }
    }
    writer.all_answered(&mut mock);
    assert!(writer.failures().is_empty(), "{:?}", writer.failures());
    writer.check_log(&mut mock, false);
}

#[test]
fn f19_a_topic_that_restarting_brokers_do_not_know_for_a_while_costs_no_append() {
    let mut mock = MockLog::start();
    let mut writer = Writer::new(&mut mock);
    writer.append_and_wait(&mut mock, 100);
    mock.cluster().topic_error(&writer.to.topic, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let (produced, asked) = (mock.requests(Api::Produce), mock.requests(Api::Metadata));
    mock.fail(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; 3]);
    writer.append(200);
    mock.until_requests(Api::Produce, produced + 1);
    mock.until_requests(Api::Metadata, asked + 2);
    mock.cluster().topic_error(&writer.to.topic, Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    writer.all_answered(&mut mock);
    assert!(writer.failures().is_empty(), "{:?}", writer.failures());
    writer.check_log(&mut mock, false);
}

#[test]
fn f19_appends_to_a_topic_that_stays_unknown_are_given_back_with_what_to_do() {
    let mut mock = MockLog::start();
    mock.set("topic.metadata.propagation.max.ms", "500");
    mock.set("message.timeout.ms", "3000");
    let topic = mock.unique("unknown");
    let mut appender = mock.appender();
    appender.append(plain(&TopicPartition::new(topic, 0), "x"), 7).unwrap();
    let mut acks = Vec::new();
    until(&mut mock, "the ack of an append to nowhere", |_| {
        appender.poll_acks(&mut acks);
        (!acks.is_empty()).then_some(())
    });
    let error = acks[0].outcome.as_ref().unwrap_err();
    assert_eq!((acks[0].token, error.remedy), (7, Remedy::Retry), "{error}");
    assert!(error.to_string().contains("driftless topics create"), "{error}");
    assert_eq!(mock.reader().partition_count("unknown-0").unwrap(), None, "an append does not make its topic");
}

#[test]
fn f09_appends_that_no_broker_takes_in_time_are_given_back_and_later_ones_go_through() {
    let mut mock = MockLog::start();
    mock.set("message.timeout.ms", "1500");
    let mut writer = Writer::new(&mut mock);
    writer.append_and_wait(&mut mock, 50);
    mock.all_brokers_down();
    writer.append_and_wait(&mut mock, 50);
    for error in writer.failures() {
        assert_eq!(error.remedy, Remedy::Retry, "{error}");
        assert!(error.to_string().contains("message.timeout.ms"), "{error}");
    }
    assert_eq!(writer.failures().len(), 50);
    mock.all_brokers_up();
    writer.append_and_wait(&mut mock, 50);
    assert_eq!(writer.failures().len(), 50, "{:?}", writer.failures().last());
    writer.check_log(&mut mock, true);
}

#[test]
fn f19_connections_cut_in_the_middle_of_appending_lose_nothing() {
    let mut mock = MockLog::start();
    let mut writer = Writer::new(&mut mock);
    for round in 0..6 {
        writer.append(50);
        match round % 3 {
            0 => mock.fail(Api::Produce, &[Code::RD_KAFKA_RESP_ERR__TRANSPORT]),
            1 => mock.cluster().broker_down(round % BROKERS + 1).unwrap(),
            _ => mock.all_brokers_up(),
        }
        writer.append(50);
    }
    mock.all_brokers_up();
    writer.all_answered(&mut mock);
    assert!(writer.failures().is_empty(), "{:?}", writer.failures());
    writer.check_log(&mut mock, true);
}

#[test]
fn f09_slow_brokers_fill_the_queue_and_the_rest_is_given_back() {
    let mut mock = MockLog::start();
    mock.set("queue.buffering.max.messages", "100");
    let mut writer = Writer::new(&mut mock);
    writer.append_and_wait(&mut mock, 1);
    mock.round_trip(Duration::from_millis(300));
    let taken = writer.append_until_full();
    // librdkafka may still count a record whose ack it has just given out.
    assert!((99..=100).contains(&taken), "{taken} taken");
    writer.all_answered(&mut mock);
    mock.round_trip(Duration::ZERO);
    writer.append_and_wait(&mut mock, 50);
    assert!(writer.failures().is_empty(), "{:?}", writer.failures());
    writer.check_log(&mut mock, false);
}

#[test]
fn f09_an_appender_that_is_dropped_while_brokers_are_silent_does_not_hang() {
    let mut mock = MockLog::start();
    let mut writer = Writer::new(&mut mock);
    writer.append_and_wait(&mut mock, 1);
    mock.all_brokers_down();
    writer.append(100);
    let begun = Instant::now();
    drop(writer);
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

/// The errors that pass by themselves are the client's own business; each of the others says what cures it.
#[test]
fn f19_each_error_of_a_produce_request_passes_or_carries_its_remedy() {
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for code in passing {
        let acks = acks_of_ten(code);
        assert!(acks.iter().all(|ack| ack.outcome.is_ok()), "{code:?}: {acks:?}");
    }
    let lasting = [
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Remedy::Refuse, "ACLs"),
        (Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, Remedy::Refuse, "ACLs"),
        (Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Remedy::Refuse, "max.message.bytes"),
        (Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, Remedy::Refuse, "max.message.bytes"),
        (Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, Remedy::Fatal, "restart"),
    ];
    for (code, remedy, advice) in lasting {
        let acks = acks_of_ten(code);
        let error = acks[0].outcome.as_ref().expect_err("the first was refused");
        assert_eq!(error.remedy, remedy, "{code:?}: {error}");
        assert!(error.to_string().contains(advice), "{code:?}: {error}");
    }
}

/// One request fails with `code`.
fn acks_of_ten(code: Code) -> Vec<Ack> {
    let mut mock = MockLog::start();
    let mut writer = Writer::new(&mut mock);
    mock.fail(Api::Produce, &[code]);
    for token in 0..10 {
        // After an error for good, nothing more is taken.
        if let Err(AppendRefused::QueueFull(_)) = writer.appender.append(plain(&writer.to, &token.to_string()), token) {
            panic!("ten do not fill the queue");
        }
        writer.appended += 1;
        if token == 0 {
            writer.all_answered(&mut mock);
            if writer.acks[0].outcome.is_err() {
                return writer.acks;
            }
        }
    }
    writer.all_answered(&mut mock);
    writer.check_log(&mut mock, false);
    writer.acks
}

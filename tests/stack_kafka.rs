//! The Kafka adapter against a real broker. Skipped unless DRIFTLESS_US_KAFKA names one (`scripts/stack.sh env`).

// Against real servers time is real, and a member in a process of its own speaks through its standard output.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

#[path = "stack_kafka/broker.rs"]
mod broker;
#[path = "stack_kafka/churn.rs"]
mod churn;
#[path = "stack_kafka/member.rs"]
mod member;

use broker::RealLog;
use driftless::adapter::kafka::{KafkaGroupConsumer, KafkaSettings, Subscription};
use driftless::base::error::Remedy;
use driftless::base::ids::{Region, TopicPartition};
use driftless::port::log::{Append, LogEvent, LogReader};
use driftless::record::size::{COPY_BYTES_MAX, RECORD_BYTES_MAX};
use driftless::stream::source_check::check;
use driftless::task::settlement::{Mark, fingerprint};
use driftless::task::stream_task::SourceStart;
use driftless::testing::conformance::log::{self, LogUnderTest, Member, append, plain, read_to_end, until};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn the_log_ports_behave_as_every_log_must() {
    let Some(mut real) = RealLog::connect() else { return };
    log::all(&mut real);
}

#[test]
fn members_of_one_process_are_known_for_such_in_the_view_of_the_group() {
    let Some(mut real) = RealLog::connect() else { return };
    let (topic, group) = (real.unique("processes"), real.unique("group"));
    real.create_topic(&topic, 3);
    let join = |client_id: &str| {
        let settings =
            KafkaSettings { client_id: client_id.to_owned(), ..broker::settings(&broker::servers().unwrap(), &group, &[]) };
        let subscription = Subscription { local: Arc::clone(&topic), co_topics: Vec::new() };
        let consumer = KafkaGroupConsumer::new(&settings, &[subscription], Arc::new(|| {})).unwrap();
        (settings.member_client_id(), Member::over(Box::new(consumer), Arc::clone(&topic)))
    };
    let mut members = [join("one"), join("one"), join("other")];
    let mut view = real.view(&group);
    let found = until(&mut real, "one partition for each", |_| {
        members.iter_mut().for_each(|(_, member)| member.poll());
        let found = view.members().unwrap()?;
        // The group may tell of an assignment before the member itself has heard of it.
        let told = members.iter().all(|(_, member)| member.owned.len() == 1);
        (told && found.len() == 3 && found.iter().all(|member| member.partitions.len() == 1)).then_some(found)
    });
    let mut processes: Vec<&str> = found.iter().map(|member| member.process.as_str()).collect();
    processes.sort_unstable();
    assert_eq!(processes, ["one-worker", "one-worker", "other-worker"]);
    for (process, member) in &members {
        let seen = found.iter().filter(|seen| seen.process == *process).flat_map(|seen| &seen.partitions);
        assert!(seen.into_iter().any(|partition| member.owned.contains(partition)), "{found:?}");
    }
}

#[test]
fn the_log_ports_behave_so_under_an_eager_protocol_too() {
    let Some(mut real) = RealLog::connect() else { return };
    real.set("partition.assignment.strategy", "range");
    log::nothing_is_fetched_before_it_is_asked_for_and_a_second_request_goes_back(&mut real);
    log::a_revocation_waits_for_its_release(&mut real);
    log::a_position_beyond_the_log_is_reported_and_can_be_mended(&mut real);
}

#[test]
fn a_mirror_that_is_created_later_is_taken_up() {
    let Some(mut real) = RealLog::connect() else { return };
    let local = real.unique("late-mirror");
    let mirror: Arc<str> = Arc::from(format!("us.{local}"));
    let group = real.unique("group");
    real.create_topic(&local, 2);
    let mut member = Member::join(&mut real, &group, &local, &mirror);
    let ours = TopicPartition::new(Arc::clone(&local), 0);
    append(&mut real, &ours, &["a"]);
    until(&mut real, "a local record, with the mirror missing", |_| {
        member.poll();
        member.has(&ours, 0).then_some(())
    });
    real.create_topic(&mirror, 2);
    let theirs = TopicPartition::new(mirror, 1);
    append(&mut real, &theirs, &["b"]);
    until(&mut real, "a record of the mirror", |_| {
        member.poll();
        member.has(&theirs, 0).then_some(())
    });
    assert!(member.out_of_range.is_empty());
}

#[test]
fn f26_a_read_ends_although_the_log_ends_in_control_records() {
    let Some(mut real) = RealLog::connect() else { return };
    let topic = real.unique("holes");
    real.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    append(&mut real, &partition, &["before"]);
    real.append_transaction(&partition, &["inside"], true);
    real.append_transaction(&partition, &["aborted"], false);
    // The coordinator answers first and writes the transaction's marker after that.
    let mut reader = real.reader();
    until(&mut real, "the last control record", |_| (reader.bounds(&partition).unwrap().end >= 5).then_some(()));
    let (records, position) = read_to_end(&mut real, &partition, 0);
    assert_eq!(records.len(), 3, "read_uncommitted: aborted ones too");
    assert_eq!(position, 5, "one control record after each transaction");
    assert_eq!(read_to_end(&mut real, &partition, 4), (Vec::new(), 5), "nothing but a hole is left");
}

#[test]
fn f27_an_emptied_log_with_an_end_is_at_its_end_at_once() {
    let Some(mut real) = RealLog::connect() else { return };
    let topic = real.unique("emptied");
    real.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    append(&mut real, &partition, &["a", "b", "c"]);
    real.delete_records(&partition, 3);
    let mut reader = real.reader();
    let bounds = reader.bounds(&partition).unwrap();
    assert_eq!((bounds.first, bounds.end), (3, 3));
    assert_eq!(read_to_end(&mut real, &partition, 3), (Vec::new(), 3));
    reader.open(&partition, 1).unwrap();
    let mut records = Vec::new();
    let error = until(&mut real, "the error of a purged offset", |_| reader.read(&mut records).err());
    assert_eq!(error.remedy, Remedy::Restore, "{error}");
}

#[test]
fn header_names_that_are_not_utf8_stop_nothing() {
    let Some(mut real) = RealLog::connect() else { return };
    let topic = real.unique("header");
    real.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    real.append_with_header_name(&partition, c"caf\xe9");
    let (records, _) = read_to_end(&mut real, &partition, 0);
    assert_eq!(&*records[0].headers[0].0, "caf\u{fffd}");
}

#[test]
fn every_record_wakes_a_member_that_sleeps() {
    let Some(mut real) = RealLog::connect() else { return };
    // Statistics would wake it every second.
    real.set("statistics.interval.ms", "0");
    let local = real.unique("wake");
    let mirror: Arc<str> = Arc::from(format!("us.{local}"));
    let group = real.unique("group");
    real.create_topic(&local, 1);
    real.create_topic(&mirror, 1);
    let mut member = Member::join(&mut real, &group, &local, &mirror);
    let theirs = TopicPartition::new(mirror, 0);
    let mut appender = real.appender();
    for offset in 0..100 {
        appender.append(plain(&theirs, "x"), 0).unwrap();
        loop {
            member.poll();
            if member.has(&theirs, offset) {
                break;
            }
            let slept = std::time::Instant::now();
            real.sleep_until_woken(Duration::from_secs(20));
            assert!(slept.elapsed() < Duration::from_secs(20), "not woken for record {offset}");
        }
    }
}

#[test]
fn f10_of_two_members_with_one_instance_id_the_older_is_told_to_end() {
    let Some(mut real) = RealLog::connect() else { return };
    let local = real.unique("fenced");
    let group = real.unique("group");
    real.create_topic(&local, 2);
    real.instance("the-same");
    let mut older = real.join(&group, &local, &local);
    let mut events = Vec::new();
    until(&mut real, "the older member's assignment", |_| {
        older.poll(100, &mut events);
        events.iter().any(|event| matches!(event, LogEvent::Assigned(_))).then_some(())
    });
    let mut newer = real.join(&group, &local, &local);
    let error = until(&mut real, "the end of the older member", |_| {
        newer.poll(100, &mut Vec::new());
        events.clear();
        older.poll(100, &mut events);
        events.drain(..).find_map(|event| match event {
            LogEvent::Fault(error) if error.remedy == Remedy::Fatal => Some(error),
            _ => None,
        })
    });
    assert!(error.to_string().contains("group_instance_id"), "{error}");
    let started = std::time::Instant::now();
    drop(older);
    assert!(started.elapsed() < Duration::from_secs(5), "a fenced member must not hang when it ends");
}

#[test]
fn f11_a_mirror_that_is_created_again_under_a_member_is_noticed_and_nothing_hangs() {
    let Some(mut real) = RealLog::connect() else { return };
    let local = real.unique("again");
    let mirror: Arc<str> = Arc::from(format!("us.{local}"));
    let group = real.unique("group");
    real.create_topic(&local, 1);
    real.create_topic(&mirror, 1);
    let theirs = TopicPartition::new(Arc::clone(&mirror), 0);
    append(&mut real, &theirs, &["a", "b", "c", "d"]);
    let mut member = Member::join(&mut real, &group, &local, &mirror);
    until(&mut real, "the mirror's records", |_| {
        member.poll();
        member.has(&theirs, 3).then_some(())
    });
    real.delete_topic(&mirror);
    for _ in 0..100 {
        member.poll();
        real.wait();
    }
    real.create_topic(&mirror, 1);
    append(&mut real, &theirs, &["new"]);
    until(&mut real, "the report that the position is beyond the new log", |_| {
        member.poll();
        (!member.out_of_range.is_empty()).then_some(())
    });
    member.records.clear();
    member.fetch(&theirs, 0);
    until(&mut real, "the new log's record", |_| {
        member.poll();
        member.has(&theirs, 0).then_some(())
    });
    let started = std::time::Instant::now();
    drop(member);
    assert!(started.elapsed() < Duration::from_secs(5), "leaving must not hang");
}

#[test]
fn f35_f66_a_topic_with_the_same_beginning_as_the_one_before_is_known_for_another_by_its_id() {
    let Some(mut real) = RealLog::connect() else { return };
    let mirror = real.unique("us.alike");
    real.create_timed_by_producers(&mirror);
    let at = TopicPartition::new(Arc::clone(&mirror), 0);
    let copy = |real: &RealLog| ["a", "b", "c", "d"].iter().for_each(|value| real.append_at(&at, value, 1_700_000_000_000));
    copy(&real);
    let mut reader = real.reader();
    let fresh = SourceStart {
        region: Region::new("us"),
        topic: Arc::clone(&mirror),
        topic_id: None,
        next_offset: 0,
        mark: None,
        frontier: None,
        since: None,
        present: false,
    };
    let begun = check(reader.as_mut(), fresh, 0, 1).unwrap().start;
    assert!(begun.present && begun.topic_id.is_some(), "{begun:?}");
    let last = read_to_end(&mut real, &at, 3).0.remove(0);
    let mark = Mark { appended_at: last.appended_at, fingerprint: fingerprint(&last) };
    let settled = SourceStart { next_offset: 4, mark: Some(mark), ..begun };
    let same = check(reader.as_mut(), settled.clone(), 0, 1).unwrap();
    assert!(!same.replay && same.warning.is_none() && same.start.topic_id == settled.topic_id, "{same:?}");

    real.delete_topic(&mirror);
    let gone = until(&mut real, "the end of the topic", |_| {
        let checked = check(reader.as_mut(), settled.clone(), 0, 1).unwrap();
        (!checked.start.present).then_some(checked.start)
    });
    assert_eq!(gone.topic_id, settled.topic_id, "what was read is still meant of it");
    real.create_timed_by_producers(&mirror);
    copy(&real);
    let by_record = SourceStart { topic_id: None, ..settled.clone() };
    let unknown = until(&mut real, "the new topic", |_| check(reader.as_mut(), by_record.clone(), 0, 1).ok());
    assert!(!unknown.replay, "the record alone tells nothing");
    let found = check(reader.as_mut(), settled.clone(), 0, 1).unwrap();
    assert!(found.replay && found.start.next_offset == 0 && found.start.mark.is_none(), "{found:?}");
    assert!(found.start.topic_id.is_some() && found.start.topic_id != settled.topic_id, "{found:?}");
    let warning = found.warning.unwrap();
    assert!(warning.contains("created again"), "{warning}");
}

#[test]
fn an_appender_that_meets_no_broker_gives_records_back_when_its_queue_is_full() {
    use driftless::port::log::{AppendRefused, Appender};
    let settings = broker::settings("127.0.0.1:1", "nobody", &[("queue.buffering.max.messages", "10")]);
    let mut appender = driftless::adapter::kafka::KafkaAppender::new(&settings, Arc::new(|| {})).unwrap();
    let to = TopicPartition::new("nowhere", 0);
    for token in 0..10 {
        appender.append(plain(&to, "x"), token).unwrap();
    }
    match appender.append(plain(&to, "the eleventh"), 10) {
        Err(AppendRefused::QueueFull(back)) => assert_eq!(back.value.as_deref(), Some(&b"the eleventh"[..])),
        other => panic!("taken beyond the limit: {other:?}"),
    }
}

/// What `record/size.rs` rests on.
#[test]
fn a_topic_takes_more_than_a_copy_may_have_and_a_copy_of_the_largest_record_is_taken() {
    let Some(mut real) = RealLog::connect() else { return };
    let (source, copies) = (real.unique("large"), real.unique("copies"));
    real.create_topic_for(&source, 1 << 20);
    real.create_topic_for(&copies, COPY_BYTES_MAX);
    let at = TopicPartition::new(source, 0);
    real.append_compressed(&at, &vec![0; COPY_BYTES_MAX + 1]);
    let value_bytes =
        |real: &mut RealLog, at: &TopicPartition| read_to_end(real, at, 0).0[0].value.as_ref().map(bytes::Bytes::len);
    assert_eq!(value_bytes(&mut real, &at), Some(COPY_BYTES_MAX + 1), "compressed, it is small");

    let to = TopicPartition::new(copies, 0);
    let detail = ("driftless.detail".into(), Some(vec![b'x'; 4 << 10].into()));
    let largest =
        Append { to: to.clone(), key: None, value: Some(vec![0; RECORD_BYTES_MAX].into()), headers: vec![detail].into() };
    let mut appender = real.appender();
    appender.append(largest, 1).unwrap();
    let mut acks = Vec::new();
    until(&mut real, "the ack", |_| {
        appender.poll_acks(&mut acks);
        acks.pop()
    })
    .outcome
    .expect("it fits");
    assert_eq!(value_bytes(&mut real, &to), Some(RECORD_BYTES_MAX));
}

#[test]
fn an_unreachable_broker_is_named_as_the_cause() {
    let settings = broker::settings("127.0.0.1:1", "nobody", &[]);
    // One for each: librdkafka does not say the same thing twice in a row.
    let reader = || driftless::adapter::kafka::KafkaLogReader::new(&settings).unwrap();
    let bounds = reader().bounds(&TopicPartition::new("nowhere", 0)).unwrap_err();
    let description = reader().describe("nowhere").unwrap_err();
    for error in [bounds, description] {
        assert_eq!(error.remedy, Remedy::Retry);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}

/// Run in a process of its own by the churn tests; does nothing otherwise.
#[test]
fn group_member_process() {
    member::run_if_asked();
}

/// Side by side, since most of it is waiting for session time-outs.
#[test]
fn members_come_go_stall_and_die_and_nothing_is_lost_or_stuck() {
    let mut runs = vec![("cooperative-sticky", false), ("range", false), ("roundrobin", false), ("cooperative-sticky", true)];
    if std::env::var_os("DRIFTLESS_CHURN").is_some() {
        // KIP-848, whose session time-out is the broker's: 45 s.
        runs.push(("consumer", false));
    }
    std::thread::scope(|scope| {
        for ((strategy, is_static), seed) in runs.into_iter().zip(1..) {
            scope.spawn(move || churn::run(strategy, is_static, seed));
        }
    });
}

/// Not a test of correctness: prints how fast a partition of small records is read back.
#[test]
fn restore_speed() {
    let Some(mut real) = RealLog::connect() else { return };
    let Some(count) = std::env::var("DRIFTLESS_RESTORE_RECORDS").ok().and_then(|count| count.parse::<i64>().ok()) else {
        eprintln!("skipped: DRIFTLESS_RESTORE_RECORDS is not set");
        return;
    };
    let topic = real.unique("restore");
    real.create_topic(&topic, 1);
    let partition = TopicPartition::new(topic, 0);
    let records = (0..count).map(|number| plain(&partition, &format!("{number:019}"))).collect();
    log::append_all(&mut real, records);
    let mut reader = real.reader();
    let started = std::time::Instant::now();
    reader.open(&partition, 0).unwrap();
    let (mut batch, mut total) = (Vec::new(), 0);
    while reader.read(&mut batch).unwrap() < count {
        total += batch.len();
        batch.clear();
    }
    let took: Duration = started.elapsed();
    eprintln!("{} records in {took:?}: {:.0} a second", total + batch.len(), count as f64 / took.as_secs_f64());
}

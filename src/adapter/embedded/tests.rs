use super::broker::{Broker, Compaction, Message, TimestampType};
use super::mirror::MirrorLink;
use super::vector::{Database, EmbeddedStore};
use super::{EmbeddedAppender, EmbeddedConsumer, EmbeddedReader};
use crate::base::ids::{CollectionId, Region, TopicPartition, VectorId};
use crate::base::time::{Clock, Now, UnixMs};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::log::{Append, AppendRefused, Appender, GroupConsumer, LogEvent, LogReader, Wake};
use crate::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, VectorStore};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crate::record::raw::Headers;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that stands still until it is moved; its wall time began at one million.
#[derive(Clone, Default)]
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::Relaxed);
        Now { wall: UnixMs(1_000_000 + ms as i64), monotonic: Duration::from_millis(ms) }
    }
}

const SESSION: Duration = Duration::from_secs(10);

fn silent() -> Wake {
    Arc::new(|| {})
}

fn broker(clock: &ManualClock) -> Arc<Broker> {
    let broker = Broker::new(Box::new(clock.clone()), SESSION);
    broker.create_topic("vector-cdc", 2, TimestampType::LogAppendTime).expect("new topic");
    broker.create_topic("us.vector-cdc", 2, TimestampType::CreateTime).expect("new topic");
    broker
}

fn member(broker: &Arc<Broker>) -> EmbeddedConsumer {
    EmbeddedConsumer::join(broker.clone(), "group", vec![Arc::from("vector-cdc")], silent())
}

fn local(number: i32) -> TopicPartition {
    TopicPartition::new("vector-cdc", number)
}

fn mirror(number: i32) -> TopicPartition {
    TopicPartition::new("us.vector-cdc", number)
}

fn put(broker: &Broker, to: &TopicPartition, value: &str) {
    let message = Message { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Message::default() };
    broker.append(to, message).expect("an existing partition");
}

/// A poll in short: `+vector-cdc[0]`, `-…`, `lost …`, `gone …` and records as `partition:value`.
fn poll(consumer: &mut EmbeddedConsumer) -> Vec<String> {
    let mut events = Vec::new();
    consumer.poll(100, &mut events);
    let list = |sign: &str, partitions: Vec<TopicPartition>| partitions.iter().map(|p| format!("{sign}{p}")).collect();
    let mut lines: Vec<String> = Vec::new();
    for event in events {
        lines.extend::<Vec<String>>(match event {
            LogEvent::Assigned(partitions) => list("+", partitions),
            LogEvent::Revoked(partitions) => list("-", partitions),
            LogEvent::Lost(partitions) => list("lost ", partitions),
            LogEvent::OffsetOutOfRange(partition) => vec![format!("gone {partition}")],
            LogEvent::Fault(error) => vec![error.to_string()],
            LogEvent::Record(record) => {
                let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
                vec![format!("{}[{}]:{value}", record.topic, record.partition)]
            }
        });
    }
    lines
}

#[test]
fn a_released_partition_and_its_mirrors_deliver_nothing_more() {
    let broker = broker(&ManualClock::default());
    let mut first = member(&broker);
    assert_eq!(poll(&mut first), ["+vector-cdc[0]", "+vector-cdc[1]"]);
    for partition in [local(0), local(1), mirror(1)] {
        first.fetch_from(&partition, 0).expect("ours");
        put(&broker, &partition, "a");
    }
    assert_eq!(poll(&mut first), ["us.vector-cdc[1]:a", "vector-cdc[0]:a", "vector-cdc[1]:a"]);

    let mut second = member(&broker);
    for partition in [local(0), local(1), mirror(1)] {
        put(&broker, &partition, "b");
    }
    assert_eq!(poll(&mut first), ["-vector-cdc[1]", "vector-cdc[0]:b"]);
    assert_eq!(poll(&mut second), Vec::<String>::new(), "nothing moves before the release");
    first.release(&[local(1)]).expect("held");
    assert!(first.fetch_from(&mirror(1), 0).is_err());
    assert_eq!(poll(&mut second), ["+vector-cdc[1]"]);
    second.fetch_from(&mirror(1), 1).expect("ours");
    assert_eq!(poll(&mut second), ["us.vector-cdc[1]:b"]);
    assert_eq!(poll(&mut first), Vec::<String>::new());
}

#[test]
fn a_member_that_did_not_poll_in_time_has_lost_everything_and_comes_back_as_a_new_one() {
    let clock = ManualClock::default();
    let broker = broker(&clock);
    let (mut stalled, mut alive) = (member(&broker), member(&broker));
    poll(&mut stalled);
    stalled.release(&[local(1)]).expect("held");
    stalled.fetch_from(&local(0), 0).expect("ours");
    clock.advance_ms(11_000);
    put(&broker, &local(0), "a");
    poll(&mut alive);
    assert_eq!(poll(&mut stalled), ["lost vector-cdc[0]"]);
    stalled.commit(&[(local(0), 1)]);
    assert_eq!(broker.committed("group", &local(0)), None, "a commit of one that is no member is refused");
    assert!(poll(&mut stalled)[0].contains("not committed"));
    stalled.release(&[local(0)]).expect("lost");
    let seen: Vec<String> = (0..2).flat_map(|_| [poll(&mut stalled), poll(&mut alive)]).flatten().collect();
    assert!(seen.contains(&"-vector-cdc[0]".to_owned()) || seen.contains(&"-vector-cdc[1]".to_owned()), "{seen:?}");
}

#[test]
fn a_position_that_retention_has_passed_stops_the_partition_with_one_event() {
    let broker = broker(&ManualClock::default());
    let mut consumer = member(&broker);
    poll(&mut consumer);
    for value in ["a", "b", "c"] {
        put(&broker, &local(0), value);
    }
    broker.delete_below(&local(0), 2).expect("there");
    consumer.fetch_from(&local(0), 1).expect("ours");
    assert_eq!(poll(&mut consumer), ["gone vector-cdc[0]"]);
    assert_eq!(poll(&mut consumer), Vec::<String>::new());
    consumer.fetch_from(&local(0), 2).expect("ours");
    assert_eq!(poll(&mut consumer), ["vector-cdc[0]:c"]);
}

#[test]
fn a_read_passes_over_holes_also_at_the_end() {
    let broker = broker(&ManualClock::default());
    put(&broker, &local(0), "a");
    broker.leave_hole(&local(0)).expect("there");
    put(&broker, &local(0), "b");
    broker.leave_hole(&local(0)).expect("there");
    let mut reader = EmbeddedReader::new(broker);
    reader.open(&local(0), 1).expect("there");
    let mut records = Vec::new();
    assert_eq!(reader.read(&mut records), Ok(4));
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_paused_partition_keeps_its_position() {
    let broker = broker(&ManualClock::default());
    let mut consumer = member(&broker);
    poll(&mut consumer);
    consumer.fetch_from(&local(0), 0).expect("ours");
    consumer.pause(&[local(0)]).expect("fetched");
    put(&broker, &local(0), "a");
    assert_eq!(poll(&mut consumer), Vec::<String>::new());
    consumer.resume(&[local(0)]).expect("fetched");
    assert_eq!(poll(&mut consumer), ["vector-cdc[0]:a"]);
}

#[test]
fn an_append_is_written_by_the_next_poll_acknowledged_by_the_one_after_and_bounded() {
    let broker = broker(&ManualClock::default());
    let mut appender = EmbeddedAppender::new(broker.clone(), 2, silent());
    let append = |to: TopicPartition| Append { to, key: None, value: None, headers: Headers::new() };
    let end = || broker.bounds(&local(0)).expect("there").end;
    appender.append(append(local(0)), 7).expect("room for two");
    appender.append(append(local(9)), 8).expect("room for two");
    assert!(matches!(appender.append(append(local(0)), 9), Err(AppendRefused::QueueFull(_))));
    assert_eq!(end(), 0);
    let mut acks = Vec::new();
    appender.poll_acks(&mut acks);
    assert_eq!((acks.len(), end()), (0, 1));
    appender.poll_acks(&mut acks);
    assert_eq!(acks.iter().map(|ack| ack.token).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(acks[0].outcome, Ok(0));
    assert!(acks[1].outcome.is_err(), "there is no partition 9");
}

#[test]
fn a_link_keeps_timestamps_delays_forgets_nothing_over_a_cut_and_repeats_after_a_restart() {
    let clock = ManualClock::default();
    let (us, eu) = (broker(&clock), broker(&clock));
    let mut link = MirrorLink::new(us.clone(), eu.clone(), Region::new("us"), Duration::from_millis(30), SESSION);
    let step = |link: &mut MirrorLink, ms: u64| {
        clock.advance_ms(ms);
        link.step(clock.now()).expect("equal partition counts")
    };
    put(&us, &local(1), "a");
    assert_eq!([step(&mut link, 5), step(&mut link, 29), step(&mut link, 1)], [0, 0, 1]);
    let mut copied = Vec::new();
    eu.read(&mirror(1), 0, 10, |record| copied.push(record)).expect("within the log");
    assert_eq!((copied.len(), copied[0].appended_at), (1, UnixMs(1_000_000)));

    put(&us, &local(1), "b");
    step(&mut link, 10);
    link.cut();
    assert_eq!(step(&mut link, 100), 0);
    link.heal();
    assert_eq!([step(&mut link, 0), step(&mut link, 30)], [0, 1]);
    assert_eq!(link.outstanding(), Ok(0));

    link.restart();
    assert_eq!([step(&mut link, 0), step(&mut link, 30)], [0, 2], "nothing was committed: all is copied again");
    step(&mut link, 10_000);
    link.restart();
    assert_eq!([step(&mut link, 0), step(&mut link, 30)], [0, 0]);
}

fn database(clock: &ManualClock) -> Arc<Database> {
    let spec = CollectionSpec {
        name: "documents".to_owned(),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    };
    Database::new(Arc::new(Collections::new(vec![spec])), Box::new(clock.clone()))
}

fn batch(ids: &[i64], metadata: &str) -> StoreRequest {
    let version = Version { hlc: Hlc(1), origin: Region::new("us"), sequence: 1 };
    StoreRequest::Write(Arc::new(RowBatch {
        ids: ids.iter().map(|id| VectorId::Int(*id)).collect(),
        vectors: vec![0.5; ids.len() * 2],
        versions: vec![version; ids.len()],
        metadata: vec![metadata.as_bytes().to_vec(); ids.len()],
        deletes: Vec::new(),
    }))
}

fn responses(store: &mut EmbeddedStore) -> Vec<StoreResponse> {
    let mut found = Vec::new();
    store.poll(&mut found);
    found
}

#[test]
fn a_store_answers_after_its_latency_and_a_bad_batch_leaves_nothing_behind() {
    let clock = ManualClock::default();
    let (database, documents) = (database(&clock), CollectionId(0));
    let woken = Arc::new(AtomicU64::new(0));
    let counter = woken.clone();
    let wake: Wake = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut store = EmbeddedStore::new(database.clone(), Duration::from_millis(5), wake);
    store.submit(documents, batch(&[1, 2], "{}"), 1);
    store.submit(documents, batch(&[3], "no object"), 2);
    clock.advance_ms(4);
    database.wake_due();
    assert_eq!((responses(&mut store).len(), woken.load(Ordering::Relaxed)), (0, 0));
    clock.advance_ms(1);
    database.wake_due();
    assert!(woken.load(Ordering::Relaxed) > 0);
    let answers = responses(&mut store);
    assert!(matches!(answers[0].outcome, Ok(StoreReply::Written { .. })));
    assert!(matches!(answers[1].outcome, Err(StoreError::Refused(_))));
    assert_eq!(database.rows(documents), 2);

    store.submit(documents, StoreRequest::ReadBack(vec![VectorId::Int(9), VectorId::Int(2)]), 3);
    clock.advance_ms(5);
    match &responses(&mut store)[0].outcome {
        Ok(StoreReply::ReadBack(found)) => assert_eq!(found.iter().map(|v| v.id.clone()).collect::<Vec<_>>(), [VectorId::Int(2)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_write_that_the_check_refuses_is_not_carried_out() {
    let database = database(&ManualClock::default());
    let mut store = EmbeddedStore::new(database.clone(), Duration::ZERO, silent());
    let throttled = || StoreError::Throttled("rate limit exceeded".to_owned());
    database.check_writes_with(Some(Box::new(move |_, batch| if batch.ids.len() > 1 { Err(throttled()) } else { Ok(()) })));
    store.submit(CollectionId(0), batch(&[1, 2], "{}"), 1);
    store.submit(CollectionId(0), batch(&[3], "{}"), 2);
    let answers = responses(&mut store);
    assert_eq!(answers[0].outcome, Err(throttled()));
    assert!(answers[1].outcome.is_ok());
    assert_eq!(database.rows(CollectionId(0)), 1);
}

/// The traps of Kafka's cleaner: the last *offset* stays, young records are not touched, a null outlives the first
/// cleaning that meets it, and offsets keep their meaning.
#[test]
fn compaction_keeps_the_last_offset_of_each_key_and_nulls_for_their_retention() {
    let clock = ManualClock::default();
    let broker = Broker::new(Box::new(clock.clone()), Duration::from_secs(10));
    broker.create_topic("changelog", 1, TimestampType::LogAppendTime).unwrap();
    let at = TopicPartition::new("changelog", 0);
    let append = |key: &'static str, value: Option<&'static str>| {
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        broker.append(&at, Message { key: Some(Bytes::from_static(key.as_bytes())), value, ..Message::default() }).unwrap();
    };
    let offsets = || {
        let mut offsets = Vec::new();
        let next = broker.read(&at, 0, usize::MAX, |record| offsets.push(record.offset)).unwrap();
        (offsets, next)
    };
    let rules = Compaction { min_lag: Duration::from_secs(5), delete_retention: Duration::from_secs(20) };
    for (key, value) in [("a", Some("newer")), ("a", Some("older")), ("b", Some("1")), ("b", None), ("c", Some("1"))] {
        append(key, value);
    }
    clock.advance_ms(6_000);
    append("c", Some("2"));
    broker.compact(&at, rules).unwrap();
    assert_eq!(offsets(), (vec![1, 3, 4, 5], 6), "c's first record is old, its successor too young to count");
    clock.advance_ms(19_000);
    broker.compact(&at, rules).unwrap();
    assert_eq!(offsets(), (vec![1, 3, 5], 6), "the null is kept for its retention");
    clock.advance_ms(2_000);
    broker.compact(&at, rules).unwrap();
    assert_eq!(offsets(), (vec![1, 5], 6));
}

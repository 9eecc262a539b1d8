//! Lag by source and stage: nothing when idle, never less than the truth, growing when anything hangs.

use crate::past::Desk;
use crate::worker::Worker;
use crate::world::World;
use driftless::adapter::embedded::EmbeddedReader;
use driftless::adapter::embedded::broker::Message;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::base::ids::TopicPartition;
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::ops::lag::SourceLag;
use driftless::ops::lag::outside::Outside;
use driftless::record::avro::{Fields, WireOp, encode};
use driftless::record::change::MetaValue;
use driftless::record::framing;
use driftless::task::heartbeat::{ECHO_ARRIVED_AT, ECHO_STAMPED_AT, MAX_LATENESS, PREVIOUS, key};
use std::time::Duration;

fn lag(worker: &Worker, topic: &str, stage: &str) -> i64 {
    worker.source(topic).lag_ms[stage]
}

fn world() -> World {
    let mut world = World::new(1);
    world.settings.task.heartbeat_interval = Duration::from_secs(1);
    world
}

/// A heartbeat of us, as its worker would write it, by a clock that is so far ahead.
pub fn beat(world: &World, ahead_ms: i64, metadata: &[(String, MetaValue)]) {
    let appended_at = UnixMs(world.now().wall.0 + ahead_ms);
    let content = encode(&Fields {
        op: WireOp::Heartbeat,
        hlc: Hlc::at(appended_at),
        origin: "us",
        sequence: 0,
        collection: "",
        vector_id: "",
        vector: &[],
        metadata,
    });
    let value = framing::frame(OUR_SCHEMA_ID, &content).into();
    let message = Message { key: Some(key("us").into()), value: Some(value), headers: Vec::new(), timestamp: Some(appended_at) };
    world.broker.append(&TopicPartition::new(world.topic("us"), 0), message).unwrap();
}

/// Both regions idle for so long; the peer's heartbeats come each second.
fn idle(world: &World, worker: &mut Worker, seconds: u64, mut each_round: impl FnMut(&Worker)) {
    for _ in 0..seconds {
        beat(world, 0, &[]);
        for _ in 0..20 {
            world.run_in_steps(&mut [worker], 50, 50);
            each_round(worker);
        }
    }
}

#[test]
fn idle_sources_lag_by_nothing_without_flicker_and_a_cut_link_by_its_age() {
    let world = world();
    let mut worker = world.start();
    idle(&world, &mut worker, 3, |_| ());
    idle(&world, &mut worker, 20, |worker| {
        for topic in ["vector-cdc", "us.vector-cdc"] {
            for stage in ["polled", "merged", "acknowledged"] {
                assert_eq!(lag(worker, topic, stage), 0, "{topic} {stage}");
            }
        }
    });
    world.run(&mut [&mut worker], 30_000);
    let behind = lag(&worker, "us.vector-cdc", "polled");
    assert!((30_000..=31_100).contains(&behind), "{behind}");
    assert_eq!(lag(&worker, "vector-cdc", "acknowledged"), 0, "its own region is not cut off");
    assert!(worker.source("us.vector-cdc").heartbeat_overdue && !worker.source("vector-cdc").heartbeat_overdue);
}

#[test]
fn f69_a_vector_store_that_hangs_shows_in_the_last_stage_alone() {
    let mut world = world();
    let mut worker = world.start();
    idle(&world, &mut worker, 3, |_| ());
    worker.store().hangs = true;
    world.upsert("us", 1, 1_000, 0.1);
    let appended = world.now().wall;
    idle(&world, &mut worker, 4, |_| ());
    let truth = world.now().wall.since_ms(appended);
    let lag = |stage| lag(&worker, "us.vector-cdc", stage);
    assert!((truth - 50..=truth).contains(&lag("acknowledged")), "{} of {truth}", lag("acknowledged"));
    assert_eq!((lag("polled"), lag("merged")), (0, 0));
    assert_eq!(worker.source("us.vector-cdc").stalled_ms, lag("acknowledged"), "nothing has settled since");
    worker.store().hangs = false;
    idle(&world, &mut worker, 8, |_| ());
    assert_eq!(worker.source("us.vector-cdc").stalled_ms, 0, "nothing waits");
}

#[test]
fn a_peer_that_is_configured_otherwise_is_told_until_it_says_that_it_no_longer_is() {
    let world = world();
    let mut worker = world.start();
    let ours = world.settings.max_lateness.as_millis() as i64;
    for (theirs, expected) in [(ours, 0), (ours / 2, 1), (ours, 0)] {
        beat(&world, 0, &[(MAX_LATENESS.to_owned(), MetaValue::Long(theirs))]);
        world.run(&mut [&mut worker], 1_000);
        assert_eq!(worker.source("us.vector-cdc").disagreements.len(), expected, "{theirs} ms, and {ours} here");
    }
}

#[test]
fn after_a_restart_with_a_backlog_the_lag_is_never_less_than_the_backlog() {
    let mut world = world();
    let mut worker = world.start();
    world.upsert("us", 1, 1_000, 0.1);
    idle(&world, &mut worker, 3, |_| ());
    world.stop(worker);
    let mut appended = Vec::new();
    for id in 2..12 {
        world.upsert("us", id, 2_000, 0.1);
        appended.push(world.now().wall);
        world.clock.advance(5_000);
    }
    let mut next = world.start();
    for _ in 0..2_000 {
        world.run_in_steps(&mut [&mut next], 1, 1);
        let report = next.report();
        let Some(source) = report.tasks.iter().flat_map(|task| &task.sources).find(|source| source.region == "us") else {
            continue;
        };
        // The first is settled already; those after it in order.
        let Some(oldest) = appended.get(source.next_offset as usize - 4) else { return };
        let truth = world.now().wall.since_ms(*oldest);
        assert!(source.lag_ms["acknowledged"] >= truth, "{:?} of {truth}", source.lag_ms);
    }
    panic!("never settled");
}

#[test]
fn while_a_task_is_restored_again_its_lag_grows_on_from_where_it_stood() {
    let mut world = world();
    let mut worker = world.start();
    idle(&world, &mut worker, 3, |_| ());
    worker.store().hangs = true;
    world.upsert("us", 1, 1_000, 0.1);
    let appended = world.now().wall;
    idle(&world, &mut worker, 2, |_| ());
    world.clock.advance(6_000);
    for round in 0..20 {
        worker.round(world.now());
        assert_eq!(worker.task("0_0").state, "restoring", "the group is heard first");
        let truth = world.now().wall.since_ms(appended);
        let lag = lag(&worker, "us.vector-cdc", "acknowledged");
        assert!((truth - 50..=truth).contains(&lag), "{lag} of {truth} in round {round}");
        world.clock.advance(100);
    }
    worker.store().hangs = false;
    idle(&world, &mut worker, 8, |_| ());
    assert_eq!(lag(&worker, "us.vector-cdc", "acknowledged"), 0);
}

#[test]
fn f34_a_heartbeat_whose_predecessor_never_came_tells_of_a_gap_once() {
    let world = world();
    let mut worker = world.start();
    beat(&world, 0, &[]);
    let first = world.now().wall;
    world.run(&mut [&mut worker], 1_000);
    let previous = |at: UnixMs| [(PREVIOUS.to_owned(), MetaValue::Long(at.0))];
    beat(&world, 0, &previous(first));
    world.run(&mut [&mut worker], 1_000);
    assert_eq!(worker.source("us.vector-cdc").gaps, 0, "an unbroken chain");
    assert_eq!(worker.task("0_0").incomplete, [""; 0]);
    // Of what came in between nothing was mirrored.
    world.run(&mut [&mut worker], 60_000);
    beat(&world, 0, &previous(world.now().wall.minus(Duration::from_secs(20))));
    world.run(&mut [&mut worker], 1_000);
    assert_eq!(worker.source("us.vector-cdc").gaps, 1);
}

#[test]
fn a_peer_whose_clock_is_ahead_is_told_by_its_echoes() {
    let world = world();
    let mut worker = world.start();
    world.run(&mut [&mut worker], 2_000);
    // Ours of 200 ms ago arrived there 120 ms later, by a clock that is 5 s ahead, as is what it writes now.
    let sent = world.now().wall.0 - 200;
    let echo = [
        (format!("{ECHO_STAMPED_AT}eu"), MetaValue::Long(sent)),
        (format!("{ECHO_ARRIVED_AT}eu"), MetaValue::Long(sent + 120 + 5_000)),
    ];
    beat(&world, 5_000, &echo);
    world.run(&mut [&mut worker], 100);
    let [least, most] = worker.source("us.vector-cdc").clock_ahead_ms.expect("an exchange");
    assert_eq!(most, 5_000 + 120, "as if the way there took nothing");
    assert!((4_990..=5_000).contains(&least), "{least}");
}

/// Of eu and us, as the log alone tells it.
fn from_outside(world: &World, outside: &mut Outside) -> [SourceLag; 2] {
    let found = outside.look(&mut EmbeddedReader::new(world.broker.clone()), &world.clock).expect("the log is there");
    found.sources.try_into().expect("two regions")
}

#[test]
fn the_log_alone_tells_of_an_idle_region_of_one_without_a_worker_and_of_a_cut_link() {
    let mut world = world();
    let mut outside = Outside::new(Desk::of(&world).setting);
    for lag in from_outside(&world, &mut outside) {
        assert_eq!((lag.unknown_partitions, lag.lag_ms.len()), (1, 0), "nobody has written or settled anything: {lag:?}");
    }
    let mut worker = world.start();
    world.upsert("us", 1, 1_000, 0.1);
    idle(&world, &mut worker, 4, |_| ());
    for _ in 0..20 {
        idle(&world, &mut worker, 1, |_| ());
        for lag in from_outside(&world, &mut outside) {
            assert_eq!((lag.lag_ms["arrived"], lag.lag_ms["acknowledged"]), (0, 0), "{lag:?}");
            assert_eq!((lag.silent_partitions, lag.unknown_partitions), (0, 0), "{lag:?}");
        }
    }

    world.stop(worker);
    world.upsert("us", 2, 2_000, 0.1);
    let appended = world.now().wall;
    for _ in 0..30 {
        world.clock.advance(1_000);
        beat(&world, 0, &[]);
    }
    let [eu, us] = from_outside(&world, &mut outside);
    let truth = world.now().wall.since_ms(appended);
    assert_eq!((us.lag_ms["arrived"], us.lag_ms["acknowledged"]), (0, truth), "it has arrived, and nobody takes it");
    assert_eq!((us.records_behind, us.silent_partitions), (31, 0), "{us:?}");
    assert!(eu.silent_partitions == 1 && eu.lag_ms["arrived"] >= truth, "nobody writes eu's heartbeats: {eu:?}");

    let mut worker = world.start();
    world.run(&mut [&mut worker], 30_000);
    let [eu, us] = from_outside(&world, &mut outside);
    assert_eq!((eu.lag_ms["acknowledged"], us.records_behind), (0, 0), "{eu:?} {us:?}");
    assert_eq!((us.silent_partitions, us.lag_ms["arrived"]), (1, us.lag_ms["acknowledged"]), "{us:?}");
    assert!((30_000..=31_000).contains(&us.lag_ms["arrived"]), "{us:?}");
}

#[test]
fn the_log_alone_tells_of_a_peer_whose_clock_is_ahead_and_puts_its_lag_right() {
    let world = world();
    let mut outside = Outside::new(Desk::of(&world).setting);
    let mut worker = world.start();
    world.run(&mut [&mut worker], 2_000);
    let sent = world.now().wall.0 - 200;
    let echo = [
        (format!("{ECHO_STAMPED_AT}eu"), MetaValue::Long(sent)),
        (format!("{ECHO_ARRIVED_AT}eu"), MetaValue::Long(sent + 120 + 5_000)),
    ];
    beat(&world, 5_000, &echo);
    world.run(&mut [&mut worker], 500);
    let [_, us] = from_outside(&world, &mut outside);
    assert_eq!((us.lag_ms["arrived"], us.lag_ms["acknowledged"]), (0, 0));
    let [least, most] = us.clock_ahead_ms.expect("an exchange");
    assert!(least <= 5_000 && most == 5_120, "{least} to {most}");
    // Silent since: by its stamp alone it would seem to be 5 s younger than it is.
    world.run(&mut [&mut worker], 9_500);
    let [_, us] = from_outside(&world, &mut outside);
    assert!((9_500..=10_500).contains(&us.lag_ms["arrived"]), "{us:?}");
}

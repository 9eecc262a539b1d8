//! Undoing a bad deploy of one region while both go on; and asking afterwards why a row is what it is.

use crate::oracle::dead_letters;
use crate::pair::Pair;
use crate::past::Desk;
use crate::worker::Worker;
use crate::world::{DOCUMENTS, Produced, row_id};
use driftless::adapter::embedded::EmbeddedAppender;
use driftless::adapter::embedded::broker::Compaction;
use driftless::adapter::embedded::schema::OUR_SCHEMA_ID;
use driftless::adapter::embedded::vector::EmbeddedStore;
use driftless::base::error::{Error, Result};
use driftless::base::ids::{Region, RowKey, TopicPartition};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::ops::append;
use driftless::ops::explain;
use driftless::ops::rollback::{Plan, Rollback, Scribe, Undo, Written};
use driftless::port::log::{Ack, Append, AppendRefused, Appender};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const EU: usize = 0;
const US: usize = 1;

struct Deploy {
    pair: Pair,
    workers: [Worker; 2],
    desk: Desk,
    to: UnixMs,
}

impl Deploy {
    /// Forty rows of both regions, one of them late; T; then eu overwrites, deletes and adds what it should not, and us
    /// goes on.
    fn new(max_lateness: Duration) -> Self {
        let pair = Pair::new(2, max_lateness);
        let workers = [pair.worlds[EU].start(), pair.worlds[US].start()];
        let desk = Desk::of(&pair.worlds[EU]);
        let mut deploy = Self { pair, workers, desk, to: UnixMs(0) };
        deploy.run(2_000);
        for id in 0..40 {
            deploy.upsert(if id % 2 == 0 { EU } else { US }, id, 1.0);
        }
        deploy.run(1_000);
        // eu learns of it only when its own, undone write has won: the former is then in the mirror alone.
        deploy.pair.links[US].cut();
        deploy.upsert(US, 7, 2.0);
        deploy.run(500);
        deploy.to = deploy.pair.worlds[EU].now().wall;
        deploy.run(500);
        for id in (0..10).chain(100..105) {
            deploy.upsert(EU, id, 66.0);
        }
        for id in 10..14 {
            let ms = deploy.ms();
            deploy.pair.worlds[EU].delete("eu", id, ms);
        }
        deploy.run(200);
        deploy.pair.links[US].heal();
        for id in [9, 20, 21] {
            deploy.upsert(US, id, 3.0);
        }
        deploy.run(1_000);
        deploy
    }

    fn ms(&self) -> i64 {
        self.pair.worlds[EU].now().monotonic.as_millis() as i64
    }

    fn upsert(&mut self, region: usize, id: i64, content: f32) {
        let (ms, origin) = (self.ms(), ["eu", "us"][region]);
        self.pair.worlds[region].upsert(origin, id, ms, content);
    }

    fn run(&mut self, ms: u64) {
        self.pair.run(&mut self.workers, ms);
    }

    fn rollback(&self, origin: Option<&str>) -> Rollback {
        let until = Hlc::at(self.pair.worlds[EU].now().wall);
        Rollback {
            undo: Undo {
                to: self.to,
                until,
                collections: Vec::new(),
                origin: origin.map(Region::new),
                marked: Vec::new(),
                proven_since: UnixMs(0),
            },
            scribe: Scribe { stamps: vec![until], writer: 9, schema_id: OUR_SCHEMA_ID, to: self.to },
            patience: Duration::from_secs(20),
        }
    }

    fn plan(&mut self, rollback: &Rollback) -> Result<Plan> {
        let Self { pair, workers, desk, .. } = self;
        desk.work(&mut |span| pair.run(workers, span.as_millis() as u64), &mut |_| {}, |history, work| {
            rollback.plan(history, work)
        })
    }

    fn carry_out(&mut self, rollback: &mut Rollback, plan: &Plan, appends_max: usize) -> Result<Written> {
        let Self { pair, workers, desk, .. } = self;
        let inner = EmbeddedAppender::new(pair.worlds[EU].broker.clone(), 3, append::wake());
        let mut appender = Failing { inner, left: appends_max };
        desk.work(&mut |span| pair.run(workers, span.as_millis() as u64), &mut |_| {}, |history, work| {
            rollback.carry_out(plan, history, &mut appender, work, &mut |_| Ok(()))
        })
    }

    /// What both regions must hold: of each row the greatest change that is not undone.
    fn assert_oracle(&mut self, rollback: &Rollback, when: &str) {
        self.run(2_000);
        let undo = &rollback.undo;
        let undone = |change: &Produced| {
            let within = change.version.hlc > Hlc::new(undo.to, u16::MAX) && change.version.hlc < undo.until;
            within && undo.origin.as_ref().is_none_or(|origin| *origin == change.version.origin)
        };
        let mut winners: BTreeMap<i64, &Produced> = BTreeMap::new();
        let produced = self.pair.worlds.iter().flat_map(|world| &world.produced);
        for change in produced.filter(|change| !undone(change)) {
            let held = winners.entry(change.id).or_insert(change);
            if change.version > held.version {
                *held = change;
            }
        }
        let expected: BTreeMap<_, _> =
            winners.values().filter(|change| !change.delete).map(|change| (row_id(change.id), change.vector.to_vec())).collect();
        for world in &self.pair.worlds {
            let rows = world.database.scan(DOCUMENTS).into_iter().map(|(id, row)| (id, row.vector));
            assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected, "in {}, {when}", world.settings.region);
            assert_eq!(dead_letters(world), BTreeSet::new(), "in {}, {when}", world.settings.region);
        }
    }
}

/// An appender whose process dies after so many records.
struct Failing {
    inner: EmbeddedAppender,
    left: usize,
}

impl Appender for Failing {
    fn append(&mut self, append: Append, token: u64) -> std::result::Result<(), AppendRefused> {
        if self.left == 0 {
            return Err(AppendRefused::Failed(Error::fatal("killed")));
        }
        let taken = self.inner.append(append, token);
        self.left -= usize::from(taken.is_ok());
        taken
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        self.inner.poll_acks(acks);
    }
}

#[test]
fn f60_a_region_s_bad_deploy_is_undone_while_both_write_and_the_preview_is_what_happens() {
    let mut deploy = Deploy::new(HOUR);
    let mut rollback = deploy.rollback(Some("eu"));
    deploy.run(300);
    let plan = deploy.plan(&rollback).unwrap();
    // Nine rows overwritten (us has written the tenth since), four deleted, five new.
    assert_eq!((plan.restored, plan.deleted, plan.left_alone), (9 + 4, 5, 0));
    assert_eq!(plan.sample.len(), 10);
    let begun = Written { restored: plan.restored, deleted: plan.deleted, bytes: plan.bytes };
    // Written after R, before the roll-back reaches them: they stay.
    deploy.upsert(EU, 2, 4.0);
    deploy.upsert(US, 3, 4.0);
    deploy.upsert(EU, 200, 4.0);
    let written = deploy.carry_out(&mut rollback, &plan, usize::MAX).unwrap();
    assert_eq!(written, begun);
    deploy.assert_oracle(&rollback, "rolled back");
    // The same R again: nothing is left, and what was written since is left alone.
    let again = deploy.plan(&rollback).unwrap();
    assert_eq!((again.rows(), again.left_alone), (0, 2));
}

#[test]
fn everything_after_an_instant_is_undone_and_a_second_time_there_is_nothing_to_do() {
    let mut deploy = Deploy::new(HOUR);
    deploy.run(300);
    let mut rollback = deploy.rollback(None);
    let plan = deploy.plan(&rollback).unwrap();
    deploy.carry_out(&mut rollback, &plan, usize::MAX).unwrap();
    deploy.assert_oracle(&rollback, "rolled back");
    deploy.run(1_000);
    let second = deploy.rollback(None);
    let again = deploy.plan(&second).unwrap();
    assert_eq!((again.rows(), again.bytes), (0, 0));
}

#[test]
fn killed_half_way_the_same_roll_back_writes_the_rest() {
    let mut deploy = Deploy::new(HOUR);
    deploy.run(300);
    let mut rollback = deploy.rollback(Some("eu"));
    let plan = deploy.plan(&rollback).unwrap();
    deploy.carry_out(&mut rollback, &plan, 7).unwrap_err();
    deploy.run(1_000);
    // Written since R: stays, although the roll-back is not done.
    deploy.upsert(EU, 1, 5.0);
    deploy.run(1_000);
    let rest = deploy.plan(&rollback).unwrap();
    assert!(rest.rows() > 0 && rest.rows() <= plan.rows() - 7, "{} of {}", rest.rows(), plan.rows());
    deploy.carry_out(&mut rollback, &rest, usize::MAX).unwrap();
    deploy.assert_oracle(&rollback, "resumed");
}

#[test]
fn a_stamp_that_is_too_old_by_now_gives_way_to_a_new_one_and_nothing_becomes_a_dead_letter() {
    let mut deploy = Deploy::new(Duration::from_secs(20));
    deploy.run(300);
    let mut rollback = deploy.rollback(Some("eu"));
    let plan = deploy.plan(&rollback).unwrap();
    deploy.run(30_000);
    deploy.upsert(EU, 4, 5.0);
    deploy.carry_out(&mut rollback, &plan, usize::MAX).unwrap();
    assert_eq!(rollback.scribe.stamps.len(), 2);
    deploy.assert_oracle(&rollback, "with a new stamp");
}

#[test]
fn f58_compaction_between_preview_and_execution_changes_nothing_or_is_told() {
    let day = 24 * HOUR;
    for (min_lag, is_refused) in [(3 * day, false), (Duration::ZERO, true)] {
        let mut deploy = Deploy::new(HOUR);
        deploy.run(300);
        let mut rollback = deploy.rollback(Some("eu"));
        let plan = deploy.plan(&rollback).unwrap();
        let world = &deploy.pair.worlds[EU];
        for partition in 0..2 {
            let compaction = Compaction { min_lag, delete_retention: day };
            world.broker.compact(&world.vectors_changelog(partition), compaction).unwrap();
        }
        let outcome = deploy.carry_out(&mut rollback, &plan, usize::MAX);
        match outcome {
            Ok(_) => assert!(!is_refused),
            Err(error) => assert!(is_refused && error.to_string().contains("no longer holds offset"), "{error}"),
        }
        if !is_refused {
            deploy.assert_oracle(&rollback, "after a compaction");
        }
    }
}

/// The mirror still has the change that a delete had beaten; nothing has the delete any more.
#[test]
fn f44_a_roll_back_brings_nothing_back_that_a_forgotten_delete_had_beaten() {
    let pair = Pair::new(1, Duration::from_secs(10));
    let workers = [pair.worlds[EU].start(), pair.worlds[US].start()];
    let desk = Desk::of(&pair.worlds[EU]);
    let mut deploy = Deploy { workers, desk, to: UnixMs(0), pair };
    deploy.run(2_000);
    deploy.upsert(US, 1, 1.0);
    deploy.upsert(US, 2, 1.0);
    deploy.run(1_000);
    let ms = deploy.ms();
    deploy.pair.worlds[EU].delete("eu", 1, ms);
    deploy.run(90_000);
    let world = &deploy.pair.worlds[EU];
    assert_eq!(deploy.workers[EU].task("0_0").entries, 1, "the delete is forgotten");
    let local = TopicPartition::new("vector-cdc", 0);
    world.broker.delete_below(&local, world.broker.bounds(&local).unwrap().end).unwrap();
    for _ in 0..2 {
        let compaction = Compaction { min_lag: Duration::ZERO, delete_retention: Duration::ZERO };
        world.broker.compact(&world.vectors_changelog(0), compaction).unwrap();
        deploy.pair.worlds[EU].clock.advance(10);
    }
    deploy.to = deploy.pair.worlds[EU].now().wall;
    deploy.run(1_000);
    deploy.upsert(EU, 1, 66.0);
    deploy.run(1_000);
    let mut rollback = deploy.rollback(None);
    rollback.undo.proven_since = UnixMs(deploy.to.0 - 60_000);
    let plan = deploy.plan(&rollback).unwrap();
    assert_eq!((plan.restored, plan.deleted), (0, 1));
    deploy.carry_out(&mut rollback, &plan, usize::MAX).unwrap();
    deploy.run(1_000);
    for world in &deploy.pair.worlds {
        assert_eq!(world.database.scan(DOCUMENTS).into_keys().collect::<Vec<_>>(), [row_id(2)]);
    }
}

#[test]
fn an_instant_before_everything_that_is_known_is_refused() {
    let mut deploy = Deploy::new(HOUR);
    deploy.run(300);
    deploy.to = UnixMs(1_600_000_000_000);
    let rollback = deploy.rollback(None);
    let error = deploy.plan(&rollback).unwrap_err().to_string();
    assert!(error.contains("older than everything that is known here"), "{error}");
}

#[test]
fn without_a_peer_s_changes_up_to_r_nothing_is_planned_and_it_says_who_is_missing() {
    let mut deploy = Deploy::new(HOUR);
    deploy.pair.links[US].cut();
    deploy.run(300);
    let rollback = deploy.rollback(None);
    let error = deploy.plan(&rollback).unwrap_err().to_string();
    assert!(error.contains("waited 20s in vain for changes of us") && error.contains("is MirrorMaker running"), "{error}");
}

#[test]
fn explain_tells_the_whole_story_of_a_row_that_was_rolled_back() {
    let mut deploy = Deploy::new(HOUR);
    deploy.run(300);
    let mut rollback = deploy.rollback(Some("eu"));
    let plan = deploy.plan(&rollback).unwrap();
    deploy.carry_out(&mut rollback, &plan, usize::MAX).unwrap();
    deploy.run(1_000);
    let Deploy { pair, workers, desk, .. } = &mut deploy;
    let mut store = EmbeddedStore::new(pair.worlds[EU].database.clone(), Duration::ZERO, append::wake());
    let key = RowKey { collection: DOCUMENTS, id: row_id(7) };
    let findings = desk
        .work(&mut |span| pair.run(workers, span.as_millis() as u64), &mut |_| {}, |history, work| {
            explain::find(history, &mut store, &key, work)
        })
        .unwrap();
    let explanation = explain::tell(&findings);
    let verdicts: Vec<(&str, &str)> = explanation.lines.iter().map(|line| (&*line.offered.source.topic, line.verdict)).collect();
    let expected =
        [("us.vector-cdc", "winner"), ("us.vector-cdc", "conflict"), ("vector-cdc", "winner"), ("vector-cdc", "winner")];
    assert_eq!(verdicts, expected);
    assert_eq!(explanation.lines[3].why, "holds the row");
    assert_eq!(explanation.lines[3].offered.rolled_back_to, Some(deploy.to));
    assert!(explanation.agrees(), "{:?}", explanation.held);
}

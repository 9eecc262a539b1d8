//! A former owner's appends, found between our own.

use crate::oracle::{assert_oracle, last_of};
use crate::restore::{entry, version, write_entry};
use crate::worker::Worker;
use crate::world::World;
use driftless::adapter::embedded::broker::Message;
use driftless::merge::version::ContentHash;
use driftless::store::entry::Entry;

fn with_row(ms: i64) -> (World, Worker) {
    let mut world = World::new(1);
    let mut worker = world.start();
    world.upsert("eu", 5, ms, 0.1);
    world.settle(&mut [&mut worker]);
    (world, worker)
}

/// Our next append of every kind shows the hole.
fn show_the_hole(world: &mut World, worker: &mut Worker) {
    world.upsert("eu", 1_000, 1_000, 0.1);
    world.settle(&mut [worker]);
    world.run(&mut [worker], 200);
}

fn last_entry(world: &World) -> Entry {
    let (_, last) = last_of(world, &world.versions_changelog(0), 5);
    Entry::decode(last.unwrap().value.as_deref().expect("an entry")).unwrap()
}

#[test]
fn f01_f62_a_zombies_older_entry_is_answered_with_the_one_that_holds_the_key() {
    let (mut world, mut worker) = with_row(2_000);
    write_entry(&world, 5, Ok(entry(1_000)));
    assert_eq!(last_entry(&world).version, version(1_000));
    show_the_hole(&mut world, &mut worker);
    assert_oracle(&world, &[], "after the answer");
    // Answered once; our own answer is no zombie's.
    let (records, _) = last_of(&world, &world.versions_changelog(0), 5);
    show_the_hole(&mut world, &mut worker);
    assert_eq!(last_of(&world, &world.versions_changelog(0), 5).0, records);
}

#[test]
fn f62_a_zombies_null_is_answered_with_the_entry_that_it_would_delete() {
    let (mut world, mut worker) = with_row(2_000);
    write_entry(&world, 5, Err(version(1_000)));
    show_the_hole(&mut world, &mut worker);
    assert_oracle(&world, &[], "after the answer");
}

#[test]
fn f43_a_zombies_smaller_twin_is_answered_too() {
    let (mut world, mut worker) = with_row(2_000);
    write_entry(&world, 5, Ok(Entry { content_hash: ContentHash(0), ..entry(2_000) }));
    show_the_hole(&mut world, &mut worker);
    assert_oracle(&world, &[], "after the answer");
}

#[test]
fn a_zombies_entry_with_a_newer_version_is_left_alone() {
    let (mut world, mut worker) = with_row(2_000);
    write_entry(&world, 5, Ok(entry(3_000)));
    show_the_hole(&mut world, &mut worker);
    assert_eq!(last_entry(&world).version, version(3_000), "its change is still to be read");
    world.upsert("eu", 5, 3_000, 0.3);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the change has come");
}

fn write_older_vector(world: &mut World) -> i64 {
    let older = world.upsert("eu", 5, 1_000, 0.3);
    let key = Some("documents\u{0}5".into());
    let message = Message { key, value: Some(older.value), ..Message::default() };
    world.broker.append(&world.vectors_changelog(0), message).unwrap()
}

/// Nothing of our own was appended behind it: the close did not show it.
#[test]
fn a_zombies_older_vector_that_a_closed_task_did_not_see_is_answered_by_its_successor() {
    let (mut world, mut worker) = with_row(2_000);
    write_older_vector(&mut world);
    world.settle(&mut [&mut worker]);
    world.stop(worker);
    let mut next = world.start();
    show_the_hole(&mut world, &mut next);
    assert_oracle(&world, &[], "after the successor's answer");
    assert_eq!(next.store().times_sent(5), 0);
}

#[test]
fn a_zombies_older_vector_is_answered_with_the_winners_and_the_entry_follows_it() {
    let (mut world, mut worker) = with_row(2_000);
    let offset = write_older_vector(&mut world);
    show_the_hole(&mut world, &mut worker);
    assert!(last_entry(&world).vector_offset > offset);
    assert_oracle(&world, &[], "after the answer");
}

#[test]
fn f62_entries_that_a_restore_finds_misplaced_are_put_in_the_last_place() {
    let (mut world, worker) = with_row(2_000);
    world.stop(worker);
    write_entry(&world, 5, Ok(entry(1_000)));
    let mut worker = world.start();
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "after the restore");
    world.upsert("eu", 5, 3_000, 0.5);
    world.settle(&mut [&mut worker]);
    assert_oracle(&world, &[], "and after a newer change");
}

#[test]
fn f26_holes_that_are_nobodys_are_read_once_and_answered_with_nothing() {
    let (mut world, mut worker) = with_row(2_000);
    let (versions, vectors) = (world.versions_changelog(0), world.vectors_changelog(0));
    for _ in 0..3 {
        world.broker.leave_hole(&versions).unwrap();
        world.broker.leave_hole(&vectors).unwrap();
    }
    show_the_hole(&mut world, &mut worker);
    let records = world.read(&versions).len();
    world.run(&mut [&mut worker], 500);
    assert_eq!(world.read(&versions).len(), records);
    assert_oracle(&world, &[], "over the holes");
}

/// It got no further than its vector, and nothing is written any more: no own append shows the gap.
#[test]
fn f62_a_zombies_older_vector_in_an_idle_partition_is_found_by_looking_behind_our_own_last_one() {
    let (mut world, mut worker) = with_row(2_000);
    write_older_vector(&mut world);
    world.settle(&mut [&mut worker]);
    world.run_in_steps(&mut [&mut worker], 35_000, 250);
    assert_oracle(&world, &[], "after a check of the sources");
}

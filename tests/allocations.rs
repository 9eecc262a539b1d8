//! What the hot path allocates for each record, counted. Records come from memory and what the task sends is dropped at
//! once, so that neither a client's nor a log's allocations are in it.

#[path = "../benches/hot_path/changes.rs"]
mod changes;
#[path = "../benches/hot_path/operations.rs"]
mod operations;
#[path = "../benches/hot_path/steady_task.rs"]
mod steady_task;

use operations::{OPERATIONS, RECORDS};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// At most so many for one record. A winner's row is its lane's to keep: floats and metadata; a batch copies the latter.
const MOST: &[(&str, f64)] = &[
    ("decode-header/768", 0.0),
    ("decode-full/128", 0.0),
    ("decode-full/768", 0.0),
    ("merge-duplicate/768", 0.0),
    ("merge-stale/768", 0.0),
    ("merge-winner/768", 0.0),
    ("coalesce/768", 0.0),
    ("changelog-encode", 2.0),
    ("task-duplicate/768", 0.0),
    ("task-stale/768", 0.0),
    ("task-winner/128", 0.0),
    ("task-winner/768", 0.0),
    ("task-winner-batched/768", 1.1),
];

/// What is done once in a round, or in a hundred (a progress record), not for each record.
const OF_A_ROUND: u64 = 24;
const ROUNDS: u64 = 100;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and measures nothing.
    let _ended = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_hot_path_allocates_no_more_for_a_record_than_is_written_down() {
    let mut over = Vec::new();
    for (name, make) in OPERATIONS {
        let mut operation = make();
        let mut counted = 0;
        // The first rounds make room for all others.
        for round in 0..ROUNDS + 10 {
            operation.prepare();
            let before = COUNT.get();
            operation.run();
            counted += if round < 10 { 0 } else { COUNT.get() - before };
        }
        operation.check();
        let each = counted.saturating_sub(OF_A_ROUND * ROUNDS) as f64 / (ROUNDS * RECORDS as u64) as f64;
        eprintln!("{name}: {} in {ROUNDS} rounds of {RECORDS} records, {each:.3} a record", counted);
        let most = MOST.iter().find(|(known, _)| known == name).map_or(0.0, |(_, most)| *most);
        if each > most {
            over.push(format!("{name}: {each:.3} for each record, at most {most} are written down"));
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

//! How far a restore has come: written by who reads, looked at by who reports.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Offsets of the changelog, and row keys' records applied. Each number is right by itself; together they may be a
/// moment apart.
#[derive(Debug)]
pub struct Meter {
    from: AtomicI64,
    position: AtomicI64,
    end: AtomicI64,
    entries: AtomicU64,
}

/// What a [`Meter`] shows of a restore that has begun to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Where it began: after 0, a store was kept.
    pub from: i64,
    pub position: i64,
    /// As it was when the restore began.
    pub end: i64,
    pub entries: u64,
}

const NOT_YET: i64 = -1;

impl Default for Meter {
    fn default() -> Self {
        Self {
            from: AtomicI64::new(NOT_YET),
            position: AtomicI64::default(),
            end: AtomicI64::default(),
            entries: AtomicU64::default(),
        }
    }
}

impl Meter {
    pub fn begin(&self, from: i64, end: i64) {
        self.entries.store(0, Ordering::Relaxed);
        self.position.store(from, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.from.store(from, Ordering::Release);
    }

    pub fn reach(&self, position: i64, entries: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.entries.store(entries, Ordering::Relaxed);
    }

    pub fn read(&self) -> Option<Reached> {
        let from = self.from.load(Ordering::Acquire);
        (from != NOT_YET).then(|| Reached {
            from,
            position: self.position.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
        })
    }
}

impl Reached {
    pub fn remaining(&self) -> i64 {
        (self.end - self.position).max(0)
    }

    /// Of the way from where it began, in percent.
    pub fn percent(&self) -> u8 {
        let (done, all) = (self.position - self.from, self.end - self.from);
        if all <= 0 { 100 } else { (done.clamp(0, all) * 100 / all) as u8 }
    }
}

//! The tables themselves: the one file that names fjall. Errors are fjall's words; a panic of its is one of them, since
//! a damaged file must not cost more than its own store.
//!
//! All rows of a store are in one keyspace, and with them the position. A keyspace that has lost the end of its journal
//! is what it was some batches ago; two of them need not have been so at one time.

use super::lock::Lock;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Kept in memory of what was read.
const CACHE_BYTES: u64 = 16 << 20;
/// Of rows, before they are written out.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Of all journals; fjall takes no less.
const JOURNAL_BYTES: u64 = 64 << 20;
/// What the engine may hold in memory: the cache, a memtable being filled and one being written out.
pub(super) const ENGINE_BYTES: usize = (CACHE_BYTES + 2 * MEMTABLE_BYTES) as usize;

/// One row put or removed.
pub(super) struct Change {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Cheap to clone. The database is closed, and the lock let go after it, with the last clone.
#[derive(Clone)]
pub(super) struct Tables {
    rows: Keyspace,
    database: Database,
    /// Where to say that these tables must not be used any more.
    pub unusable: Arc<PathBuf>,
    _lock: Arc<Lock>,
}

impl Tables {
    pub fn open(folder: &Path, lock: Arc<Lock>, unusable: PathBuf) -> Result<Self, String> {
        guarded(|| {
            let database =
                Database::builder(folder).cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES).worker_threads(1).open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let rows = database.keyspace("rows", options)?;
            Ok(Self { rows, database, unusable: Arc::new(unusable), _lock: lock })
        })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        guarded(|| Ok(self.rows.get(key)?.map(|value| value.to_vec())))
    }

    /// Rows from `from` on, in the order of their keys, until `visit` says false.
    pub fn scan(&self, from: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        guarded(|| {
            for row in self.rows.range(from.to_vec()..) {
                let (key, value) = row.into_inner()?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// All of it or nothing. May take as long as the disk does.
    pub fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        guarded(|| {
            let mut batch = self.database.batch();
            for change in changes {
                match change.value {
                    Some(value) => batch.insert(&self.rows, change.key, value),
                    None => batch.remove(&self.rows, change.key),
                }
            }
            batch.commit()
        })
    }

    /// The same as tables of their own, over all that is there. One change a key.
    pub fn ingest(&self, mut changes: Vec<Change>) -> Result<(), String> {
        changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        guarded(|| {
            let mut run = self.rows.start_ingestion()?;
            for change in changes {
                match change.value {
                    Some(value) => run.write(change.key, value)?,
                    None => run.write_tombstone(change.key)?,
                }
            }
            run.finish()
        })
    }

    pub fn disk_bytes(&self) -> u64 {
        guarded(|| self.database.disk_space()).unwrap_or_default()
    }
}

fn guarded<T>(act: impl FnOnce() -> fjall::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("its files can't be read (the storage engine gave up on them)".to_owned()),
    }
}

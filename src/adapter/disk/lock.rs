//! Who has a task's store open: one store of one process at a time.

use crate::base::ids::TaskId;
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A store of this process that is being closed has written its last batch by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// The stores that this process has open.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenStores(Arc<(Mutex<HashSet<TaskId>>, Condvar)>);

/// Lets go when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    task: TaskId,
    /// Locked for as long as it is open; taken out first.
    file: Option<File>,
    open: OpenStores,
}

pub(super) enum LockError {
    OpenElsewhere,
    Failed(std::io::Error),
}

impl OpenStores {
    /// Waits for a store of this process that is on its way out, and for no other process.
    pub fn lock(&self, task: TaskId, place: &Path) -> Result<Lock, LockError> {
        let (open, closed) = &*self.0;
        let held = open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = closed.wait_timeout_while(held, PATIENCE, |open| open.contains(&task));
        let (mut held, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        if timed_out.timed_out() {
            return Err(LockError::OpenElsewhere);
        }
        let file = File::options().create(true).truncate(false).write(true).open(place).map_err(LockError::Failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::OpenElsewhere),
            Err(TryLockError::Error(error)) => return Err(LockError::Failed(error)),
        }
        held.insert(task);
        Ok(Lock { task, file: Some(file), open: self.clone() })
    }
}

impl OpenStores {
    pub fn await_none(&self) {
        let (open, closed) = &*self.0;
        let held = open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(closed.wait_timeout_while(held, PATIENCE, |open| !open.is_empty()));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.file.take());
        let (open, closed) = &*self.open.0;
        open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.task);
        closed.notify_all();
    }
}

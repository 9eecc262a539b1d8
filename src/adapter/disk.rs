//! The versions store on disk: an LSM tree for each task, in a folder of its own below `state_dir`.
//!
//! ```text
//!  state_dir/<application>/0_3/          the tables (fjall's files)
//!                          0_3.lock      locked by whoever has them open
//!                          0_3.unusable  why they must not be used any more; they are dropped at the next opening
//! ```
//!
//! What was put lies in memory until a batch of it, with the changelog position that it belongs to, is written as one
//! by a thread of its own ([`writer`]): no stall of the disk holds up the task. Nothing is synced. The changelog is the
//! truth; a store that lost its last batches in a power cut is one that has more of the changelog to read.
//!
//! A store that can't be trusted is dropped with a warning that says why: it costs that task's restore.

mod bytes;
mod lock;
mod store;
mod tables;
mod writer;
mod written;

#[cfg(test)]
mod tests;

use crate::base::error::{Error, Result};
use crate::base::ids::TaskId;
use crate::store::{Applied, Opened, StoreOf, Stores};
use bytes::{FORMAT, State};
use lock::{Lock, LockError, OpenStores};
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::DiskStore;
use tables::Tables;

/// Makes and opens the stores of one application.
#[derive(Debug, Clone)]
pub struct DiskStores {
    application: String,
    folder: PathBuf,
    open: OpenStores,
}

impl DiskStores {
    pub fn new(state_dir: &Path, application: &str) -> Self {
        Self { application: application.to_owned(), folder: state_dir.join(application), open: OpenStores::default() }
    }
}

impl Stores for DiskStores {
    fn open(&self, of: &StoreOf) -> Result<Opened> {
        let home = self.lock(of.task)?;
        match self.read(&home, of) {
            Ok(Some((tables, state, applied))) => {
                let store = DiskStore::start(tables, of, state)?;
                Ok(Opened { store: Box::new(store), applied: Some(applied), warning: None })
            }
            Ok(None) => self.begin(home, of, None),
            Err(reason) => {
                let folder = home.tables.display();
                let warning = format!("the store kept in {folder} is dropped, and restored from the beginning: {reason}");
                self.begin(home, of, Some(warning))
            }
        }
    }

    fn open_empty(&self, of: &StoreOf) -> Result<Opened> {
        self.begin(self.lock(of.task)?, of, None)
    }

    fn await_closed(&self) {
        self.open.await_none();
    }
}

impl DiskStores {
    fn lock(&self, task: TaskId) -> Result<Home> {
        let of = |suffix: &str| self.folder.join(format!("{task}{suffix}"));
        let place = of(".lock");
        let made = fs::create_dir_all(&self.folder).map_err(LockError::Failed);
        match made.and_then(|()| self.open.lock(task, &place)) {
            Ok(lock) => Ok(Home { tables: of(""), unusable: of(".unusable"), lock: Arc::new(lock) }),
            Err(LockError::OpenElsewhere) => Err(Error::retry(format_args!(
                "the store of task {task} is open elsewhere ({} is locked); it is tried again, and another worker on this machine needs a state_dir of its own",
                place.display()
            ))),
            Err(LockError::Failed(error)) => Err(Error::refuse(format_args!(
                "state_dir: {} cannot be written: {error}; give this user the right to write there, or name another folder",
                place.display()
            ))),
        }
    }

    /// What is kept there; none if there is nothing, or why it can't be used.
    fn read(&self, home: &Home, of: &StoreOf) -> std::result::Result<Option<(Tables, State, Applied)>, String> {
        if let Ok(reason) = fs::read_to_string(&home.unusable) {
            return Err(reason);
        }
        if !home.tables.exists() {
            return Ok(None);
        }
        let tables = Tables::open(&home.tables, home.lock.clone(), home.unusable.clone())?;
        let Some(bytes) = tables.get(bytes::STATE_KEY)? else { return Ok(None) };
        let state = State::decode(&bytes)?;
        let expected = self.state_of(of);
        if state.application != expected.application {
            return Err(format!("it is of application {}, and this one is {}", state.application, expected.application));
        }
        if (&state.changelog, state.partition) != (&expected.changelog, expected.partition) {
            return Err(format!("it follows {}[{}], and this task {}", state.changelog, state.partition, of.changelog));
        }
        match (&state.topic_id, &expected.topic_id) {
            (Some(kept), Some(found)) if kept == found => {}
            (Some(kept), Some(found)) => {
                return Err(format!("{} was made anew since: it had id {kept} and has {found}", of.changelog.topic));
            }
            _ => return Err(format!("nothing proves that {} is still the topic it was: it has no id", of.changelog.topic)),
        }
        if state.collections != expected.collections {
            return Err("the configured collections are others than when it was kept".to_owned());
        }
        let applied = state.applied()?;
        Ok(Some((tables, state, applied)))
    }

    /// A new store, in place of what there is.
    fn begin(&self, home: Home, of: &StoreOf, warning: Option<String>) -> Result<Opened> {
        for path in [&home.tables, &home.unusable] {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(home.unmakeable(&error)),
                _ => {}
            }
        }
        let made = Tables::open(&home.tables, home.lock.clone(), home.unusable.clone());
        let tables = made.map_err(|error| home.unmakeable(&error))?;
        let store = DiskStore::start_filling(tables, of, self.state_of(of))?;
        Ok(Opened { store: Box::new(store), applied: None, warning })
    }

    /// The state of a store that has followed nothing yet.
    fn state_of(&self, of: &StoreOf) -> State {
        State {
            format: FORMAT,
            application: self.application.clone(),
            changelog: of.changelog.topic.to_string(),
            partition: of.changelog.partition,
            topic_id: of.topic_id.as_ref().map(ToString::to_string),
            collections: of.collections.iter().map(|(_, spec)| (spec.name.clone(), bytes::kind_of_id(spec.id))).collect(),
            next_offset: 0,
            at_ms: 0,
            entries: 0,
            vectors_end: 0,
            progress: None,
        }
    }
}

/// The places of one task's store, locked.
struct Home {
    tables: PathBuf,
    unusable: PathBuf,
    lock: Arc<Lock>,
}

impl Home {
    fn unmakeable(&self, error: &dyn Display) -> Error {
        let folder = self.tables.display();
        Error::refuse(format_args!(
            "no store can be made in {folder}: {error}; free space or rights are missing there, or name another state_dir"
        ))
    }
}

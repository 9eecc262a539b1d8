//! What a standby hands over is what the log says: a store that a task begins with is compared, entry by entry, with a
//! replay of everything that was ever appended to its changelog, below the end that the restore read to. The replay
//! knows of no standby, no chunk, no position and no compaction.

use crate::base::ids::{RowKey, TopicPartition};
use crate::merge::version::Version;
use crate::port::log::Append;
use crate::record::collection::Collections;
use crate::store::VersionStore;
use crate::store::entry::{Entry, FORGOTTEN_HEADER, parse_version_text};
use crate::store::progress::PROGRESS_KEY;
use crate::store::row_key;
use crate::testing::sim::trace::Violations;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::testing::sim) struct StandbyChecks {
    collections: Arc<Collections>,
    violations: Violations,
    /// Every record of every versions changelog, by offset.
    history: HashMap<TopicPartition, BTreeMap<i64, Written>>,
}

enum Written {
    Put(RowKey, Entry),
    Forgotten(RowKey, Version),
}

/// What is known of a key at some place in the log.
#[derive(Default)]
struct Known {
    held: Option<Entry>,
    forgotten: Option<Version>,
}

impl StandbyChecks {
    pub fn new(collections: Arc<Collections>, violations: Violations) -> Self {
        Self { collections, violations, history: HashMap::new() }
    }

    /// A record of a versions changelog.
    pub fn appended(&mut self, append: &Append, offset: i64) {
        let bytes = append.key.as_deref().unwrap_or_default();
        if bytes == PROGRESS_KEY.as_bytes() {
            return;
        }
        // What can't be read is another checker's finding.
        let Ok(key) = row_key::parse(bytes, &self.collections) else { return };
        let written = match &append.value {
            Some(value) => Entry::decode(value).ok().map(|entry| Written::Put(key, entry)),
            None => {
                let header = append.headers.iter().find(|(name, _)| &**name == FORGOTTEN_HEADER);
                let text = header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
                text.and_then(parse_version_text).map(|version| Written::Forgotten(key, version))
            }
        };
        if let Some(written) = written {
            self.history.entry(append.to.clone()).or_default().insert(offset, written);
        }
    }

    /// A task begins with a store that a standby has read; `up_to`: the end that its restore read to.
    pub fn promoted(&self, now: Duration, worker: u64, changelog: &TopicPartition, store: &dyn VersionStore, up_to: i64) {
        let mut expected = self.replay(changelog, up_to);
        let found = &self.violations;
        store.for_each(&mut |key, entry| match expected.remove(&key) {
            Some(wanted) if wanted == entry => {}
            wanted => {
                let detail = format!("worker {worker}, {changelog} up to {up_to}: {key:?} is {entry:?}, must be {wanted:?}");
                found.add("standby", now, detail);
            }
        });
        for (key, wanted) in expected {
            found.add(
                "standby",
                now,
                format!("worker {worker}, {changelog} up to {up_to}: {key:?} is not there, must be {wanted:?}"),
            );
        }
    }

    /// The greatest version of each key; a null takes back what is not greater than what it forgets, for good.
    fn replay(&self, changelog: &TopicPartition, up_to: i64) -> BTreeMap<RowKey, Entry> {
        let mut known: HashMap<&RowKey, Known> = HashMap::new();
        for written in
            self.history.get(changelog).into_iter().flat_map(|history| history.range(..up_to)).map(|(_, written)| written)
        {
            match written {
                Written::Put(key, entry) => {
                    let known = known.entry(key).or_default();
                    let beaten = known
                        .held
                        .as_ref()
                        .is_some_and(|held| (&held.version, held.content_hash) > (&entry.version, entry.content_hash));
                    let forgotten = known.forgotten.as_ref().is_some_and(|forgotten| *forgotten >= entry.version);
                    if !beaten && !forgotten {
                        *known = Known { held: Some(entry.clone()), forgotten: None };
                    }
                }
                Written::Forgotten(key, version) => {
                    let known = known.entry(key).or_default();
                    if known.held.as_ref().is_none_or(|held| held.version <= *version) {
                        known.held = None;
                        known.forgotten = known.forgotten.take().max(Some(version.clone()));
                    }
                }
            }
        }
        known.into_iter().filter_map(|(key, known)| Some((key.clone(), known.held?))).collect()
    }
}

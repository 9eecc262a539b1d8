//! The row keys of one collection that this region has ever heard of: all that the versions changelogs still name,
//! whether they hold a row, a tombstone, or the null that forgets one.

use crate::base::error::Result;
use crate::base::ids::{CollectionId, RowKey, TopicPartition};
use crate::ops::history::{History, Setting};
use crate::ops::work::Work;
use crate::store::row_key;
use std::collections::HashSet;

pub struct Known {
    collection: CollectionId,
    /// Hashes: 16 bytes a key, whatever its ids are.
    keys: HashSet<u128>,
    /// Of the versions changelogs: read up to here.
    positions: Vec<(TopicPartition, i64)>,
}

impl Known {
    pub fn new(setting: &Setting, collection: CollectionId) -> Self {
        let mut positions = Vec::new();
        for shard in 0..setting.names.shards() {
            for partition in 0..setting.partitions {
                positions.push((TopicPartition::new(setting.names.versions_changelog(shard), partition), 0));
            }
        }
        Self { collection, keys: HashSet::new(), positions }
    }

    /// Records that are still to be read.
    pub fn unread(&self, history: &mut History<'_>) -> Result<u64> {
        let mut records = 0;
        for (changelog, position) in &self.positions {
            let bounds = history.reader.bounds(changelog)?;
            records += u64::try_from(bounds.end - bounds.first.max(*position)).unwrap_or(0);
        }
        Ok(records)
    }

    /// Reads what is new.
    pub fn look(&mut self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        let (keys, collection, collections) = (&mut self.keys, self.collection, history.setting.collections.clone());
        for (changelog, position) in &mut self.positions {
            *position = history.read(changelog, *position, work, &mut |_, record| {
                let key = record.key.as_deref().and_then(|key| row_key::parse(key, &collections).ok());
                if key.is_some_and(|key| key.collection == collection) {
                    keys.insert(hash(record.key.as_deref().unwrap_or_default()));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    pub fn holds(&self, key: &RowKey, setting: &Setting) -> bool {
        self.keys.contains(&hash(&row_key::encode(key, &setting.collections)))
    }
}

fn hash(row_key: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(row_key)
}

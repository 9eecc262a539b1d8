//! Who holds the row keys now, from the versions changelog: what a replayed change would have to win against.

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::merge::version::Version;
use crate::ops::scan::scan;
use crate::port::log::LogReader;
use crate::store::entry::Entry;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Reads each partition of the changelog that holds some of the keys. A key that nobody holds is left out.
pub fn holders(
    reader: &mut dyn LogReader,
    keys: impl IntoIterator<Item = (TopicPartition, Bytes)>,
) -> Result<HashMap<Bytes, Version>> {
    let mut wanted: BTreeMap<TopicPartition, Vec<Bytes>> = BTreeMap::new();
    for (partition, key) in keys {
        wanted.entry(partition).or_default().push(key);
    }
    let mut holders: HashMap<Bytes, Version> = HashMap::new();
    for (partition, keys) in wanted {
        let mut unreadable = None;
        scan(reader, &partition, 0, &mut |record| {
            let Some(key) = record.key.filter(|key| keys.contains(key)) else { return };
            // A null forgets a tombstone: the key is nobody's again.
            let Some(value) = record.value else {
                holders.remove(&key);
                return;
            };
            match Entry::decode(&value) {
                Ok(entry) => {
                    let holder = holders.entry(key).or_insert_with(|| entry.version.clone());
                    *holder = (*holder).clone().max(entry.version);
                }
                Err(error) => unreadable = Some(error),
            }
        })?;
        if let Some(error) = unreadable {
            return Err(Error::refuse(format!("{partition}: {error}")));
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::base::time::UnixMs;
    use crate::merge::hlc::Hlc;
    use crate::merge::version::ContentHash;
    use crate::ops::scan::memory::MemoryReader;
    use crate::record::raw::RawRecord;

    #[test]
    fn the_greatest_version_of_each_key_is_found_and_a_forgotten_key_is_nobodys() {
        let changelog = TopicPartition::new("app-versions-changelog", 0);
        let version = |hlc| Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: 1 };
        let entry = |hlc| {
            let content_hash = ContentHash(0);
            Entry { version: version(hlc), content_hash, vector_offset: 0, tombstone: false, refused: false }.encode()
        };
        let writes = [("a", Some(entry(5))), ("b", Some(entry(1))), ("a", Some(entry(3))), ("b", None), ("c", Some(entry(9)))];
        let records = writes.into_iter().enumerate().map(|(offset, (key, value))| RawRecord {
            topic: changelog.topic.clone(),
            partition: 0,
            offset: offset as i64,
            appended_at: UnixMs(0),
            key: Some(Bytes::from(key)),
            value: value.map(Bytes::from),
            headers: Vec::new(),
        });
        let mut reader = MemoryReader { records: records.collect(), partitions: 1, ..MemoryReader::default() };
        let keys = ["a", "b"].map(|key| (changelog.clone(), Bytes::from(key)));
        let found = holders(&mut reader, keys).unwrap();
        assert_eq!(found, HashMap::from([(Bytes::from("a"), version(5))]));
    }
}

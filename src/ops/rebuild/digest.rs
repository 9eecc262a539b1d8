//! What a collection holds, in few bytes: of each partition the number of rows and a sum over ids and versions, which
//! comes out the same in whatever order they are read.

use crate::base::ids::VectorId;
use crate::merge::version::Version;
use crate::ops::history::Setting;
use crate::region::partitioner::partition_for_key;
use std::collections::BTreeMap;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Digests(BTreeMap<i32, (u64, u128)>);

impl Digests {
    /// Without a version it is somebody else's row.
    pub fn add(&mut self, setting: &Setting, id: &VectorId, version: Option<&Version>) {
        let (partition, row) = place(setting, id, version);
        let (rows, sum) = self.0.entry(partition).or_default();
        (*rows, *sum) = (*rows + 1, sum.wrapping_add(row));
    }

    /// One that was added before.
    pub fn remove(&mut self, setting: &Setting, id: &VectorId, version: &Version) {
        let (partition, row) = place(setting, id, Some(version));
        let (rows, sum) = self.0.entry(partition).or_default();
        (*rows, *sum) = (rows.saturating_sub(1), sum.wrapping_sub(row));
    }

    pub fn rows(&self) -> u64 {
        self.0.values().map(|(rows, _)| rows).sum()
    }

    /// The first partition that differs, in words.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let nothing = (0, 0);
        for partition in self.0.keys().chain(found.0.keys()) {
            let (expected, found) = (self.0.get(partition).unwrap_or(&nothing), found.0.get(partition).unwrap_or(&nothing));
            if expected.0 != found.0 {
                return Some(format!("partition {partition}: {} rows, {} expected", found.0, expected.0));
            }
            if expected.1 != found.1 {
                return Some(format!("partition {partition}: as many rows as expected, but other versions"));
            }
        }
        None
    }
}

fn place(setting: &Setting, id: &VectorId, version: Option<&Version>) -> (i32, u128) {
    let text = id.to_string();
    let version = version.map(Version::to_string).unwrap_or_default();
    let row = xxhash_rust::xxh3::xxh3_128(format!("{version}\0{text}").as_bytes());
    (partition_for_key(text.as_bytes(), setting.partitions), row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::merge::hlc::Hlc;
    use crate::record::collection::Collections;
    use crate::region::topics::TopicNames;
    use std::sync::Arc;

    fn digests(rows: &[(i64, u64)]) -> Digests {
        let setting = Setting {
            region: Region::new("eu"),
            peers: Vec::new(),
            names: TopicNames::new("app", 1),
            partitions: 3,
            collections: Arc::new(Collections::default()),
            max_lateness_ms: 0,
        };
        let mut digests = Digests::default();
        for (id, hlc) in rows {
            let version = Version { hlc: Hlc(*hlc), origin: Region::new("eu"), sequence: 1 };
            digests.add(&setting, &VectorId::Int(*id), Some(&version));
        }
        digests
    }

    #[test]
    fn a_missing_row_and_an_older_one_are_found_and_the_order_does_not_matter() {
        let whole = digests(&[(1, 5), (2, 6), (3, 7)]);
        assert_eq!(whole.difference(&digests(&[(3, 7), (1, 5), (2, 6)])), None);
        assert!(whole.difference(&digests(&[(1, 5), (3, 7)])).unwrap().contains("expected"));
        assert!(whole.difference(&digests(&[(1, 5), (2, 5), (3, 7)])).unwrap().contains("other versions"));
        assert!(digests(&[]).difference(&whole).is_some());
    }
}

//! Why a row is what it is: every change of it that the logs still hold, what became of each and why, and what
//! changelogs and vector store hold of it now.
//!
//! [`find`] gathers what there is, [`tell`] draws the conclusions: the second is a function of the first.

mod verdict;

pub use verdict::{Explanation, Held, Line, tell};

use crate::base::error::{Error, Result};
use crate::base::ids::{RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::version::{ContentHash, Version};
use crate::ops::ask::ask;
use crate::ops::history::progress::ProgressFollower;
use crate::ops::history::{ChangeTopic, History, Judged};
use crate::ops::work::Work;
use crate::port::vector::{StoreReply, StoreRequest, StoredVersion, VectorStore};
use crate::record::change::{Change, Op};
use crate::record::headers;
use crate::record::raw::RawRecord;
use crate::record::reason::Rejection;
use crate::region::partitioner::partition_for_key;
use crate::store::entry::{Entry, FORGOTTEN_HEADER, parse_version_text};
use crate::store::row_key;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A change as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub version: Version,
    pub hash: ContentHash,
    pub op: Op,
}

impl From<&Change> for Seen {
    fn from(change: &Change) -> Self {
        Self { version: change.version.clone(), hash: change.content_hash(), op: change.op }
    }
}

/// What admission made of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    MisKeyed,
    Refused(Rejection),
}

/// A record of a change topic that is about the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub source: TopicPartition,
    pub offset: i64,
    pub own: bool,
    pub appended_at: UnixMs,
    /// None where the header could not be read.
    pub seen: Option<Seen>,
    pub admission: Admission,
    /// It was written by a roll-back to that instant.
    pub rolled_back_to: Option<UnixMs>,
}

/// A record of the vectors changelog; without an op, a null that forgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    pub offset: i64,
    pub version: Version,
    pub hash: ContentHash,
    pub op: Option<Op>,
}

/// What is kept of a record that was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub reason: String,
    pub detail: String,
}

/// Where a copy's original was read: topic, partition, offset.
pub type ReadAt = (Arc<str>, i32, i64);

/// All that there is to be found about a row.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of their append times.
    pub offered: Vec<Offered>,
    pub winners: Vec<Winner>,
    /// The greatest entry of the versions changelog: what a worker's store holds.
    pub entry: Option<Entry>,
    /// Up to which version the key was forgotten.
    pub forgotten: Option<Version>,
    /// By source, partition and offset.
    pub dead_letters: HashMap<ReadAt, Kept>,
    /// The version that won, by the loser's source, partition and offset.
    pub conflicts: HashMap<ReadAt, Version>,
    /// The first offset that is not settled, by source topic.
    pub settled: BTreeMap<Arc<str>, i64>,
    /// What the vector store holds, or why it can't be asked.
    pub stored: Option<std::result::Result<Option<StoredVersion>, String>>,
}

/// Reads one partition of every topic that may tell of the row, and asks the vector store.
pub fn find(history: &mut History<'_>, store: &mut dyn VectorStore, key: &RowKey, work: &mut Work<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let id = key.id.to_string();
    let partition = partition_for_key(id.as_bytes(), history.setting.partitions);
    let topics = &history.setting.names;
    let (dead_letter, conflicts) = (topics.dead_letter(), topics.conflicts());
    for shard in 0..topics.shards() {
        for topic in history.change_topics(shard)? {
            offered(history, &topic, partition, key, work, &mut findings)?;
        }
        winners(history, shard, partition, key, work, &mut findings)?;
        entries(history, shard, partition, key, work, &mut findings)?;
    }
    kept(history, &TopicPartition::new(dead_letter, partition), &id, work, &mut |place, record| {
        let text = |name: &str| record.header_text(name).unwrap_or_default().to_owned();
        findings.dead_letters.insert(place, Kept { reason: text(headers::REASON), detail: text(headers::DETAIL) });
    })?;
    kept(history, &TopicPartition::new(conflicts, partition), &id, work, &mut |place, record| {
        if let Some(winner) = record.header_text(headers::WINNER).and_then(parse_version_text) {
            findings.conflicts.insert(place, winner);
        }
    })?;
    settled(history, partition, &mut findings)?;
    findings.stored = Some(match ask(store, key.collection, StoreRequest::ReadBack(vec![key.id.clone()])) {
        Ok(StoreReply::ReadBack(found)) => Ok(found.into_iter().next()),
        Ok(other) => Err(format!("it answered a question with {other:?}")),
        Err(error) => Err(error.to_string()),
    });
    findings.offered.sort_by_key(|offered| (offered.appended_at, offered.source.clone(), offered.offset));
    Ok(findings)
}

/// One topic's partition from its beginning.
fn scan(
    history: &mut History<'_>,
    partition: &TopicPartition,
    work: &mut Work<'_>,
    visit: &mut dyn FnMut(&mut dyn crate::record::schema::SchemaSource, RawRecord) -> Result<()>,
) -> Result<()> {
    let bounds = history.reader.bounds(partition)?;
    work.begin(format!("reading {partition}"), "records", (bounds.end - bounds.first).max(0) as u64);
    history.read(partition, bounds.first, work, visit)?;
    work.end();
    Ok(())
}

fn offered(
    history: &mut History<'_>,
    topic: &ChangeTopic,
    partition: i32,
    key: &RowKey,
    work: &mut Work<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let setting = history.setting;
    let source = TopicPartition::new(topic.name.clone(), partition);
    let id = key.id.to_string();
    scan(history, &source, work, &mut |schemas, record| {
        // A keyless record may be of this row; one of another key is another's.
        if record.key.as_deref().is_some_and(|key| key != id.as_bytes()) {
            return Ok(());
        }
        let (offset, appended_at, keyed) = (record.offset, record.appended_at, record.key.is_some());
        let rolled_back_to = record.header_text(headers::ROLLED_BACK_TO).and_then(|text| text.parse().ok()).map(UnixMs);
        let (change, admission) = match crate::ops::history::judge(setting, schemas, record, &topic.origin)? {
            Judged::Heartbeat => return Ok(()),
            Judged::Admitted(change) => (Some(change), Admission::Admitted),
            Judged::MisKeyed(change) => (Some(change), Admission::MisKeyed),
            Judged::Refused(change, rejection) => (change, Admission::Refused(rejection)),
        };
        let of_another = change.as_ref().map_or(!keyed, |change| change.key != *key);
        if !of_another {
            findings.offered.push(Offered {
                source: source.clone(),
                offset,
                own: topic.origin == setting.region,
                appended_at,
                seen: change.as_ref().map(Seen::from),
                admission,
                rolled_back_to,
            });
        }
        Ok(())
    })
}

fn winners(
    history: &mut History<'_>,
    shard: u16,
    partition: i32,
    key: &RowKey,
    work: &mut Work<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let setting = history.setting;
    let topic = setting.names.vectors_changelog(shard);
    history.check(&topic)?;
    let row_key = row_key::encode(key, &setting.collections);
    scan(history, &TopicPartition::new(topic, partition), work, &mut |schemas, record| {
        if record.key.as_deref() != Some(&row_key[..]) {
            return Ok(());
        }
        let offset = record.offset;
        if let Some(said) = crate::ops::history::winner(setting, schemas, record)? {
            let op = said.change.as_ref().map(|change| change.op);
            findings.winners.push(Winner { offset, hash: said.hash(), version: said.version, op });
        }
        Ok(())
    })
}

fn entries(
    history: &mut History<'_>,
    shard: u16,
    partition: i32,
    key: &RowKey,
    work: &mut Work<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let topic = history.setting.names.versions_changelog(shard);
    history.check(&topic)?;
    let row_key = row_key::encode(key, &history.setting.collections);
    scan(history, &TopicPartition::new(topic, partition), work, &mut |_, record| {
        if record.key.as_deref() != Some(&row_key[..]) {
            return Ok(());
        }
        match &record.value {
            Some(value) => {
                let entry = Entry::decode(value).map_err(Error::refuse)?;
                let stamp = |entry: &Entry| (entry.version.clone(), entry.content_hash);
                let forgotten = findings.forgotten.as_ref().is_some_and(|version| entry.version <= *version);
                if !forgotten && findings.entry.as_ref().is_none_or(|held| stamp(&entry) >= stamp(held)) {
                    findings.entry = Some(entry);
                }
            }
            None => {
                if let Some(version) = record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text) {
                    findings.entry = findings.entry.take().filter(|held| held.version > version);
                    findings.forgotten = findings.forgotten.take().max(Some(version));
                }
            }
        }
        Ok(())
    })
}

/// Copies of records that were not applied, by where they were read.
fn kept(
    history: &mut History<'_>,
    partition: &TopicPartition,
    id: &str,
    work: &mut Work<'_>,
    visit: &mut dyn FnMut(ReadAt, &RawRecord),
) -> Result<()> {
    history.check(&partition.topic)?;
    scan(history, partition, work, &mut |_, record| {
        let number = |name: &str| record.header_text(name).and_then(|text| text.parse::<i64>().ok());
        let of_this = record.key.as_deref().is_none_or(|key| key == id.as_bytes());
        let place = (record.header_text(headers::TOPIC), number(headers::PARTITION), number(headers::OFFSET));
        if let (true, (Some(topic), Some(partition), Some(offset))) = (of_this, place) {
            visit((Arc::from(topic), partition as i32, offset), &record);
        }
        Ok(())
    })
}

fn settled(history: &mut History<'_>, partition: i32, findings: &mut Findings) -> Result<()> {
    let mut follower = ProgressFollower::new(history.setting);
    follower.partitions.retain(|followed| followed.partition == partition);
    follower.look(history.reader)?;
    for progress in follower.partitions.iter().filter_map(|followed| followed.progress.as_ref()) {
        for source in &progress.sources {
            findings.settled.insert(Arc::from(source.topic.as_str()), source.next_offset);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

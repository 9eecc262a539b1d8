//! The changelog's tail, applied to the new collection.
//!
//! Before the swap nobody else writes there. After it the workers do, and what is read here may be older than what they
//! have written meanwhile: so a row is looked at first, and written only where it is older. A worker may still write
//! between the look and our writing; its change comes behind in the changelog, and is older nowhere. So the changelog is
//! followed until nothing is written here from when all was asked for that could have crossed our last write.

use super::writer::RowWriter;
use crate::base::error::Result;
use crate::base::ids::{CollectionId, TopicPartition, VectorId};
use crate::merge::version::{ContentHash, Version};
use crate::ops::history::progress::{Followed, Missing, ProgressFollower};
use crate::ops::history::{self, History};
use crate::ops::work::Work;
use crate::record::decode::decode_row;
use std::collections::BTreeMap;
use std::time::Duration;

/// A round of the tail that takes no longer leaves little behind.
const SHORT_ROUND: Duration = Duration::from_millis(300);
/// Records that are read and kept at once.
const RECORDS_MAX: i64 = 2_000;

/// The greatest change of a row in a part of the tail.
struct Tail {
    version: Version,
    hash: ContentHash,
    /// None: it deletes.
    row: Option<(Vec<f32>, Vec<u8>)>,
}

pub struct Follower {
    collection: CollectionId,
    partitions: Vec<TopicPartition>,
    /// The changelog is applied up to here.
    pub positions: Vec<i64>,
    /// Changes applied.
    pub applied: u64,
    writer: RowWriter,
}

impl Follower {
    pub fn new(collection: CollectionId, partitions: Vec<TopicPartition>, positions: Vec<i64>, writer: RowWriter) -> Self {
        Self { collection, partitions, positions, applied: 0, writer }
    }

    /// Until a round is short: then what is left is some fractions of a second's writing.
    pub fn catch_up(&mut self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        loop {
            let begun = work.clock.now().monotonic;
            let before = self.applied;
            self.round(history, false, work)?;
            let took = work.clock.now().monotonic.saturating_sub(begun);
            if took <= SHORT_ROUND || self.applied == before {
                return Ok(());
            }
        }
    }

    /// Until all is in the changelog, and from there in the collection, that any worker may have sent to the old one.
    pub fn follow_past(&mut self, history: &mut History<'_>, patience: Duration, work: &mut Work<'_>) -> Result<()> {
        // At once: rows that went to the old collection in the last instant are missing here.
        self.round(history, true, work)?;
        loop {
            let (ends, applied) = (ends(history)?, self.applied);
            let mut progress = ProgressFollower::new(history.setting);
            progress.wait(history.reader, work, patience, &mut |followed| Ok(unsettled(followed, &ends)))?;
            self.round(history, true, work)?;
            if self.applied == applied {
                return Ok(());
            }
        }
    }

    /// Every partition to its present end.
    fn round(&mut self, history: &mut History<'_>, after_swap: bool, work: &mut Work<'_>) -> Result<()> {
        for index in 0..self.partitions.len() {
            let partition = self.partitions[index].clone();
            while let Some(from) = self.behind(history, index)? {
                let mut tail = BTreeMap::new();
                let until = self.read(history, &partition, from, &mut tail, work)?;
                self.apply(tail, after_swap, work)?;
                self.positions[index] = until;
            }
        }
        Ok(())
    }

    fn behind(&self, history: &mut History<'_>, index: usize) -> Result<Option<i64>> {
        let end = history.reader.bounds(&self.partitions[index])?.end;
        Ok((self.positions[index] < end).then_some(self.positions[index]))
    }

    /// Reads some of the tail. Answers with where it stopped.
    fn read(
        &mut self,
        history: &mut History<'_>,
        partition: &TopicPartition,
        from: i64,
        tail: &mut BTreeMap<VectorId, Tail>,
        work: &mut Work<'_>,
    ) -> Result<i64> {
        let (setting, collection) = (history.setting, self.collection);
        history.read_until(partition, from, from + RECORDS_MAX, work, &mut |schemas, record| {
            // A delete that is forgotten was applied as a delete before.
            let Some(said) = history::winner(setting, schemas, record)? else { return Ok(()) };
            let Some(change) = said.change.as_ref().filter(|_| said.key.collection == collection) else { return Ok(()) };
            let (version, hash) = (said.version.clone(), said.hash());
            if tail.get(&said.key.id).is_some_and(|held| (&held.version, held.hash) > (&version, hash)) {
                return Ok(());
            }
            let (mut vector, mut metadata) = (Vec::new(), Vec::new());
            if decode_row(change, setting.collections.get(collection), &mut vector, &mut metadata).is_ok() {
                let row = (!said.is_delete()).then_some((vector, metadata));
                tail.insert(said.key.id, Tail { version, hash, row });
            }
            Ok(())
        })
    }

    fn apply(&mut self, tail: BTreeMap<VectorId, Tail>, after_swap: bool, work: &mut Work<'_>) -> Result<()> {
        let stored = match after_swap {
            true => self.writer.read_back(&tail.keys().cloned().collect::<Vec<_>>(), work)?,
            false => Default::default(),
        };
        for (id, Tail { version, row, .. }) in tail {
            if after_swap && !is_older(stored.get(&id), &version, row.is_none()) {
                continue;
            }
            self.applied += 1;
            match row {
                Some((vector, metadata)) => self.writer.upsert(id, version, &vector, &metadata, work)?,
                None => self.writer.delete(id, work)?,
            }
        }
        self.writer.flush(work)
    }
}

/// Does the collection lack this change, or hold an older one? A row without a version is somebody else's, and older.
fn is_older(stored: Option<&Option<Version>>, version: &Version, delete: bool) -> bool {
    stored.map_or(!delete, |stored| stored.as_ref() < Some(version))
}

/// Where a partition of a change topic ended when it was asked.
struct End {
    shard: u16,
    source: TopicPartition,
    offset: i64,
}

fn ends(history: &mut History<'_>) -> Result<Vec<End>> {
    let mut ends = Vec::new();
    for shard in 0..history.setting.names.shards() {
        for topic in history.change_topics(shard)? {
            for number in 0..history.setting.partitions {
                let source = TopicPartition::new(topic.name.clone(), number);
                let offset = history.reader.bounds(&source)?.end;
                ends.push(End { shard, source, offset });
            }
        }
    }
    Ok(ends)
}

fn unsettled(followed: &Followed, ends: &[End]) -> Option<Missing> {
    for End { shard, source, offset } in ends {
        let behind = offset - followed.settled(&source.topic);
        if (*shard, source.partition) == (followed.shard, followed.partition) && behind > 0 {
            let what = format!("the workers to pass the swap ({behind} records of {source} to go)");
            let remedy = "is a worker of this region running? Run it again when it is".to_owned();
            return Some(Missing { behind, what, remedy });
        }
    }
    None
}

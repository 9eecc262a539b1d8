//! The changelog's tail, applied to the new collection.
//!
//! Before the swap nobody else writes there. After it the workers do, and only two kinds of rows may be older there than
//! the changelog says: those that a worker had sent to the old collection, and those that we wrote while a worker wrote
//! them too. So a part of the tail is looked at when the workers have settled all that was there when it was read (what
//! they are about to write is none of ours), a row is written only where it is older, and the next part of the tail
//! matters for the rows that were written alone. It ends when a part leaves nothing to write, which it does however much
//! the workers write meanwhile.

use super::writer::RowWriter;
use crate::base::error::Result;
use crate::base::ids::{CollectionId, TopicPartition, VectorId};
use crate::merge::version::{ContentHash, Version};
use crate::ops::history::progress::{Followed, Missing, ProgressFollower};
use crate::ops::history::{self, History};
use crate::ops::work::Work;
use crate::record::decode::decode_row;
use std::collections::{BTreeMap, BTreeSet};
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
    pub writer: RowWriter,
}

impl Follower {
    pub fn new(collection: CollectionId, partitions: Vec<TopicPartition>, positions: Vec<i64>, writer: RowWriter) -> Self {
        Self { collection, partitions, positions, applied: 0, writer }
    }

    /// Until a round is short, or no longer much shorter than the one before it: then what is left is what is written
    /// in the time of a round, and no further round makes it less.
    pub fn catch_up(&mut self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        let mut last_round = u64::MAX;
        loop {
            let (begun, before) = (work.clock.now().monotonic, self.applied);
            self.round(history, &Rows::All, work)?;
            let (took, round) = (work.clock.now().monotonic.saturating_sub(begun), self.applied - before);
            if took <= SHORT_ROUND || round > last_round / 2 || round == 0 {
                return Ok(());
            }
            last_round = round;
        }
    }

    /// Until the collection holds all that any worker may have sent to the old one.
    pub fn follow_past(&mut self, history: &mut History<'_>, patience: Duration, work: &mut Work<'_>) -> Result<()> {
        // At once: rows that went to the old collection in the last instant are missing here.
        self.round(history, &Rows::Older, work)?;
        // What a worker has read before the swap and appends to the changelog after it is behind this.
        wait_settled(history, patience, work)?;
        let mut written = None;
        loop {
            let begin = self.positions.clone();
            let mut greatest = self.greatest(history, written.as_ref(), work)?;
            wait_settled(history, patience, work)?;
            let stored = self.writer.read_back(&greatest.keys().cloned().collect::<Vec<_>>(), work)?;
            greatest.retain(|id, (version, delete)| is_older(stored.get(id), version, *delete));
            if greatest.is_empty() {
                return Ok(());
            }
            let older = greatest.into_keys().collect();
            let end = std::mem::replace(&mut self.positions, begin);
            self.until(history, &end, &Rows::OlderOf(&older), work)?;
            written = Some(older);
        }
    }

    /// The greatest change of each row (of these) in the tail up to its present end, and whether it deletes.
    fn greatest(
        &mut self,
        history: &mut History<'_>,
        of: Option<&BTreeSet<VectorId>>,
        work: &mut Work<'_>,
    ) -> Result<BTreeMap<VectorId, (Version, bool)>> {
        let mut greatest: BTreeMap<VectorId, (Version, bool)> = BTreeMap::new();
        for index in 0..self.partitions.len() {
            let partition = self.partitions[index].clone();
            let end = history.reader.bounds(&partition)?.end;
            while self.positions[index] < end {
                let mut tail = BTreeMap::new();
                let from = self.positions[index];
                self.positions[index] = self.read(history, &partition, from, end, &mut tail, work)?;
                for (id, Tail { version, row, .. }) in tail {
                    let matters = of.is_none_or(|of| of.contains(&id));
                    if matters && greatest.get(&id).is_none_or(|(held, _)| *held < version) {
                        greatest.insert(id, (version, row.is_none()));
                    }
                }
            }
        }
        Ok(greatest)
    }

    /// Every partition to its present end.
    fn round(&mut self, history: &mut History<'_>, rows: &Rows<'_>, work: &mut Work<'_>) -> Result<()> {
        let mut ends = Vec::new();
        for partition in &self.partitions {
            ends.push(history.reader.bounds(partition)?.end);
        }
        self.until(history, &ends, rows, work)
    }

    fn until(&mut self, history: &mut History<'_>, ends: &[i64], rows: &Rows<'_>, work: &mut Work<'_>) -> Result<()> {
        for (index, end) in ends.iter().enumerate() {
            let partition = self.partitions[index].clone();
            while self.positions[index] < *end {
                let mut tail = BTreeMap::new();
                let until = self.read(history, &partition, self.positions[index], *end, &mut tail, work)?;
                self.apply(tail, rows, work)?;
                self.positions[index] = until;
            }
        }
        Ok(())
    }

    /// Reads some of the tail. Answers with where it stopped.
    fn read(
        &mut self,
        history: &mut History<'_>,
        partition: &TopicPartition,
        from: i64,
        end: i64,
        tail: &mut BTreeMap<VectorId, Tail>,
        work: &mut Work<'_>,
    ) -> Result<i64> {
        let (setting, collection) = (history.setting, self.collection);
        history.read_until(partition, from, end.min(from + RECORDS_MAX), work, &mut |schemas, record| {
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

    fn apply(&mut self, mut tail: BTreeMap<VectorId, Tail>, rows: &Rows<'_>, work: &mut Work<'_>) -> Result<()> {
        if let Rows::OlderOf(some) = rows {
            tail.retain(|id, _| some.contains(id));
        }
        let stored = match rows {
            Rows::All => Default::default(),
            Rows::Older | Rows::OlderOf(_) => self.writer.read_back(&tail.keys().cloned().collect::<Vec<_>>(), work)?,
        };
        for (id, Tail { version, row, .. }) in tail {
            if !matches!(rows, Rows::All) && !is_older(stored.get(&id), &version, row.is_none()) {
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

/// Which rows of the tail are written.
enum Rows<'a> {
    All,
    /// Where the collection holds an older one.
    Older,
    /// These alone, and where it holds an older one.
    OlderOf(&'a BTreeSet<VectorId>),
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

/// Waits until the workers have settled all that is in the change topics now.
fn wait_settled(history: &mut History<'_>, patience: Duration, work: &mut Work<'_>) -> Result<()> {
    let ends = ends(history)?;
    ProgressFollower::new(history.setting).wait(history.reader, work, patience, &mut |followed| Ok(unsettled(followed, &ends)))
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

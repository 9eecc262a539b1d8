//! From the logs to the list of what is to be written.
//!
//! Two passes over each partition. The first reads what was appended since T and collects the row keys that something
//! undone has touched: all that is remembered is of these. The second reads everything, since what such a row goes back
//! to may be of any age. The change topics are read beside the vectors changelog because a change that came too late to
//! win, and is the greatest once its better is undone, is only there.

use super::decide::{Content, Decision, Place, Point, RowPast};
use super::{Scribe, Undo, bytes_of};
use crate::base::error::Result;
use crate::base::ids::{CollectionId, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::version::Version;
use crate::ops::history::{self, CLOCKS_DIFFER_MAX, ChangeTopic, History, Judged, Setting, Statement};
use crate::ops::work::Work;
use crate::record::change::Change;
use crate::record::decode::{decode_body, decode_row};
use crate::record::raw::RawRecord;
use crate::record::schema::SchemaSource;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Rows shown before anything is done.
const SAMPLE_ROWS: usize = 10;

#[derive(Debug, Default)]
pub struct Plan {
    pub partitions: Vec<PartitionPlan>,
    pub restored: u64,
    pub deleted: u64,
    /// Rows that were written again since R.
    pub left_alone: u64,
    /// Of the compensations: what goes to each peer.
    pub bytes: u64,
    /// Rows restored and deleted, by collection.
    pub by_collection: BTreeMap<CollectionId, (u64, u64)>,
    pub sample: Vec<Sample>,
    /// When the oldest change was appended that the vectors changelog still has.
    pub earliest: Option<UnixMs>,
}

impl Plan {
    pub fn rows(&self) -> u64 {
        self.restored + self.deleted
    }
}

#[derive(Debug)]
pub struct PartitionPlan {
    pub shard: u16,
    pub partition: i32,
    /// What [`Place::topic`] counts.
    pub topics: Vec<ReadTopic>,
    /// In the order of their places.
    pub restores: Vec<Restore>,
    pub deletes: Vec<RowKey>,
}

impl PartitionPlan {
    pub fn is_empty(&self) -> bool {
        self.restores.is_empty() && self.deletes.is_empty()
    }
}

/// A row that gets its former content, which lies there.
#[derive(Debug, Clone)]
pub struct Restore {
    pub at: Place,
    pub key: RowKey,
    pub version: Version,
}

/// A row before and after.
#[derive(Debug, Clone)]
pub struct Sample {
    pub key: RowKey,
    pub now: Version,
    /// None: it is deleted.
    pub then: Option<Version>,
}

#[derive(Debug, Clone)]
pub enum ReadTopic {
    Changes(ChangeTopic),
    Winners(Arc<str>),
}

impl ReadTopic {
    pub fn name(&self) -> &Arc<str> {
        match self {
            ReadTopic::Changes(topic) => &topic.name,
            ReadTopic::Winners(name) => name,
        }
    }

    /// What a record of it says, if it says anything that counts.
    pub fn statement(&self, setting: &Setting, schemas: &mut dyn SchemaSource, record: RawRecord) -> Result<Option<Statement>> {
        match self {
            ReadTopic::Winners(_) => history::winner(setting, schemas, record),
            ReadTopic::Changes(topic) => Ok(match history::judge(setting, schemas, record, &topic.origin)? {
                Judged::Admitted(change) => {
                    Some(Statement { key: change.key.clone(), version: change.version.clone(), change: Some(change) })
                }
                Judged::MisKeyed(_) | Judged::Refused(..) | Judged::Heartbeat => None,
            }),
        }
    }
}

pub fn make(history: &mut History<'_>, undo: &Undo, scribe: &Scribe, work: &mut Work<'_>) -> Result<Plan> {
    let setting = history.setting;
    let mut plan = Plan::default();
    for shard in 0..setting.names.shards() {
        let winners = setting.names.vectors_changelog(shard);
        history.check(&winners)?;
        // First, so that what is in both is fetched from there: compaction leaves it alone, retention does not.
        let mut topics = vec![ReadTopic::Winners(winners)];
        topics.extend(history.change_topics(shard)?.into_iter().map(ReadTopic::Changes));
        let mut planning = Planning { history, undo, scribe, shard, topics: &topics, plan: &mut plan };
        planning.shard(work)?;
    }
    Ok(plan)
}

struct Planning<'a, 'h> {
    history: &'a mut History<'h>,
    undo: &'a Undo,
    scribe: &'a Scribe,
    shard: u16,
    topics: &'a [ReadTopic],
    plan: &'a mut Plan,
}

impl Planning<'_, '_> {
    fn shard(&mut self, work: &mut Work<'_>) -> Result<()> {
        let partitions = self.history.setting.partitions;
        let since = self.undo.to.minus(CLOCKS_DIFFER_MAX);
        let (mut begins, mut changed, mut all) = (Vec::new(), 0, 0);
        let every: Vec<TopicPartition> = (0..partitions).flat_map(|number| self.partitions_of(number)).collect();
        for partition in every {
            let bounds = self.history.reader.bounds(&partition)?;
            let begin = self.history.reader.offset_at(&partition, since)?.max(bounds.first);
            changed += (bounds.end - begin).max(0) as u64;
            all += (bounds.end - bounds.first).max(0) as u64;
            begins.push(begin);
        }
        work.begin("looking for what is undone", "records", changed);
        let mut touched = Vec::new();
        for (number, begins) in (0..partitions).zip(begins.chunks(self.topics.len())) {
            touched.push(self.touched(number, begins, work)?);
        }
        work.end();
        work.begin("looking for what was there before", "records", all);
        for (number, rows) in (0..partitions).zip(touched) {
            self.partition(number, rows, work)?;
        }
        work.end();
        Ok(())
    }

    fn partitions_of(&self, number: i32) -> Vec<TopicPartition> {
        self.topics.iter().map(|topic| TopicPartition::new(topic.name().clone(), number)).collect()
    }

    fn touched(&mut self, number: i32, begins: &[i64], work: &mut Work<'_>) -> Result<HashMap<RowKey, RowPast>> {
        let (undo, setting) = (self.undo, self.history.setting);
        let mut touched = HashMap::new();
        for ((topic, partition), begin) in self.topics.iter().zip(self.partitions_of(number)).zip(begins) {
            self.history.read(&partition, *begin, work, &mut |schemas, record| {
                if let Some(said) = topic.statement(setting, schemas, record)?
                    && undo.undoes(&said)
                {
                    touched.entry(said.key).or_insert_with(RowPast::default);
                }
                Ok(())
            })?;
        }
        Ok(touched)
    }

    fn partition(&mut self, number: i32, mut rows: HashMap<RowKey, RowPast>, work: &mut Work<'_>) -> Result<()> {
        let (undo, scribe, shard, setting) = (self.undo, self.scribe, self.shard, self.history.setting);
        let mut earliest = self.plan.earliest;
        for (index, (topic, partition)) in self.topics.iter().zip(self.partitions_of(number)).enumerate() {
            let from_changes = matches!(topic, ReadTopic::Changes(_));
            self.history.read(&partition, 0, work, &mut |schemas, record| {
                let at = Place { topic: index, offset: record.offset };
                let Some(said) = topic.statement(setting, schemas, record)? else { return Ok(()) };
                if let (false, Some(change)) = (from_changes, &said.change) {
                    let appended_at = change.record.appended_at;
                    earliest = Some(earliest.map_or(appended_at, |earliest| earliest.min(appended_at)));
                }
                let unproven = from_changes && said.version.hlc.wall() < undo.proven_since;
                let Some(row) = rows.get_mut(&said.key).filter(|_| !unproven) else { return Ok(()) };
                let undone = undo.undoes(&said);
                if let Some(point) = point(setting, scribe, shard, at, said) {
                    row.take(point, undone, undo.until);
                }
                Ok(())
            })?;
        }
        self.plan.earliest = earliest;
        self.decide(number, rows);
        Ok(())
    }

    fn decide(&mut self, number: i32, rows: HashMap<RowKey, RowPast>) {
        let setting = self.history.setting;
        let topics = self.topics.to_vec();
        let mut part = PartitionPlan { shard: self.shard, partition: number, topics, restores: Vec::new(), deletes: Vec::new() };
        let mut rows: Vec<(RowKey, RowPast)> = rows.into_iter().collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        for (key, past) in rows {
            let ours = |version: &Version| self.scribe.wrote(version, &setting.region);
            let then = match past.decide(self.undo.until, ours) {
                Decision::Nothing => continue,
                Decision::LeftAlone => {
                    self.plan.left_alone += 1;
                    continue;
                }
                Decision::Restore(point) => {
                    self.plan.restored += 1;
                    self.plan.by_collection.entry(key.collection).or_default().0 += 1;
                    self.plan.bytes += point.content.map_or(0, |content| content.append_bytes);
                    part.restores.push(Restore { at: point.at, key: key.clone(), version: point.version.clone() });
                    Some(point.version)
                }
                Decision::Delete => {
                    self.plan.deleted += 1;
                    self.plan.by_collection.entry(key.collection).or_default().1 += 1;
                    self.plan.bytes += bytes_of(&self.scribe.compensation(setting, self.shard, &key, None));
                    part.deletes.push(key.clone());
                    None
                }
            };
            if let (true, Some(now)) = (self.plan.sample.len() < SAMPLE_ROWS, past.newest()) {
                self.plan.sample.push(Sample { key, now: now.clone(), then });
            }
        }
        part.restores.sort_by_key(|restore| restore.at);
        self.plan.partitions.push(part);
    }
}

/// None for a change that would be refused if it won: it never held the row.
fn point(setting: &Setting, scribe: &Scribe, shard: u16, at: Place, said: Statement) -> Option<Point> {
    let hash = said.hash();
    let content = match &said.change {
        Some(change) => content(setting, scribe, shard, &said.key, change)?,
        None => None,
    };
    Some(Point { version: said.version, hash, at, content })
}

/// Of a delete there is none; of a change that is no good there is not even that.
fn content(setting: &Setting, scribe: &Scribe, shard: u16, key: &RowKey, change: &Change) -> Option<Option<Content>> {
    let (mut vector, mut metadata) = (Vec::new(), Vec::new());
    decode_row(change, setting.collections.get(key.collection), &mut vector, &mut metadata).ok()?;
    if change.op == crate::record::change::Op::Delete {
        return Some(None);
    }
    let mut bytes: Vec<u8> = vector.iter().flat_map(|float| float.to_le_bytes()).collect();
    bytes.extend_from_slice(&metadata);
    let body = decode_body(change).ok()?;
    let append_bytes = bytes_of(&scribe.compensation(setting, shard, key, Some(&body)));
    Some(Some(Content { digest: xxhash_rust::xxh3::xxh3_128(&bytes), append_bytes }))
}

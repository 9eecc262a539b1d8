//! A new collection from the vectors changelog, put in the place of the one that the alias stands for.
//!
//! 1. **Select**: of each row the greatest change, by the changelog's keys and headers ([`select`]).
//! 2. **Fill**: those changes' rows into the next physical collection `<name>__gN`.
//! 3. **Verify**: count and digest of ids and versions, by partition, against what was selected ([`digest`]).
//! 4. **Follow** the changelog's tail until little is left ([`follow`]).
//! 5. **Swap** the alias.
//! 6. **Follow past the swap**: what a worker had sent to the old collection is in the changelog when the worker's
//!    progress has passed what was there at the swap. The changelog has the last word on each row. If Milvus has turned
//!    back to the old collection meanwhile (its caches may), 5 and 6 begin anew.
//!
//! Up to 5 nobody sees anything of it, and a second attempt begins clean. From 5 on a file in the state folder says
//! where 6 goes on. The old collection is kept until it is [dropped](drop_old).

mod digest;
mod follow;
mod select;
mod writer;

use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::ops::history::{History, instant};
use crate::ops::job::JobFile;
use crate::ops::work::Work;
use crate::port::vector::{VectorAdmin, VectorStore};
use crate::record::collection::{CollectionSpec, Collections, generation_of, physical_name};
use digest::Digests;
use follow::Follower;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use writer::RowWriter;

/// Opens a store under these names; the wake is the calling thread's.
pub type OpenStore<'a> = dyn FnMut(Arc<Collections>) -> Result<Box<dyn VectorStore>> + 'a;

/// Where following goes on after the swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Swapped {
    new: String,
    old: String,
    /// By shard and partition, as [`partitions`] lists them: the changelog is applied up to here.
    positions: Vec<i64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    pub new: String,
    /// What the alias stood for before; none where it was left alone.
    pub old: Option<String>,
    pub rows: u64,
    /// Changes that were applied from the tail, before the swap and after it.
    pub followed: u64,
    /// Rows that this Milvus does not take.
    pub refused: u64,
}

pub struct Rebuild<'a> {
    pub collection: CollectionId,
    pub admin: &'a mut dyn VectorAdmin,
    pub open: &'a mut OpenStore<'a>,
    pub file: &'a JobFile,
    /// How long to wait for the workers while nothing gets better.
    pub patience: Duration,
}

impl Rebuild<'_> {
    /// Steps 1 to 6.
    pub fn run(&mut self, history: &mut History<'_>, work: &mut Work<'_>) -> Result<Rebuilt> {
        let spec = history.setting.collections.get(self.collection).clone();
        let old = self.standing(&spec)?;
        let swapped = self.file.read::<Swapped>()?.filter(|swapped| swapped.new == old);
        if let Some(swapped) = swapped {
            work.note(format!(
                "the alias {} stands for {} already: following the changelog past the swap",
                spec.name, swapped.new
            ));
            let mut writer = self.writer(history, &swapped.new)?;
            // The attempt before this one may have left some.
            writer.doubt(work);
            let mut follower = self.follower(history, writer, swapped.positions)?;
            let followed = self.swap(history, &spec, &swapped.new, &mut follower, work)?;
            return Ok(Rebuilt { new: swapped.new, old: Some(swapped.old), rows: 0, followed, refused: 0 });
        }
        let (new, left) = self.next(&spec, &old)?;
        self.admin.create(&new, &spec)?;
        // After that, so that no later attempt takes one of their names.
        self.drop_left(&left, work)?;
        let (positions, filled, writer) = self.fill(history, &new, Hlc(u64::MAX), work)?;
        let mut follower = self.follower(history, writer, positions)?;
        let begin = follower.positions.clone();
        follower.catch_up(history, work)?;
        // What comes late now falls behind what the tail says: only we write there yet.
        while follower.writer.wait_until_sure(work)? {
            follower.positions.clone_from(&begin);
            follower.catch_up(history, work)?;
        }
        self.file.write(&Swapped { new: new.clone(), old: old.clone(), positions: follower.positions.clone() })?;
        let followed = self.swap(history, &spec, &new, &mut follower, work)?;
        Ok(Rebuilt { new, old: Some(old), rows: filled.rows, followed, refused: filled.refused })
    }

    /// The rows as they were at an instant, into a collection beside; the alias stays as it is.
    pub fn run_at(&mut self, at: UnixMs, history: &mut History<'_>, work: &mut Work<'_>) -> Result<Rebuilt> {
        let spec = history.setting.collections.get(self.collection).clone();
        let new = name_at(&spec.name, at);
        let left: Vec<String> = self.admin.collections()?.into_iter().filter(|name| *name == new).collect();
        self.drop_left(&left, work)?;
        self.admin.create(&new, &spec)?;
        let (_, filled, _) = self.fill(history, &new, Hlc::new(at, u16::MAX), work)?;
        Ok(Rebuilt { new, old: None, rows: filled.rows, followed: 0, refused: filled.refused })
    }

    fn standing(&mut self, spec: &CollectionSpec) -> Result<String> {
        self.admin.alias(&spec.name)?.ok_or_else(|| {
            Error::refuse(format!(
                "{} is no alias in Milvus: start a worker, which creates it, or see `driftless doctor`",
                spec.name
            ))
        })
    }

    /// The name of the next generation, and those that attempts before have left. It is none of theirs: what they sent
    /// may yet be carried out.
    fn next(&mut self, spec: &CollectionSpec, old: &str) -> Result<(String, Vec<String>)> {
        let standing = generation_of(&spec.name, old).unwrap_or(0);
        let is_later = |name: &String| generation_of(&spec.name, name).is_some_and(|generation| generation > standing);
        let left: Vec<String> = self.admin.collections()?.into_iter().filter(is_later).collect();
        let last = left.iter().filter_map(|name| generation_of(&spec.name, name)).max().unwrap_or(standing);
        Ok((physical_name(&spec.name, last + 1), left))
    }

    fn drop_left(&mut self, left: &[String], work: &mut Work<'_>) -> Result<()> {
        left.iter().try_for_each(|name| {
            work.note(format!("{name} is left from an attempt that did not end: it is dropped and begun anew"));
            self.admin.drop_collection(name)
        })
    }

    /// Steps 1 to 3. Answers with where the changelog's tail begins.
    fn fill(
        &mut self,
        history: &mut History<'_>,
        new: &str,
        up_to: Hlc,
        work: &mut Work<'_>,
    ) -> Result<(Vec<i64>, Filled, RowWriter)> {
        let partitions = partitions(history)?;
        let mut writer = self.writer(history, new)?;
        let selected = self.select(history, &partitions, up_to, work)?;
        let positions = selected.iter().map(|selected| selected.end).collect();
        let rows: usize = selected.iter().map(|selected| selected.offsets.len()).sum();
        let mut expected = Digests::default();
        work.begin(format!("filling {new}"), "rows", rows as u64);
        for (partition, selected) in partitions.iter().zip(selected) {
            select::write(history, partition, &selected, &mut writer, &mut expected, work)?;
        }
        writer.flush(work)?;
        work.end();
        for (id, version) in &writer.refused {
            expected.remove(history.setting, id, version);
        }
        self.verify(history, new, &mut writer, &expected, work)?;
        let filled = Filled { rows: expected.rows(), refused: writer.refused.len() as u64 };
        Ok((positions, filled, writer))
    }

    fn select(
        &mut self,
        history: &mut History<'_>,
        partitions: &[TopicPartition],
        up_to: Hlc,
        work: &mut Work<'_>,
    ) -> Result<Vec<select::Selected>> {
        let mut records = 0;
        for partition in partitions {
            let bounds = history.reader.bounds(partition)?;
            records += (bounds.end - bounds.first).max(0) as u64;
        }
        work.begin("looking for what holds each row", "records", records);
        let mut selected = Vec::new();
        for partition in partitions {
            selected.push(select::select(history, partition, self.collection, up_to, work)?);
        }
        work.end();
        Ok(selected)
    }

    fn verify(
        &mut self,
        history: &History<'_>,
        new: &str,
        writer: &mut RowWriter,
        expected: &Digests,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let mut found = Digests::default();
        work.begin(format!("verifying {new}"), "rows", expected.rows());
        writer.scan(work, &mut |id, version| found.add(history.setting, id, version))?;
        work.end();
        match expected.difference(&found) {
            None => Ok(()),
            Some(difference) => Err(Error::retry(format!(
                "{new} does not hold what the changelog says ({difference}): the alias stays as it was; run it again"
            ))),
        }
    }

    /// Steps 5 and 6. Done twice, 5 changes nothing.
    fn swap(
        &mut self,
        history: &mut History<'_>,
        spec: &CollectionSpec,
        new: &str,
        follower: &mut Follower,
        work: &mut Work<'_>,
    ) -> Result<u64> {
        let begin = follower.positions.clone();
        loop {
            self.admin.point_alias(&spec.name, new)?;
            work.note(format!("the alias {} now stands for {new}", spec.name));
            follower.follow_past(history, self.patience, work)?;
            if follower.writer.wait_until_sure(work)? {
                work.note("what Milvus had not answered may have been carried out late: once more");
            } else if self.admin.reaches(&spec.name, new)? {
                self.file.remove()?;
                return Ok(follower.applied);
            } else {
                work.note(format!("Milvus takes the alias {} for the old collection again: once more", spec.name));
            }
            follower.positions.clone_from(&begin);
        }
    }

    fn follower(&mut self, history: &mut History<'_>, writer: RowWriter, positions: Vec<i64>) -> Result<Follower> {
        let partitions = partitions(history)?;
        if partitions.len() != positions.len() {
            let file = self.file.path().display();
            return Err(Error::refuse(format!("{file} is of another number of partitions; remove it to begin anew")));
        }
        Ok(Follower::new(self.collection, partitions, positions, writer))
    }

    fn writer(&mut self, history: &History<'_>, new: &str) -> Result<RowWriter> {
        let collections = Arc::new(history.setting.collections.with_name(self.collection, new));
        Ok(RowWriter::new((self.open)(collections)?, self.collection))
    }
}

struct Filled {
    rows: u64,
    refused: u64,
}

/// Every partition of the vectors changelogs, shard by shard.
fn partitions(history: &mut History<'_>) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for shard in 0..history.setting.names.shards() {
        let topic = history.setting.names.vectors_changelog(shard);
        history.check(&topic)?;
        partitions.extend((0..history.setting.partitions).map(|number| TopicPartition::new(topic.clone(), number)));
    }
    Ok(partitions)
}

/// `products__at_20260728T101500000Z`: Milvus takes letters, digits and underscores.
fn name_at(alias: &str, at: UnixMs) -> String {
    let digits: String = instant(at).chars().filter(|character| character.is_ascii_alphanumeric()).collect();
    format!("{alias}__at_{digits}")
}

/// Collections that earlier rebuilds have left behind, and those made for an instant: not what the alias stands for,
/// nor what an attempt under way fills.
pub fn old(admin: &mut dyn VectorAdmin, alias: &str) -> Result<Vec<String>> {
    let current = admin.alias(alias)?;
    let Some(current) = current.as_deref().and_then(|physical| generation_of(alias, physical)) else { return Ok(Vec::new()) };
    let mut old = admin.collections()?;
    let of_an_instant = format!("{alias}__at_");
    old.retain(|name| generation_of(alias, name).is_some_and(|number| number < current) || name.starts_with(&of_an_instant));
    old.sort();
    Ok(old)
}

/// Drops [`old`] ones, unless following past a swap is not done yet: then the old one may still be needed.
pub fn drop_old(admin: &mut dyn VectorAdmin, names: &[String], file: &JobFile) -> Result<()> {
    if file.read::<Swapped>()?.is_some() {
        return Err(Error::refuse("a rebuild has swapped the alias and is not done yet: run `driftless rebuild` again first"));
    }
    names.iter().try_for_each(|name| admin.drop_collection(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_generations_and_instants_apart() {
        assert_eq!(physical_name("products", 2), "products__g2");
        assert_eq!(generation_of("products", "products__g12"), Some(12));
        assert_eq!(generation_of("products", "products__gx"), None);
        assert_eq!(generation_of("product", "products__g1"), None);
        assert_eq!(name_at("products", UnixMs(1_785_233_700_250)), "products__at_20260728T101500250Z");
    }
}

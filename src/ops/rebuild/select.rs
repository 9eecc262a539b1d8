//! Which change holds each row, and the rows themselves.

use super::digest::Digests;
use super::writer::RowWriter;
use crate::base::error::Result;
use crate::base::ids::{CollectionId, TopicPartition};
use crate::merge::hlc::Hlc;
use crate::ops::history::{self, History};
use crate::ops::work::Work;
use crate::record::decode::decode_row;
use crate::store::VersionStore;
use crate::store::entry::Entry;
use crate::store::memory::MemoryStore;
use std::time::Duration;

/// One partition of the vectors changelog.
pub struct Selected {
    /// Where the changes lie that hold a row, ascending. Rows that a delete holds are left out.
    pub offsets: Vec<i64>,
    /// What lies behind is not looked at.
    pub end: i64,
}

/// Of each row the greatest change stamped at most `up_to`. It takes as much memory as a worker does for the partition.
pub fn select(
    history: &mut History<'_>,
    partition: &TopicPartition,
    collection: CollectionId,
    up_to: Hlc,
    work: &mut Work<'_>,
) -> Result<Selected> {
    let setting = history.setting;
    // Nothing is forgotten here, so nothing has to be remembered of that.
    let mut store = MemoryStore::new(&setting.collections, Duration::ZERO);
    let end = history.read(partition, 0, work, &mut |schemas, record| {
        let offset = record.offset;
        let Some(said) = history::winner(setting, schemas, record)? else { return Ok(()) };
        if said.key.collection != collection || said.version.hlc > up_to {
            return Ok(());
        }
        let (content_hash, tombstone) = (said.hash(), said.is_delete());
        let held = store.get(&said.key);
        // Of equal ones the last: compaction keeps that one.
        if held.is_none_or(|held| (&said.version, content_hash) >= (&held.version, held.content_hash)) {
            let entry = Entry { version: said.version, content_hash, vector_offset: offset, tombstone, refused: false };
            store.put(&said.key, entry);
        }
        Ok(())
    })?;
    let mut offsets = Vec::new();
    store.for_each(&mut |_, entry| {
        if !entry.tombstone {
            offsets.push(entry.vector_offset);
        }
    });
    offsets.sort_unstable();
    Ok(Selected { offsets, end })
}

/// Writes the selected changes' rows, and adds what is taken to `expected`.
pub fn write(
    history: &mut History<'_>,
    partition: &TopicPartition,
    selected: &Selected,
    writer: &mut RowWriter,
    expected: &mut Digests,
    work: &mut Work<'_>,
) -> Result<()> {
    let setting = history.setting;
    let (mut vector, mut metadata) = (Vec::new(), Vec::new());
    history.fetch(partition, &selected.offsets, work, &mut |schemas, work, record| {
        let Some(said) = history::winner(setting, schemas, record)? else { return Ok(()) };
        let Some(change) = &said.change else { return Ok(()) };
        if decode_row(change, setting.collections.get(said.key.collection), &mut vector, &mut metadata).is_err() {
            // It was good when it won: the collection's configuration has changed since.
            tracing::warn!(id = %said.key.id, "a row does not fit its collection's configuration any more and is left out");
            return Ok(());
        }
        expected.add(setting, &said.key.id, Some(&said.version));
        work.advance(1)?;
        writer.upsert(said.key.id, said.version, &vector, &metadata, work)
    })
}

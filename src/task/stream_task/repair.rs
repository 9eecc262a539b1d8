//! Against zombies and lost replies: rows written again, and changelog records of somebody else answered.

use super::StreamTask;
use crate::base::error::Result;
use crate::base::ids::{RowKey, VectorId};
use crate::base::time::{Now, UnixMs};
use crate::merge::version::{ContentHash, Version};
use crate::port::vector::{StoreRequest, StoredVersion};
use crate::record::decode::{Decoded, decode, decode_row};
use crate::record::headers;
use crate::record::raw::{Headers, RawRecord};
use crate::record::schema::SchemaSource;
use crate::store::entry::{Entry, FORGOTTEN_HEADER, parse_version_text};
use crate::store::row_key;
use crate::task::command::{Command, Commands, Part, Purpose, Reading};
use crate::task::items::{Item, Kind, Write};
use crate::task::reassert::Suspicion;
use crate::topology::node::Row;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::Duration;

/// Rows of one task that may be on their way to be written again at once.
const REASSERTIONS_MAX: usize = 2_000;
/// How long a range waits where there was no room for more of it.
const REPEAT_WAIT: Duration = Duration::from_millis(200);
/// How long a record waits whose schema is being asked for.
const SCHEMA_WAIT: Duration = Duration::from_secs(1);

impl StreamTask {
    /// Own appends follow each other; a gap between two of them is somebody else's writing (or a control
    /// record), and is read.
    pub(super) fn note_own_append(&mut self, foreign: Reading, offset: i64, commands: &mut Commands) {
        let (next, partition) = match foreign {
            Reading::ForeignVectors => (&mut self.committing.vectors_next, &self.topics.vectors_changelog),
            _ => (&mut self.committing.versions_next, &self.topics.versions_changelog),
        };
        let expected = std::mem::replace(next, offset + 1);
        if offset > expected {
            self.reads += 1;
            if foreign == Reading::ForeignEntries {
                self.committing.hold_back(expected);
            }
            commands.push_back(Command::Read {
                life: self.life,
                partition: partition.clone(),
                from: expected,
                until: offset,
                reading: foreign,
            });
        }
    }

    /// Is there something behind our own last append to the vectors changelog? A zombie that gets no further than its
    /// vectors leaves no trace in the versions changelog, and where nothing is written no own append shows the gap.
    pub(super) fn look_behind_own_appends(&mut self, commands: &mut Commands) {
        self.reads += 1;
        commands.push_back(Command::Read {
            life: self.life,
            partition: self.topics.vectors_changelog.clone(),
            from: self.committing.vectors_next,
            until: i64::MAX,
            reading: Reading::ForeignVectors,
        });
    }

    /// Keys of which the restore found the greatest entry not in the last place: append it once more.
    pub(super) fn answer_misplaced(&mut self, now: Now, commands: &mut Commands) {
        for key in std::mem::take(&mut self.committing.misplaced) {
            if let Some(entry) = self.store.get(&key).filter(|_| self.items.newest(&key).is_none()) {
                self.append_correction(&key, &entry, commands);
            }
        }
        for (key, version) in std::mem::take(&mut self.committing.forgotten) {
            if self.items.newest(&key).is_none() && self.store.get(&key).is_none() {
                self.forget_again(key, version, now, commands);
            }
        }
    }

    fn append_correction(&mut self, key: &RowKey, entry: &Entry, commands: &mut Commands) {
        self.metrics.zombie_appends.increment(1);
        let key = row_key::encode(key, &self.context.collections);
        let to = self.topics.versions_changelog.clone();
        self.append(&to, Some(key.into()), Some(Bytes::from(entry.encode())), Headers::new(), Purpose::Correction, 0, commands);
    }

    /// A zombie has put what a forgotten tombstone had beaten: nulls behind it in both changelogs.
    fn forget_again(&mut self, key: RowKey, version: Version, now: Now, commands: &mut Commands) {
        self.metrics.zombie_appends.increment(1);
        let entry = Entry { version, content_hash: ContentHash(0), vector_offset: 0, tombstone: true, refused: false };
        let kind = Kind::Forgetting { entry };
        let item = Item { key, kind, write: Write::Nothing, tickets: SmallVec::new(), appended_at: now.wall, source: 0 };
        let id = self.items.insert(item);
        self.append_vector(id, commands);
    }

    /// Due read-backs and due ranges of the vectors changelog.
    pub(super) fn look_for_what_was_undone(&mut self, now: Now, commands: &mut Commands) {
        if !self.may_repair() {
            return;
        }
        if let Some((collection, ids)) = self.reassert.next_read_back(now) {
            let token = self.token(Purpose::ReadBack, u32::from(collection.0));
            commands.push_back(Command::Store { collection, request: StoreRequest::ReadBack(ids), token });
        }
        if let Some(range) = self.reassert.next_range(self.committing.vectors_next, now) {
            let partition = self.topics.vectors_changelog.clone();
            self.reads += 1;
            commands.push_back(Command::Read {
                life: self.life,
                partition,
                from: range.from,
                until: range.until,
                reading: Reading::Reassert,
            });
        }
    }

    /// Room for repairs is kept apart from the intake's: under a backlog the intake leaves none.
    pub(super) fn may_repair(&self) -> bool {
        self.reasserting < REASSERTIONS_MAX && self.committing.is_open() && !self.draining
    }

    /// The keys of a batch without a reply: it may still land, after its successors. One suspicion a batch.
    pub(super) fn suspect_sealed(&mut self, collection: usize, now: Now) {
        let lane = &self.lanes[collection];
        let ids: Vec<VectorId> = lane.sealed_items().iter().map(|id| self.items.get(*id).key.id.clone()).collect();
        let suspicion = Suspicion { collection: lane.collection, ids, from: self.committing.vectors_next };
        let due = now.monotonic + self.settings.safety_window;
        if let Some(suspected) = self.lanes[collection].suspicion() {
            *suspected = Some(match suspected.take() {
                Some(earlier) => self.reassert.suspect_again(earlier, suspicion, due),
                None => self.reassert.suspect(suspicion, due),
            });
        }
    }

    /// A re-assertion is written, refused or overtaken.
    pub(super) fn reassertion_ended(&mut self) {
        self.reasserting -= 1;
        self.let_go_if_done();
    }

    pub(super) fn read_back(&mut self, collection: usize, found: &[StoredVersion], now: Now) {
        let Some(asked) = self.reassert.read_back_done() else { return };
        let collection = self.lanes[collection].collection;
        let by_id: HashMap<&VectorId, &StoredVersion> = found.iter().map(|stored| (&stored.id, stored)).collect();
        let mut undecided = Vec::new();
        for id in asked.ids {
            let stored = by_id.get(&id).copied();
            let key = RowKey { collection, id: id.clone() };
            if self.items.newest(&key).is_some() {
                // What is under way may have been sent before the late write landed: looked at when it is done.
                undecided.push(id);
                continue;
            }
            let Some(entry) = self.store.get(&key).filter(|entry| !entry.refused) else { continue };
            if agrees(stored, &entry) {
                continue;
            }
            tracing::warn!(task = %self.id(), %id, "a late write has replaced a newer one in the vector store: written again");
            if entry.tombstone {
                self.reassert.hold(entry.vector_offset);
                self.write_again(key, entry, Write::Delete, now);
            } else {
                self.reassert.repeat(entry.vector_offset);
            }
        }
        if !undecided.is_empty() {
            let suspicion = Suspicion { collection, ids: undecided, from: asked.from };
            self.reassert.suspect(suspicion, now.monotonic + self.settings.retry_max);
        }
        self.let_go_if_done();
    }

    /// What is on its way to be written again is none any more.
    fn let_go_if_done(&mut self) {
        if self.reasserting == 0 {
            self.reassert.let_go();
        }
    }

    pub(super) fn read_back_failed(&mut self, now: Now) {
        if let Some(asked) = self.reassert.read_back_done() {
            self.reassert.suspect(asked, now.monotonic + self.settings.retry_max);
        }
    }

    pub(super) fn write_again(&mut self, key: RowKey, entry: Entry, write: Write, now: Now) {
        let collection = key.collection.index();
        if self.lanes[collection].waits(&key) {
            return;
        }
        let kind = Kind::Reassertion { entry };
        let item = Item { key, kind, write, tickets: SmallVec::new(), appended_at: now.wall, source: 0 };
        self.lanes[collection].push(item, &mut self.items, now);
        self.reasserting += 1;
    }

    /// What was asked for from a partition.
    pub fn read(&mut self, part: Part, now: Now, schemas: &mut dyn SchemaSource, commands: &mut Commands) -> Result<()> {
        match part.reading {
            // Nothing is judged any more in a task that ends; what is parked is its successor's.
            Reading::Parked { .. } if self.draining => Ok(()),
            Reading::Parked { collection, source, id } => self.parked_read(collection, source, id, part),
            _ => {
                self.changelog_read(part, now, schemas, commands);
                Ok(())
            }
        }
    }

    fn changelog_read(&mut self, part: Part, now: Now, schemas: &mut dyn SchemaSource, commands: &mut Commands) {
        self.reads -= 1;
        let Part { reading, records, mut next, until, .. } = part;
        let (mut not_before, mut no_room) = (Duration::ZERO, false);
        for record in &records {
            match reading {
                Reading::ForeignEntries => self.judge_foreign_entry(record, now, commands),
                Reading::ForeignVectors => self.judge_foreign_vector(record, commands),
                Reading::Reappend => self.append_vector_again(record, now, commands),
                Reading::Reassert => {
                    // A former owner's last appends may lie behind the winners', with none of ours to show the gap.
                    self.judge_foreign_vector(record, commands);
                    match self.write_record_again(record, now, schemas) {
                        Again::Done => {}
                        Again::NeedsSchema => self.reassert.defer(record.offset, now.monotonic + SCHEMA_WAIT),
                        Again::NoRoom => {
                            next = record.offset;
                            not_before = now.monotonic + REPEAT_WAIT;
                            break;
                        }
                    }
                }
                Reading::Scrub => {
                    if self.scrub.takes(record.offset) && self.write_record_again(record, now, schemas) == Again::NoRoom {
                        (next, no_room) = (record.offset, true);
                        break;
                    }
                }
                Reading::Parked { .. } => {}
            }
        }
        match reading {
            Reading::Scrub => {
                self.scrub.range_read(next, until, no_room, now);
                if next < until && !no_room {
                    self.read_for_scrub(next, until, commands);
                }
            }
            Reading::Reassert => {
                self.reassert.range_read(next, until, not_before);
                self.let_go_if_done();
            }
            _ if next < until => {
                let partition = match reading {
                    Reading::ForeignEntries => self.topics.versions_changelog.clone(),
                    _ => self.topics.vectors_changelog.clone(),
                };
                self.reads += 1;
                commands.push_back(Command::Read { life: self.life, partition, from: next, until, reading });
            }
            _ => {}
        }
    }

    /// The key and entry that a changelog record is about, if it is one of ours to judge.
    fn held(&self, record: &RawRecord) -> Option<(RowKey, Option<Entry>)> {
        let key = row_key::parse(record.key.as_deref()?, &self.context.collections).ok()?;
        if self.items.newest(&key).is_some() {
            // A newer winner's own record follows this one in the log.
            return None;
        }
        let entry = self.store.get(&key);
        Some((key, entry))
    }

    fn judge_foreign_entry(&mut self, record: &RawRecord, now: Now, commands: &mut Commands) {
        let Some((key, held)) = self.held(record) else { return };
        let foreign = match &record.value {
            Some(value) => Entry::decode(value).ok().map(|entry| (entry.version, entry.content_hash)),
            None => record.header_text(FORGOTTEN_HEADER).and_then(parse_version_text).map(|version| (version, ContentHash(0))),
        };
        let Some(foreign) = foreign else { return };
        match held {
            Some(entry) if foreign < (entry.version.clone(), entry.content_hash) || record.value.is_none() => {
                tracing::warn!(task = %self.id(), key = %key.id, foreign = %foreign.0, "a former owner's entry in the changelog is answered");
                self.append_correction(&key, &entry, commands);
            }
            // Its change is still ahead of us: it will be judged when it is read.
            Some(_) => {}
            None if record.value.is_some() && self.floor().is_some_and(|floor| foreign.0.hlc < floor) => {
                self.forget_again(key, foreign.0, now, commands);
            }
            None => {}
        }
    }

    fn judge_foreign_vector(&mut self, record: &RawRecord, commands: &mut Commands) {
        let Some((_, Some(entry))) = self.held(record) else { return };
        if entry.vector_offset >= record.offset {
            return;
        }
        // Compaction would keep the zombie's record, being the last: put the winner's behind it.
        self.reads += 1;
        commands.push_back(Command::Read {
            life: self.life,
            partition: self.topics.vectors_changelog.clone(),
            from: entry.vector_offset,
            until: entry.vector_offset + 1,
            reading: Reading::Reappend,
        });
    }

    fn append_vector_again(&mut self, record: &RawRecord, now: Now, commands: &mut Commands) {
        let Some((key, Some(entry))) = self.held(record) else { return };
        if entry.vector_offset != record.offset {
            return;
        }
        self.metrics.zombie_appends.increment(1);
        let mut record = record.clone();
        if let Some(appended_at) = record.header_text(headers::APPENDED_AT).and_then(|text| text.parse().ok()) {
            record.appended_at = UnixMs(appended_at);
        }
        let kind = Kind::Winner { record, entry };
        let item = Item { key, kind, write: Write::Nothing, tickets: SmallVec::new(), appended_at: now.wall, source: 0 };
        let id = self.items.insert(item);
        self.append_vector(id, commands);
    }

    /// Writes a winner's row again if this record still is what holds its key.
    fn write_record_again(&mut self, record: &RawRecord, now: Now, schemas: &mut dyn SchemaSource) -> Again {
        let Some((key, Some(entry))) = self.held(record) else { return Again::Done };
        if entry.vector_offset != record.offset || entry.refused {
            return Again::Done;
        }
        if !self.may_repair() {
            return Again::NoRoom;
        }
        if entry.tombstone {
            self.write_again(key, entry, Write::Delete, now);
            return Again::Done;
        }
        // Its own key and headers were judged when it came; those that it has here are ours.
        let bare = RawRecord { key: None, headers: Vec::new(), ..record.clone() };
        let change = match decode(bare, &entry.version.origin, &self.context.collections, schemas) {
            Decoded::Change(change) => change,
            Decoded::NeedsSchema(_) => return Again::NeedsSchema,
            other => {
                tracing::error!(task = %self.id(), key = %key.id, ?other, "a winner in the vectors changelog can't be read; its row is not written again");
                return Again::Done;
            }
        };
        let mut row = Row::default();
        match decode_row(&change, self.context.collections.get(key.collection), &mut row.vector, &mut row.metadata) {
            Ok(()) => self.write_again(key, entry, Write::Upsert(row), now),
            Err(rejection) => {
                tracing::error!(task = %self.id(), key = %key.id, %rejection, "a winner in the vectors changelog can't be read; its row is not written again");
            }
        }
        Again::Done
    }
}

/// What became of a row that was to be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is on its way, or overtaken.
    Done,
    NoRoom,
    /// Its schema is being asked for.
    NeedsSchema,
}

/// Does the vector store hold what it should?
fn agrees(stored: Option<&StoredVersion>, entry: &Entry) -> bool {
    match stored {
        None => entry.tombstone,
        Some(stored) => !entry.tombstone && stored.version.as_ref() == Some(&entry.version),
    }
}

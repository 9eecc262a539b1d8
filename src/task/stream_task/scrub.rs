//! The scrubber at work: pages of entries read back, differing rows written again, strangers deleted.

use super::{Source, StreamTask};
use crate::base::ids::{CollectionId, RowKey, VectorId};
use crate::base::time::{Now, UnixMs};
use crate::merge::version::{ContentHash, Version};
use crate::port::vector::{StoreRequest, StoredVersion};
use crate::processor::admit::EARLY_MS_MAX;
use crate::store::entry::Entry;
use crate::task::command::{Command, Commands, Purpose, Reading};
use crate::task::items::Write;
use crate::task::scrub::{self, Finding, Question, ScrubReport};
use std::collections::HashMap;

impl StreamTask {
    /// Asks for the next page if one is due and the collection is not busy, and for the winners to be written again.
    pub(super) fn scrub(&mut self, now: Now, commands: &mut Commands) {
        if !self.may_repair() {
            return;
        }
        if let Some((from, until)) = self.scrub.next_range(now) {
            self.read_for_scrub(from, until, commands);
        }
        let Some(collection) = self.scrub.next_collection(now) else { return };
        let lane = &self.lanes[collection.index()];
        if lane.is_full() || lane.is_held_up(now) {
            return self.scrub.postpone(now);
        }
        let (items, lanes) = (&self.items, &self.lanes);
        let under_way = |id: &VectorId| {
            let key = RowKey { collection, id: id.clone() };
            items.newest(&key).is_some() || lanes[collection.index()].waits(&key)
        };
        let Some(question) = self.scrub.ask(self.store.as_ref(), now, under_way) else { return };
        let token = self.token(Purpose::Scrub, u32::from(collection.0));
        commands.push_back(Command::Store { collection, request: StoreRequest::Compare(question.asked().to_vec()), token });
    }

    pub(super) fn read_for_scrub(&mut self, from: i64, until: i64, commands: &mut Commands) {
        self.reads += 1;
        let partition = self.topics.vectors_changelog.clone();
        commands.push_back(Command::Read { life: self.life, partition, from, until, reading: Reading::Scrub });
    }

    /// Nothing that the store is asked about may be on its way there.
    fn is_under_way(&self, key: &RowKey) -> bool {
        self.items.newest(key).is_some() || self.lanes[key.collection.index()].waits(key)
    }

    pub(super) fn scrub_read(&mut self, found: &[StoredVersion], now: Now) {
        let Some(reading) = self.scrub.reading() else { return };
        let by_id: HashMap<&VectorId, &StoredVersion> = found.iter().map(|stored| (&stored.id, stored)).collect();
        match &reading.question {
            Question::Entries(asked) => {
                for (id, version) in asked {
                    let key = RowKey { collection: reading.collection, id: id.clone() };
                    self.compare(key, version, by_id.get(id).copied(), now);
                }
            }
            Question::Strangers(asked) => {
                for (id, version) in asked {
                    let same = by_id.get(id).is_some_and(|stored| stored.version.as_ref() == Some(version));
                    let key = RowKey { collection: reading.collection, id: id.clone() };
                    if same && self.is_stranger(&key, version, now) {
                        self.delete_stranger(key, version.clone(), now);
                    }
                }
            }
        }
        self.scrub.judged(&reading, self.store.len(), now);
    }

    /// `version` is the entry's when the row was asked for: of one that has changed since, the answer says nothing.
    fn compare(&mut self, key: RowKey, version: &Version, stored: Option<&StoredVersion>, now: Now) {
        if self.is_under_way(&key) {
            return;
        }
        let Some(entry) = self.store.get(&key).filter(|entry| entry.version == *version) else { return };
        let told = stored.and_then(|stored| stored.version.as_ref()).is_none_or(|version| self.would_know(version));
        let finding = scrub::judge(&entry, stored, self.floor().filter(|_| told), now);
        self.note_finding(key.collection, finding.word());
        if !finding.is_repaired() {
            return;
        }
        let row = stored.and_then(|stored| stored.version.as_ref()).map(ToString::to_string);
        tracing::warn!(task = %self.id(), id = %key.id, finding = finding.word(), row, entry = %entry.version, "a row in the vector store is not what it should be: written again");
        if finding == Finding::Undeleted || entry.tombstone {
            self.write_again(key, entry, Write::Delete, now);
        } else {
            self.scrub.want(entry.vector_offset);
        }
    }

    fn note_finding(&mut self, collection: CollectionId, word: &'static str) {
        self.metrics.scrubbed(collection.index(), word);
        self.scrub.found(word);
    }

    /// Nobody here knows the key, and nobody can be about to.
    fn is_stranger(&self, key: &RowKey, version: &Version, now: Now) -> bool {
        let known = self.is_under_way(key) || self.store.get(key).is_some();
        !known && self.would_know(version) && !scrub::may_still_come(version.hlc, self.floor(), now)
    }

    /// Had a change with this version been accepted, would it have been read here? Not if this partition lacks records,
    /// nor if it can have been appended before the first one that was ever taken of its origin: what is not known here may
    /// be known to a peer, and the row be all that is left of it.
    fn would_know(&self, version: &Version) -> bool {
        let accepted_at_least = UnixMs(version.hlc.wall().0 - EARLY_MS_MAX);
        let mut origins = self.sources.iter().filter(|source| !source.repair);
        let heard = |source: &Source| source.since.is_none_or(|since| accepted_at_least >= since);
        let told = match origins.clone().find(|source| source.region == version.origin) {
            Some(origin) => heard(origin),
            None => origins.all(heard),
        };
        told && self.completeness.is_whole()
    }

    fn delete_stranger(&mut self, key: RowKey, version: Version, now: Now) {
        tracing::warn!(task = %self.id(), id = %key.id, %version, "a row that no change here accounts for, nor any that can still come, is deleted");
        self.note_finding(key.collection, "stranger");
        let entry = Entry { version, content_hash: ContentHash(0), vector_offset: -1, tombstone: true, refused: false };
        self.write_again(key, entry, Write::Delete, now);
    }

    /// A walk through a collection of the vector store begins.
    pub fn walk_began(&mut self, collection: CollectionId) {
        self.scrub.walk_began(collection);
    }

    /// It has met a row whose key belongs to this task's partition.
    pub fn met_in_walk(&mut self, collection: CollectionId, row: StoredVersion, now: Now) {
        let key = RowKey { collection, id: row.id };
        if self.is_under_way(&key) || self.store.get(&key).is_some() {
            return;
        }
        match row.version {
            None => self.note_finding(collection, "unversioned"),
            Some(version) if self.is_stranger(&key, &version, now) => {
                let known = self.store.len();
                self.scrub.stranger(collection, key.id, version, known);
            }
            Some(_) => self.note_finding(collection, "unknown"),
        }
    }

    /// A walk through a collection is at its end. `imports`: it has met rows without a version, so the collection may be
    /// one that is still to be taken on, and nothing of it is deleted.
    pub fn walk_ended(&mut self, collection: CollectionId, imports: bool) {
        let spared = self.scrub.walk_ended(collection, imports);
        if spared > 0 {
            let name = &self.context.collections.get(collection).name;
            let why = if imports {
                "as there are rows without a version too: is it to be imported?"
            } else {
                "as they are many: is it the entries that are missing? Resync from a peer, or delete the rows by hand"
            };
            tracing::error!(task = %self.id(), collection = %name, rows = spared, "rows that no change here accounts for are left alone, {why}");
        }
    }

    pub fn scrub_report(&self) -> ScrubReport {
        self.scrub.report()
    }
}

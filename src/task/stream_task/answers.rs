//! Answers from the log and the vector store, and the step of the commit order that each allows.

use super::StreamTask;
use crate::base::error::{Error, Result};
use crate::base::time::Now;
use crate::port::vector::{StoreError, StoreReply};
use crate::record::reason::{Reason, Rejection};
use crate::task::command::{Commands, Purpose, Reading, Token};
use crate::task::items::{Item, ItemId, Kind, Write};
use crate::task::lag::Stage;
use crate::task::lane::Settled;
use std::time::Duration;

impl StreamTask {
    /// An append's fate. A failed one closes the task: what follows it in the changelog must not be believed.
    pub fn appended(&mut self, token: Token, outcome: Result<i64>, now: Now, commands: &mut Commands) -> Result<()> {
        self.outstanding -= 1;
        let offset = match outcome {
            // librdkafka counts a duplicate that the broker recognised as delivered, and then knows no offset.
            Ok(offset) if offset < 0 && needs_offset(token.purpose) => {
                return Err(Error::restore(format_args!("append ({:?}): acknowledged without an offset", token.purpose)));
            }
            Ok(offset) => offset,
            Err(error) if token.purpose == Purpose::Heartbeat => {
                tracing::warn!(task = %self.id(), %error, "a heartbeat was not taken; the next one follows");
                return Ok(());
            }
            Err(error) => return Err(Error::restore(error).context(format_args!("append ({:?})", token.purpose))),
        };
        match token.purpose {
            Purpose::Hold => self.release_hold(token.id),
            Purpose::Heartbeat => {}
            Purpose::Vector => {
                self.note_own_append(Reading::ForeignVectors, offset, commands);
                if let Kind::Winner { entry, .. } = &mut self.items.get_mut(token.id).kind {
                    entry.vector_offset = offset;
                }
                self.append_entry(token.id, commands);
            }
            Purpose::Entry => {
                self.note_own_append(Reading::ForeignEntries, offset, commands);
                self.finish(token.id);
            }
            Purpose::Correction => self.note_own_append(Reading::ForeignEntries, offset, commands),
            Purpose::Progress => {
                self.note_own_append(Reading::ForeignEntries, offset, commands);
                let took = self.committing.acknowledged(now);
                self.metrics.commit.record(took);
                self.metrics.commits.increment(1);
                self.keep_position(offset)?;
            }
            Purpose::Batch | Purpose::ReadBack | Purpose::Scrub | Purpose::Walk => {
                return Err(Error::fatal("an append was answered under a vector store request's token"));
            }
        }
        Ok(())
    }

    fn release_hold(&mut self, id: u32) {
        if let Some(ticket) = self.holds[id as usize].take() {
            self.free_holds.push(id);
            self.release(ticket);
        }
    }

    /// The vector store's answer to a batch or a read-back.
    pub fn answered(
        &mut self,
        token: Token,
        outcome: Result<StoreReply, StoreError>,
        now: Now,
        commands: &mut Commands,
    ) -> Result<()> {
        let collection = token.id as usize;
        match (token.purpose, outcome) {
            (Purpose::Batch, Ok(StoreReply::Written { written_at })) => {
                self.committing.written_at = self.committing.written_at.max(written_at);
                self.batch_settled(collection, Ok(()), now, commands);
                Ok(())
            }
            (Purpose::Batch, Err(error)) => {
                self.tell_store_error(collection, &error);
                self.batch_settled(collection, Err(error), now, commands);
                Ok(())
            }
            (Purpose::ReadBack, Ok(StoreReply::ReadBack(found))) => {
                self.read_back(collection, &found, now);
                Ok(())
            }
            (Purpose::ReadBack, Err(error)) => {
                self.tell_store_error(collection, &error);
                self.read_back_failed(now);
                Ok(())
            }
            (Purpose::Scrub, Ok(StoreReply::ReadBack(found))) => {
                self.scrub_read(&found, now);
                Ok(())
            }
            (Purpose::Scrub, Err(error)) => {
                self.tell_store_error(collection, &error);
                self.scrub.failed(now);
                Ok(())
            }
            (purpose, reply) => Err(Error::fatal(format_args!("{purpose:?} was answered with {reply:?}"))),
        }
    }

    fn tell_store_error(&self, collection: usize, error: &StoreError) {
        let name = &self.context.collections.get(self.lanes[collection].collection).name;
        tracing::warn!(task = %self.id(), collection = %name, %error, "the vector store did not take a request");
    }

    fn batch_settled(&mut self, collection: usize, outcome: Result<(), StoreError>, now: Now, commands: &mut Commands) {
        match self.lanes[collection].settle(outcome, now) {
            None => {}
            Some(Settled::Acknowledged { items, took }) => {
                self.metrics.batch(collection, items.len(), took);
                self.metrics.batch_outcome(collection, "acknowledged");
                for id in items {
                    self.written(id, now, commands);
                }
            }
            Some(Settled::Refused { item, words }) => {
                self.metrics.batch_outcome(collection, "refused");
                self.refused(item, &words, commands);
            }
            Some(Settled::Halved) => self.metrics.batch_outcome(collection, "halved"),
            Some(Settled::Retrying { suspects }) => {
                self.metrics.batch_outcome(collection, "retried");
                if suspects {
                    self.suspect_sealed(collection, now);
                }
            }
        }
    }

    /// Step 1 of the commit order is done for this item: the vector store has the row.
    fn written(&mut self, id: ItemId, now: Now, commands: &mut Commands) {
        let item = self.items.get_mut(id);
        let collection = item.key.collection.index();
        let write = std::mem::take(&mut item.write);
        let delete = write == Write::Delete;
        self.spare(write);
        let item = self.items.get(id);
        if matches!(item.kind, Kind::Reassertion { .. }) {
            self.metrics.reasserted(collection);
            return self.finish(id);
        }
        let (source, appended_at) = (item.source, item.appended_at);
        let late_ms = self.sources[source].skew.delay_ms(appended_at, now.wall);
        let plain = matches!(item.kind, Kind::Plain { .. });
        self.sources[source].lag.passed(Stage::Acknowledged, appended_at, now);
        self.metrics.applied(source, collection, delete, Duration::from_millis(late_ms));
        if plain { self.finish(id) } else { self.append_vector(id, commands) }
    }

    /// This Milvus alone refuses the row. The version holds the key all the same, or regions would diverge;
    /// the change is kept where it can be replayed.
    fn refused(&mut self, id: ItemId, words: &str, commands: &mut Commands) {
        let rejection = Rejection::new(Reason::RefusedByMilvus, words);
        let item = self.items.get_mut(id);
        item.write = Write::Nothing;
        // Its own; behind it are those of what it replaced and of its duplicates, of other sources perhaps.
        let own = item.tickets.first().copied();
        match &mut item.kind {
            Kind::Winner { record, entry } => {
                entry.refused = true;
                let record = record.clone();
                if let Some(ticket) = own {
                    self.dead_letter("milvus_sink", ticket, &record, &rejection, commands);
                }
                self.append_vector(id, commands);
            }
            Kind::Plain { .. } | Kind::Reassertion { .. } | Kind::Forgetting { .. } => {
                tracing::error!(task = %self.context.task, key = %self.items.get(id).key.id, %rejection, "a row is not applied");
                self.finish(id);
            }
        }
    }

    /// Everything about the item is acknowledged: now it may be remembered (INV-1), and what waited for it
    /// is settled.
    fn finish(&mut self, id: ItemId) {
        let Item { key, kind, write, tickets, .. } = self.items.remove(id);
        self.spare(write);
        match kind {
            Kind::Winner { entry, .. } => self.store.put(&key, entry),
            Kind::Forgetting { entry } => {
                let held = self.store.get(&key);
                if held.is_none_or(|held| held.version == entry.version) && self.store.forget(&key, &entry.version).is_some() {
                    self.metrics.tombstones_forgotten.increment(1);
                }
            }
            Kind::Reassertion { .. } => self.reassertion_ended(),
            Kind::Plain { .. } => {}
        }
        for ticket in tickets {
            self.release(ticket);
        }
    }
}

/// Records of the changelogs are found again by their offsets.
fn needs_offset(purpose: Purpose) -> bool {
    !matches!(purpose, Purpose::Hold | Purpose::Heartbeat)
}

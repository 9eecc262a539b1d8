//! Carrying out what the processors decided: items for the lanes, appends that hold their ticket.

use super::StreamTask;
use crate::base::ids::{RowKey, TopicPartition};
use crate::base::time::Now;
use crate::port::log::Append;
use crate::record::change::Op;
use crate::record::headers;
use crate::record::raw::{Headers, RawHeader, RawRecord};
use crate::record::reason::{Reason, Rejection};
use crate::record::size::without_value;
use crate::region::partitioner::partition_for_key;
use crate::store::entry::{Entry, version_text};
use crate::task::command::{Command, Commands, Purpose};
use crate::task::graph::NodeEffect;
use crate::task::items::{Item, ItemId, Kind, Write};
use crate::task::lag::Stage;
use crate::task::settlement::Ticket;
use crate::topology::node::{Effect, Wanted};
use bytes::Bytes;
use smallvec::smallvec;
use std::sync::Arc;

impl StreamTask {
    /// Carries out one record's effects. `ticket` is held by the caller throughout.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn carry_out(
        &mut self,
        ticket: Ticket,
        key: &RowKey,
        record: &RawRecord,
        effects: &mut Vec<NodeEffect>,
        now: Now,
        commands: &mut Commands,
    ) {
        let source = ticket.source;
        let mut put: Option<Entry> = None;
        let mut write: Option<Wanted> = None;
        for (node, effect) in effects.drain(..) {
            match effect {
                Effect::Drop(word) => self.metrics.verdict(source, word),
                Effect::DeadLetter(rejection) => self.dead_letter(&node, ticket, record, &rejection, commands),
                Effect::Conflict { loser, winner } => {
                    self.metrics.verdict(source, "conflict");
                    let mut headers = coordinates(&loser.record, "conflict", &node);
                    headers.push(text_header(headers::WINNER, version_text(&winner)));
                    let to = self.topics.conflicts.clone();
                    self.append_copy(to, ticket, &loser.record, headers, commands);
                }
                Effect::Rekey { key } => {
                    self.metrics.verdict(source, "rekeyed");
                    self.rekey(&key, ticket, record, commands);
                }
                Effect::Put { entry } => put = Some(entry),
                Effect::Write(wanted) => write = Some(wanted),
            }
        }
        if put.is_some() || write.is_some() {
            self.metrics.verdict(source, "winner");
            self.add_item(ticket, key, record, put, write, now, commands);
            return;
        }
        self.sources[source].lag.passed(Stage::Acknowledged, record.appended_at, now);
        if let Some(holder) = self.items.newest(key) {
            // It was judged against something not yet acknowledged: it settles no earlier than that does.
            self.hold_for_item(ticket, holder);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn add_item(
        &mut self,
        ticket: Ticket,
        key: &RowKey,
        record: &RawRecord,
        put: Option<Entry>,
        write: Option<Wanted>,
        now: Now,
        commands: &mut Commands,
    ) {
        let kind = match (put, &write) {
            (Some(entry), _) => Kind::Winner { record: self.as_at_its_origin(ticket.source, record), entry },
            (None, Some(wanted)) => Kind::Plain { version: wanted.version.clone() },
            (None, None) => return,
        };
        let write = match write {
            None => Write::Nothing,
            Some(wanted) if wanted.op == Op::Delete => Write::Delete,
            Some(wanted) => Write::Upsert(wanted.row.unwrap_or_default()),
        };
        let to_lane = write != Write::Nothing;
        self.hold_open(ticket);
        let item = Item {
            key: key.clone(),
            kind,
            write,
            tickets: smallvec![ticket],
            appended_at: record.appended_at,
            source: ticket.source,
        };
        if to_lane {
            let collection = key.collection.index();
            let (_, older) = self.lanes[collection].push(item, &mut self.items, now);
            let older = older.map(|mut older| {
                self.spare(std::mem::take(&mut older.write));
                older
            });
            match older {
                Some(older) if older.is_fresh() => self.metrics.coalesced(older.source, collection),
                Some(older) if matches!(older.kind, Kind::Reassertion { .. }) => self.reassertion_ended(),
                _ => {}
            }
        } else {
            let id = self.items.insert(item);
            self.append_vector(id, commands);
        }
    }

    /// What was to be written is written, or superseded.
    pub(super) fn spare(&self, write: Write) {
        if let Write::Upsert(row) = write {
            self.spare_rows.give(row);
        }
    }

    fn hold_for_item(&mut self, ticket: Ticket, holder: ItemId) {
        self.hold_open(ticket);
        self.items.get_mut(holder).tickets.push(ticket);
    }

    pub(super) fn dead_letter(
        &mut self,
        stage: &str,
        ticket: Ticket,
        record: &RawRecord,
        rejection: &Rejection,
        commands: &mut Commands,
    ) {
        self.metrics.dead_letter(ticket.source, rejection.reason);
        let mut headers = coordinates(record, rejection.reason.code(), stage);
        headers.push(text_header(headers::DETAIL, rejection.detail.clone()));
        let to = self.topics.dead_letter.clone();
        match rejection.reason {
            Reason::TooLarge => self.append_copy(to, ticket, &without_value(record), headers, commands),
            _ => self.append_copy(to, ticket, record, headers, commands),
        }
    }

    fn rekey(&mut self, key: &RowKey, ticket: Ticket, record: &RawRecord, commands: &mut Commands) {
        let id = key.id.to_string();
        let partition = partition_for_key(id.as_bytes(), self.context.partitions);
        let to = TopicPartition::new(self.topics.local.topic.clone(), partition);
        let hold = self.hold(ticket);
        self.append(&to, Some(id.into()), record.value.clone(), record.headers.clone().into(), Purpose::Hold, hold, commands);
    }

    /// Appends the record's own bytes and headers, with ours behind them.
    fn append_copy(
        &mut self,
        to: TopicPartition,
        ticket: Ticket,
        record: &RawRecord,
        ours: Vec<RawHeader>,
        commands: &mut Commands,
    ) {
        let mut headers = record.headers.clone();
        headers.extend(ours);
        let hold = self.hold(ticket);
        self.append(&to, record.key.clone(), record.value.clone(), headers.into(), Purpose::Hold, hold, commands);
    }

    /// Keeps the ticket open until the append with this id is acknowledged.
    fn hold(&mut self, ticket: Ticket) -> u32 {
        self.hold_open(ticket);
        match self.free_holds.pop() {
            Some(id) => {
                self.holds[id as usize] = Some(ticket);
                id
            }
            None => {
                self.holds.push(Some(ticket));
                (self.holds.len() - 1) as u32
            }
        }
    }

    /// First of the two appends of a winner: its change, bytes unchanged.
    pub(super) fn append_vector(&mut self, id: ItemId, commands: &mut Commands) {
        let item = self.items.get(id);
        let (value, headers) = match &item.kind {
            // Forgotten at a peer: the version is all that is known of it.
            Kind::Winner { record, entry } if record.value.is_none() => (None, smallvec![forgotten(entry)]),
            Kind::Winner { record, entry } => (record.value.clone(), self.winner_bytes.headers(record, &entry.version.origin)),
            Kind::Forgetting { entry } => (None, smallvec![forgotten(entry)]),
            Kind::Reassertion { .. } | Kind::Plain { .. } => return,
        };
        let key = self.winner_bytes.key(&item.key, &self.context.collections);
        let to = self.topics.vectors_changelog.clone();
        self.append(&to, Some(key), value, headers, Purpose::Vector, id, commands);
    }

    /// Second: its entry, which carries the offset of the first.
    pub(super) fn append_entry(&mut self, id: ItemId, commands: &mut Commands) {
        let item = self.items.get(id);
        let (value, headers) = match &item.kind {
            Kind::Winner { entry, .. } => (Some(self.winner_bytes.entry(entry)), Headers::new()),
            Kind::Forgetting { entry } => (None, smallvec![forgotten(entry)]),
            Kind::Reassertion { .. } | Kind::Plain { .. } => return,
        };
        let key = self.winner_bytes.key(&item.key, &self.context.collections);
        let to = self.topics.versions_changelog.clone();
        self.append(&to, Some(key), value, headers, Purpose::Entry, id, commands);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn append(
        &mut self,
        to: &TopicPartition,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Headers,
        purpose: Purpose,
        id: u32,
        commands: &mut Commands,
    ) {
        self.outstanding += 1;
        commands.push_back(Command::Append(Append { to: to.clone(), key, value, headers }, self.token(purpose, id)));
    }
}

/// Where a record came from and why it is kept.
fn coordinates(record: &RawRecord, reason: &str, stage: &str) -> Vec<RawHeader> {
    vec![
        text_header(headers::REASON, reason),
        text_header(headers::STAGE, stage),
        text_header(headers::TOPIC, record.topic.to_string()),
        text_header(headers::PARTITION, record.partition.to_string()),
        text_header(headers::OFFSET, record.offset.to_string()),
        appended_at(record),
    ]
}

fn appended_at(record: &RawRecord) -> RawHeader {
    text_header(headers::APPENDED_AT, record.appended_at.to_string())
}

pub(super) fn forgotten(entry: &Entry) -> RawHeader {
    text_header(crate::store::entry::FORGOTTEN_HEADER, version_text(&entry.version))
}

pub(super) fn text_header(name: &'static str, text: impl Into<String>) -> RawHeader {
    (Arc::from(name), Some(Bytes::from(text.into())))
}

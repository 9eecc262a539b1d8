//! How far the task has come: the progress record, the floor, and the tombstones that it lets go.

use super::{Restored, SourceStart, StreamTask};
use crate::base::error::Result;
use crate::base::ids::{Region, RowKey, TopicPartition};
use crate::base::time::{Now, UnixMs};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::processor::admit::EARLY_MS_MAX;
use crate::record::raw::Headers;
use crate::store::progress::{ConfirmedPlace, Gap, PROGRESS_KEY, Progress, SourceProgress};
use crate::store::{Applied, Position};
use crate::task::command::{Command, Commands, Purpose};
use crate::task::items::{Item, Kind, Write};
use smallvec::SmallVec;
use std::time::Duration;

/// Tombstones looked at in one go.
const FORGET_MAX: usize = 256;
/// How often tombstones below the floor are looked for, and a mirror that is not there yet.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// The state of step 3 and 4 of the commit order.
#[derive(Debug)]
pub(super) struct Committing {
    floor: Option<Hlc>,
    epoch: u64,
    pub written_at: u64,
    /// The next own append to each changelog has at least this offset; more means that somebody else wrote.
    pub versions_next: i64,
    pub vectors_next: i64,
    pub misplaced: Vec<RowKey>,
    pub forgotten: Vec<(RowKey, Version)>,
    /// Settled offsets of the last progress record that was appended, and what it says is suspected.
    appended: Option<(Vec<i64>, Option<i64>)>,
    /// Settled offsets of the last one that is acknowledged.
    acknowledged: Vec<i64>,
    /// The progress record under way.
    under_way: Option<Progress>,
    /// Somebody else has written here to the versions changelog: the store's position stays before that for the rest of
    /// this life. Whoever restores from it reads again what we have answered or left for later.
    held_back: Option<Position>,
    /// The log's own time at the last progress record that it has acknowledged.
    kept_at: UnixMs,
    /// Since when a progress record is under way.
    in_flight: Option<Duration>,
    phase: Phase,
    next_commit: Duration,
    next_forget: Duration,
    next_check: Duration,
    next_absent_check: Duration,
    /// Sources whose check is under way.
    checking: Vec<usize>,
}

/// Opening → Open → Closing → Closed. Nothing is written to the vector store before the log says that the
/// partition is open, so that a successor knows whether to expect stray writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Closing,
    Closed,
}

/// Long ago: whoever goes by it takes no risk.
const UNKNOWN_TIME: UnixMs = UnixMs(0);

/// Nothing that the changelog takes from now on has an earlier time, by the clock of the brokers that keep both: the
/// region's own changes are settled up to here, its heartbeats among them.
fn log_time(own_frontier: Option<UnixMs>) -> UnixMs {
    own_frontier.unwrap_or(UNKNOWN_TIME)
}

impl Committing {
    pub fn new(restored: &Restored, now: Now) -> Self {
        Self {
            floor: restored.floor,
            epoch: restored.epoch,
            written_at: restored.written_at,
            versions_next: restored.versions_end,
            vectors_next: restored.vectors_next,
            misplaced: Vec::new(),
            forgotten: Vec::new(),
            checking: Vec::new(),
            appended: None,
            acknowledged: Vec::new(),
            under_way: None,
            held_back: restored.held_back,
            kept_at: restored.sources.first().map_or(UNKNOWN_TIME, |own| log_time(own.frontier)),
            in_flight: None,
            phase: Phase::Opening,
            next_commit: now.monotonic,
            next_forget: now.monotonic + HOUSEKEEPING,
            next_check: now.monotonic + HOUSEKEEPING,
            next_absent_check: now.monotonic + HOUSEKEEPING,
        }
    }

    pub fn is_open(&self) -> bool {
        self.phase != Phase::Opening
    }

    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How long that took.
    pub fn acknowledged(&mut self, now: Now) -> Duration {
        let took = self.in_flight.take().map_or(Duration::ZERO, |since| now.monotonic.saturating_sub(since));
        if let Some((settled, _)) = &self.appended {
            self.acknowledged.clone_from(settled);
        }
        self.phase = match self.phase {
            Phase::Opening => Phase::Open,
            Phase::Closing => Phase::Closed,
            other => other,
        };
        took
    }

    /// What lies at `offset` of the versions changelog is not ours, and is later than all that was kept before.
    pub fn hold_back(&mut self, offset: i64) {
        self.held_back.get_or_insert(Position { next_offset: offset, at: self.kept_at });
    }

    /// Nothing is due while a progress record is under way: its acknowledgement wakes the thread.
    pub fn due(&self) -> Option<Duration> {
        (self.in_flight.is_none() && self.phase != Phase::Closed).then_some(self.next_commit)
    }
}

impl StreamTask {
    /// Appends a progress record if there is something new to say and the last one is acknowledged.
    pub(super) fn commit(&mut self, now: Now, commands: &mut Commands) {
        if self.committing.in_flight.is_some() || self.committing.phase == Phase::Closed {
            return;
        }
        let closing = self.draining && self.items.is_empty() && self.outstanding == 0;
        let due = now.monotonic >= self.committing.next_commit;
        // With a collection parked nothing may settle for long, while others are written: what is suspected of those
        // must be known to a successor all the same.
        let said = (self.positions(), self.reassert.suspect_from());
        let news = self.committing.appended.as_ref() != Some(&said);
        let periodic = due && news && !self.draining;
        if !closing && !periodic {
            if due {
                self.committing.next_commit = now.monotonic + self.settings.commit_interval;
            }
            return;
        }
        self.raise_floor();
        let clean = closing && self.reads == 0 && self.reassert.is_clean();
        let progress = self.progress(clean);
        let value = progress.encode();
        if closing {
            self.committing.phase = Phase::Closing;
        }
        self.committing.in_flight = Some(now.monotonic);
        self.committing.under_way = Some(progress);
        self.committing.next_commit = now.monotonic + self.settings.commit_interval;
        self.committing.appended = Some(said);
        let to = self.topics.versions_changelog.clone();
        self.append(&to, Some(PROGRESS_KEY.into()), Some(value.into()), Headers::new(), Purpose::Progress, 0, commands);
    }

    /// The log has acknowledged a progress record at `offset`. What was appended before it is acknowledged too, so the
    /// store holds it all, and may say so.
    pub(super) fn keep_position(&mut self, offset: i64) -> Result<()> {
        let Some(progress) = self.committing.under_way.take() else { return Ok(()) };
        let at = progress.sources.first().map_or(UNKNOWN_TIME, |own| log_time(own.frontier));
        let position = self.committing.held_back.unwrap_or(Position { next_offset: offset + 1, at });
        self.committing.kept_at = at;
        self.store.commit(&Applied { position, progress: Some(progress) })
    }

    fn progress(&self, closed: bool) -> Progress {
        let sources = self.sources.iter().enumerate().map(|(index, source)| {
            let settled = self.settled(index);
            let (next_offset, confirmed) = source.anchor;
            SourceProgress {
                topic: source.topic.to_string(),
                topic_id: source.topic_id.clone(),
                partition: self.context.task.partition,
                next_offset: settled.next_offset,
                last_appended_at: settled.mark.map(|mark| mark.appended_at),
                last_fingerprint: settled.mark.map(|mark| mark.fingerprint),
                frontier: settled.frontier.filter(|_| !source.repair),
                since: source.since.filter(|_| !source.repair),
                confirmed: confirmed.map(|mark| ConfirmedPlace {
                    next_offset,
                    appended_at: mark.appended_at.0,
                    fingerprint: mark.fingerprint,
                }),
            }
        });
        Progress {
            sources: sources.collect(),
            floor: self.committing.floor,
            written_at: self.committing.written_at,
            closed,
            epoch: self.committing.epoch,
            suspect_from: self.reassert.suspect_from(),
            incomplete: self.completeness.gaps().to_vec(),
            resync_from: self.completeness.resync_from().map(str::to_owned),
        }
    }

    /// The settled offsets that an acknowledged progress record holds: what may be committed to Kafka, for tools.
    pub fn committable(&self) -> Vec<(TopicPartition, i64)> {
        let partition = self.context.task.partition;
        let present = self.sources.iter().zip(&self.committing.acknowledged).filter(|(source, _)| source.present);
        present.map(|(source, offset)| (TopicPartition::new(source.topic.clone(), partition), *offset)).collect()
    }

    /// `F = min over origins (A settled from it) − L − 60 s`; it never goes back, and stands still while an
    /// origin has said nothing.
    fn raise_floor(&mut self) {
        let mut lowest: Option<UnixMs> = None;
        for source in (0..self.sources.len()).filter(|source| !self.sources[*source].repair) {
            let Some(frontier) = self.settled(source).frontier else { return };
            lowest = Some(lowest.map_or(frontier, |lowest| lowest.min(frontier)));
        }
        let Some(lowest) = lowest else { return };
        self.committing.floor = self.committing.floor.max(Some(self.floor_at(lowest)));
    }

    pub fn floor(&self) -> Option<Hlc> {
        self.committing.floor
    }

    /// The origin of which least is settled: it holds the floor back.
    pub fn floor_held_by(&self) -> Option<&Region> {
        let origins = (0..self.sources.len()).filter(|source| !self.sources[*source].repair);
        let least = origins.min_by_key(|source| self.settled(*source).frontier)?;
        Some(&self.sources[least].region)
    }

    /// The floor as far as this source has earned it: what a region that was added later brings is no replay.
    pub(super) fn floor_of(&self, source: usize) -> Option<Hlc> {
        let frontier = self.settled(source).frontier?;
        self.committing.floor.map(|floor| floor.min(self.floor_at(frontier)))
    }

    fn floor_at(&self, frontier: UnixMs) -> Hlc {
        Hlc::at(UnixMs(frontier.0 - self.context.max_lateness_ms - EARLY_MS_MAX))
    }

    /// Lets go of tombstones that no admissible change can be older than: a null with their version to both
    /// changelogs, then out of the store. A key with a newer winner under way is left alone: a null appended
    /// behind it could outlive it in compaction.
    pub(super) fn forget_tombstones(&mut self, now: Now, commands: &mut Commands) {
        if now.monotonic < self.committing.next_forget || !self.committing.is_open() {
            return;
        }
        self.committing.next_forget = now.monotonic + HOUSEKEEPING;
        if !self.completeness.is_whole() {
            // The peer of a resync may not have seen the delete yet, and what it had beaten may be on its way here.
            return;
        }
        let Some(floor) = self.committing.floor else { return };
        // What may still have to be deleted again must be known until that is done.
        let suspect_from = self.reassert.suspect_from().unwrap_or(i64::MAX);
        for (key, entry) in self.store.tombstones_below(floor, FORGET_MAX) {
            if entry.vector_offset >= suspect_from {
                continue;
            }
            if self.items.newest(&key).is_some() || self.lanes[key.collection.index()].waits(&key) {
                continue;
            }
            let item = Item {
                key,
                kind: Kind::Forgetting { entry },
                write: Write::Nothing,
                tickets: SmallVec::new(),
                appended_at: now.wall,
                source: 0,
            };
            let id = self.items.insert(item);
            self.append_vector(id, commands);
        }
    }

    /// From time to time: is each source still the log that it was, and has a missing mirror appeared?
    pub(super) fn check_sources(&mut self, now: Now, commands: &mut Commands) {
        let check_present = now.monotonic >= self.committing.next_check;
        let check_absent = now.monotonic >= self.committing.next_absent_check;
        if check_absent {
            self.committing.next_absent_check = now.monotonic + HOUSEKEEPING;
        }
        if check_present {
            self.committing.next_check = now.monotonic + self.settings.source_check_interval;
            self.look_behind_own_appends(commands);
        }
        for index in 0..self.sources.len() {
            let settled = self.settled(index);
            let source = &mut self.sources[index];
            if source.anchor.1.is_none() {
                source.anchor = (settled.next_offset, settled.mark);
            }
            let due = if source.present { check_present } else { check_absent };
            if due && !self.committing.checking.contains(&index) {
                self.committing.checking.push(index);
                source.next_anchor = (settled.next_offset, settled.mark);
                commands.push_back(Command::CheckSource { life: self.life, source: index });
            }
        }
    }

    /// The place of a source that is to be checked against the log.
    pub fn source_start(&self, index: usize) -> SourceStart {
        let source = &self.sources[index];
        let (next_offset, mark) = source.anchor;
        SourceStart {
            region: source.region.clone(),
            topic: source.topic.clone(),
            topic_id: source.topic_id.clone(),
            next_offset,
            mark,
            frontier: self.settled(index).frontier,
            since: source.since,
            present: source.present,
        }
    }

    /// The answer to [`Command::CheckSource`]. Answers with the offset to fetch from if the source has appeared,
    /// or is to be read again.
    pub fn source_checked(&mut self, index: usize, found: &SourceStart, replay: bool) -> Option<i64> {
        self.committing.checking.retain(|checked| *checked != index);
        let source = &mut self.sources[index];
        let was_present = std::mem::replace(&mut source.present, found.present);
        if !found.present {
            return None;
        }
        source.topic_id.clone_from(&found.topic_id);
        let (settled, topic) = (source.settlement.settled().next_offset, source.topic.to_string());
        if was_present && !replay && settled < found.next_offset {
            self.completeness.lacks(Gap { topic, from: settled, until: found.next_offset });
        }
        let source = &mut self.sources[index];
        if replay || source.settlement.settled().next_offset < found.next_offset {
            self.group.clear(index);
            self.parking.begin_again(index, found.next_offset, found.mark);
            source.settlement.begin_again(found.next_offset, found.mark);
            source.lag.begin_again();
            source.next_offered = found.next_offset;
            source.next_anchor = (found.next_offset, found.mark);
        } else if was_present {
            source.anchor = source.next_anchor;
            self.tell_what_is_lost(index, found.next_offset);
            return None;
        }
        source.anchor = source.next_anchor;
        Some(source.next_offered)
    }
}

//! Heartbeats written and read, and what they tell: how far behind a source is, how far apart the clocks are,
//! whether something that lay before them never came, and whether the regions are configured alike.

use super::StreamTask;
use crate::base::ids::Region;
use crate::base::time::Now;
use crate::record::change::Heartbeat;
use crate::record::raw::Headers;
use crate::store::progress::Gap;
use crate::task::command::{Commands, Purpose};
use crate::task::heartbeat::{Echo, disagreements, echo_of, key, previous};
use crate::task::lag::LagView;
use crate::task::skew::Exchange;

/// Heartbeats younger than this speak of the present.
const HEARTBEAT_RECENT_MS: i64 = 60_000;

impl StreamTask {
    pub(super) fn take_heartbeat(&mut self, source: usize, heartbeat: &Heartbeat, now: Now) {
        let appended_at = heartbeat.record.appended_at;
        self.look_for_a_hole(source, heartbeat);
        let stamped_at = heartbeat.hlc.wall();
        self.sources[source].lag.heartbeat(appended_at, stamped_at, now);
        // An old one tells how things were: only what is being said now counts now.
        let recent = now.wall.since_ms(appended_at).abs() < HEARTBEAT_RECENT_MS;
        if self.sources[source].region == self.context.region {
            self.pulse.seen(appended_at, now);
            let exchange = Exchange { sent: stamped_at, held_ms: 0, appended: appended_at, arrived: now.wall };
            self.sources[source].skew.note(exchange);
        } else if let Some(echo) = echo_of(heartbeat, &self.context.region) {
            let held_ms = stamped_at.since_ms(echo.arrived_at);
            let exchange = Exchange { sent: echo.stamped_at, held_ms, appended: appended_at, arrived: now.wall };
            self.sources[source].skew.note(exchange);
        }
        if recent {
            self.tell_disagreements(source, heartbeat);
        }
        self.settle_at_once(source, &heartbeat.record, "heartbeat");
    }

    fn tell_disagreements(&mut self, source: usize, heartbeat: &Heartbeat) {
        let source = &mut self.sources[source];
        source.disagreements = disagreements(heartbeat, &self.context);
        for sentence in &source.disagreements {
            if !source.warned.contains(sentence) {
                tracing::error!(task = %self.context.task, "{sentence}");
                source.warned.push(sentence.clone());
            }
        }
    }

    /// A heartbeat names the one before it in its partition. If that never came, nor anything after it, then records
    /// were deleted before they were read, by retention at the origin or by a mirror that was made anew.
    fn look_for_a_hole(&mut self, source: usize, heartbeat: &Heartbeat) {
        let Some(until) = previous(heartbeat) else { return };
        let Some(after) = self.sources[source].settlement.taken().frontier else { return };
        if until <= after {
            return;
        }
        let from = self.sources[source].settlement.taken().next_offset;
        let lost = Gap { topic: heartbeat.record.topic.to_string(), from, until: heartbeat.record.offset };
        self.completeness.lacks(lost);
        let origin = self.sources[source].region.to_string();
        let (topic, partition, offset) = (&heartbeat.record.topic, heartbeat.record.partition, heartbeat.record.offset);
        tracing::error!(
            task = %self.context.task, %topic, partition, offset, after_ms = after.0, until_ms = until.0,
            "what {origin} appended between {after} and {until} (Unix ms) never came: this partition is incomplete until `driftless resync` has brought it from a peer"
        );
        self.sources[source].gaps += 1;
        self.metrics.replication_gap(source);
    }

    pub(super) fn beat(&mut self, now: Now, commands: &mut Commands) {
        let own = &self.context.region;
        let peers = self.sources.iter().filter(|source| source.region != *own);
        let echoes: Vec<(&Region, Echo)> = peers.filter_map(|source| Some((&source.region, source.lag.echo()?))).collect();
        let Some(value) = self.pulse.beat(&self.context, &echoes, now) else { return };
        let key = key(own.as_str());
        self.append(
            &self.topics.local.clone(),
            Some(key.into()),
            Some(value.into()),
            Headers::new(),
            Purpose::Heartbeat,
            0,
            commands,
        );
        self.metrics.heartbeats.increment(1);
    }

    /// How often a heartbeat of a source has shown, in this life, that something before it never came.
    pub fn gaps(&self, index: usize) -> u64 {
        self.sources[index].gaps
    }

    /// In what the newest heartbeat of a source says that its region is configured otherwise than this one.
    pub fn disagreements(&self, index: usize) -> &[String] {
        &self.sources[index].disagreements
    }

    /// How far behind its origin a source is, as far as is known now.
    pub fn lag(&self, index: usize, now: Now) -> LagView {
        let source = &self.sources[index];
        let unjudged = self.group.oldest(index).into_iter().chain(self.parking.oldest(index)).min();
        let unsettled = self.oldest_open(index).into_iter().chain(unjudged).min();
        source.lag.view([None, unjudged, unsettled], source.skew.bounds(), now)
    }
}

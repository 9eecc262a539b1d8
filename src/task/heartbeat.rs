//! A partition that has been silent for an interval gets a heartbeat, so that its frontier moves, the floor
//! with it, and a silent origin is told from a broken link. Duplicates are harmless: any worker of the region
//! that holds the partition may write one.

use crate::base::ids::Region;
use crate::base::time::{Now, UnixMs};
use crate::merge::hlc::Hlc;
use crate::record::avro::{Fields, WireOp, encode};
use crate::record::change::{Heartbeat, MetaValue};
use crate::record::framing;
use crate::record::headers::HEARTBEAT_KEY_PREFIX;
use crate::topology::node::TaskContext;
use std::time::Duration;

/// Metadata of a heartbeat: the admission bound and the collections' hash that its region works with, and the
/// append time of the heartbeat before it in the partition.
pub const MAX_LATENESS: &str = "max_lateness_ms";
pub const SCHEMA_HASH: &str = "schema_hash";
pub const PREVIOUS: &str = "previous_appended_at";
/// Before the name of a peer: the stamp of its newest heartbeat that had arrived, and when it had, by the writer's
/// clock.
pub const ECHO_STAMPED_AT: &str = "echo_stamped_at/";
pub const ECHO_ARRIVED_AT: &str = "echo_arrived_at/";

/// The key of an origin's heartbeats; it lies in an explicit partition, whatever its hash.
pub fn key(origin: &str) -> String {
    format!("{HEARTBEAT_KEY_PREFIX}{origin}")
}

/// A peer's heartbeat, thrown back: what it takes to compare the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    pub stamped_at: UnixMs,
    pub arrived_at: UnixMs,
}

#[derive(Debug)]
pub struct Pulse {
    interval: Duration,
    last: Option<Duration>,
    previous: Option<UnixMs>,
}

impl Pulse {
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, previous: None }
    }

    /// One was read from the region's own topic.
    pub fn seen(&mut self, appended_at: UnixMs, now: Now) {
        self.last = Some(now.monotonic);
        self.previous = self.previous.max(Some(appended_at));
    }

    /// The value to append, if one is due now. `echoes`: each peer's newest heartbeat.
    pub fn beat(&mut self, context: &TaskContext, echoes: &[(&Region, Echo)], now: Now) -> Option<Vec<u8>> {
        if self.last.is_some_and(|last| now.monotonic.saturating_sub(last) < self.interval) {
            return None;
        }
        self.last = Some(now.monotonic);
        let mut metadata = vec![
            (MAX_LATENESS.to_owned(), MetaValue::Long(context.max_lateness_ms)),
            (SCHEMA_HASH.to_owned(), MetaValue::Long(context.collections.schema_hash() as i64)),
        ];
        if let Some(previous) = self.previous {
            metadata.push((PREVIOUS.to_owned(), MetaValue::Long(previous.0)));
        }
        for (peer, echo) in echoes {
            metadata.push((format!("{ECHO_STAMPED_AT}{peer}"), MetaValue::Long(echo.stamped_at.0)));
            metadata.push((format!("{ECHO_ARRIVED_AT}{peer}"), MetaValue::Long(echo.arrived_at.0)));
        }
        let content = encode(&Fields {
            op: WireOp::Heartbeat,
            hlc: Hlc::at(now.wall),
            origin: context.region.as_str(),
            sequence: 0,
            collection: "",
            vector_id: "",
            vector: &[],
            metadata: &metadata,
        });
        Some(framing::frame(context.schema_id, &content))
    }

    pub fn due(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |last| last + self.interval)
    }
}

fn long(heartbeat: &Heartbeat, name: &str) -> Option<i64> {
    heartbeat.metadata.iter().find(|(key, _)| key == name).and_then(|(_, value)| match value {
        MetaValue::Long(number) => Some(*number),
        _ => None,
    })
}

/// The append time of the heartbeat before it in its partition, as its writer had read it there.
pub fn previous(heartbeat: &Heartbeat) -> Option<UnixMs> {
    long(heartbeat, PREVIOUS).map(UnixMs)
}

/// What it throws back of this region's own heartbeats.
pub fn echo_of(heartbeat: &Heartbeat, own: &Region) -> Option<Echo> {
    let stamped_at = UnixMs(long(heartbeat, &format!("{ECHO_STAMPED_AT}{own}"))?);
    let arrived_at = UnixMs(long(heartbeat, &format!("{ECHO_ARRIVED_AT}{own}"))?);
    Some(Echo { stamped_at, arrived_at })
}

/// What a peer's heartbeat says that must be the same in every region and isn't: each a sentence with its
/// remedy.
pub fn disagreements(heartbeat: &Heartbeat, context: &TaskContext) -> Vec<String> {
    let ours = [(MAX_LATENESS, context.max_lateness_ms), (SCHEMA_HASH, context.collections.schema_hash() as i64)];
    let mut found = Vec::new();
    for (name, expected) in ours {
        if let Some(theirs) = long(heartbeat, name)
            && theirs != expected
        {
            found.push(format!(
                "region {} works with {name} = {theirs}, this one with {expected}: set both configurations alike, or they will judge changes differently and diverge",
                heartbeat.origin
            ));
        }
    }
    found
}

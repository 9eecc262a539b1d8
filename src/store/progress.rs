//! The progress record: how far a task has come, in its partition of the versions changelog. It alone seeds
//! resume; offsets committed to Kafka are for tools.
//!
//! Format 1 is the byte 1, then one JSON object, readable with any consumer (`tail -c +2`). Fields may be added
//! within the format: a reader passes over those it does not know. A change of meaning takes a new number.

use crate::base::ids::TopicId;
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use serde::{Deserialize, Serialize};

/// The record's key. No row key equals it (see [`row_key`](crate::store::row_key)).
pub const PROGRESS_KEY: &str = "driftless/progress";

const FORMAT: u8 = 1;

/// One source partition of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProgress {
    pub topic: String,
    /// Of the topic that all offsets here are meant of; unknown if the log gives none, or an older worker wrote this.
    pub topic_id: Option<TopicId>,
    pub partition: i32,
    /// The first offset that is not settled.
    pub next_offset: i64,
    /// A of the last settled record, the one before `next_offset` (but for holes); none if there was none yet.
    pub last_appended_at: Option<UnixMs>,
    /// What it is told again by, should the topic have been made anew.
    pub last_fingerprint: Option<u64>,
    /// The A up to which all of the source is settled.
    pub frontier: Option<UnixMs>,
    /// A of the first record that was ever taken: of what is older, this source has told nothing. None: everything
    /// that there was, or (of an older worker's) not known.
    pub since: Option<UnixMs>,
    /// An earlier settled place, at which the topic was last looked at and found to be the same. What was read since
    /// says nothing of that: of a topic made anew, the last settled record is its own.
    pub confirmed: Option<ConfirmedPlace>,
}

/// The offset after a settled record, and what that record is told again by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedPlace {
    pub next_offset: i64,
    /// In Unix ms.
    pub appended_at: i64,
    pub fingerprint: u64,
}

/// Records of a source that never came, or were deleted before they were settled: what they said is not known here.
/// A mirror that lacks them has no offsets for them: then nothing lies between `from` and `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub topic: String,
    pub from: i64,
    pub until: i64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until - 1 {
            last if last < self.from => write!(f, "{} before {}", self.topic, self.until),
            last => write!(f, "{} {} to {last}", self.topic, self.from),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub sources: Vec<SourceProgress>,
    /// F: tombstones below it are forgotten. It never goes back.
    pub floor: Option<Hlc>,
    /// The vector store's own timestamp of the last write that was acknowledged.
    pub written_at: u64,
    /// The task was closed with nothing in flight: nothing needs to be asserted again.
    pub closed: bool,
    pub epoch: u64,
    /// Rows that may have been undone by a late write lie at or after this offset of the vectors changelog.
    pub suspect_from: Option<i64>,
    /// What makes this partition incomplete, until a resync has filled it.
    pub incomplete: Vec<Gap>,
    /// The peer that a resync, begun and not ended, brings the partition from.
    pub resync_from: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    #[error("progress record of format {0} is not known to this version; upgrade this worker")]
    UnknownFormat(u8),
    #[error("progress record is empty")]
    Empty,
    #[error("progress record is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

impl Progress {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, &Written::from(self)).expect("numbers and text have a JSON form");
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, ProgressError> {
        match bytes.split_first() {
            None => Err(ProgressError::Empty),
            Some((&FORMAT, json)) => Ok(serde_json::from_slice::<Written>(json)?.into()),
            Some((&other, _)) => Err(ProgressError::UnknownFormat(other)),
        }
    }
}

/// The JSON of format 1. Times are in Unix ms, the floor as an HLC.
#[derive(Serialize, Deserialize)]
struct Written {
    sources: Vec<WrittenSource>,
    floor: Option<u64>,
    written_at: u64,
    closed: bool,
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspect_from: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<Gap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resync_from: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSource {
    topic: String,
    partition: i32,
    next_offset: i64,
    last_appended_at: Option<i64>,
    last_fingerprint: Option<u64>,
    frontier: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed: Option<ConfirmedPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
}

impl From<&Progress> for Written {
    fn from(progress: &Progress) -> Self {
        let sources = progress.sources.iter().map(|source| WrittenSource {
            topic: source.topic.clone(),
            topic_id: source.topic_id.as_ref().map(|id| id.as_str().to_owned()),
            partition: source.partition,
            next_offset: source.next_offset,
            last_appended_at: source.last_appended_at.map(|at| at.0),
            last_fingerprint: source.last_fingerprint,
            frontier: source.frontier.map(|at| at.0),
            since: source.since.map(|at| at.0),
            confirmed: source.confirmed,
        });
        Self {
            sources: sources.collect(),
            floor: progress.floor.map(|floor| floor.0),
            written_at: progress.written_at,
            closed: progress.closed,
            epoch: progress.epoch,
            suspect_from: progress.suspect_from,
            incomplete: progress.incomplete.clone(),
            resync_from: progress.resync_from.clone(),
        }
    }
}

impl From<Written> for Progress {
    fn from(written: Written) -> Self {
        let sources = written.sources.into_iter().map(|source| SourceProgress {
            topic: source.topic,
            topic_id: source.topic_id.map(TopicId::new),
            partition: source.partition,
            next_offset: source.next_offset,
            last_appended_at: source.last_appended_at.map(UnixMs),
            last_fingerprint: source.last_fingerprint,
            frontier: source.frontier.map(UnixMs),
            since: source.since.map(UnixMs),
            confirmed: source.confirmed,
        });
        Self {
            sources: sources.collect(),
            floor: written.floor.map(Hlc),
            written_at: written.written_at,
            closed: written.closed,
            epoch: written.epoch,
            suspect_from: written.suspect_from,
            incomplete: written.incomplete,
            resync_from: written.resync_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = concat!(
        "\u{1}",
        r#"{"sources":[{"topic":"vector-cdc","partition":3,"next_offset":42,"last_appended_at":1700000000000,"#,
        r#""last_fingerprint":18446744073709551615,"frontier":1700000000001,"since":1600000000000,"#,
        r#""confirmed":{"next_offset":40,"appended_at":1699999999999,"fingerprint":5},"#,
        r#""topic_id":"6iBSLQx0QYqYHOFGYxkNeA"},"#,
        r#"{"topic":"us.vector-cdc","partition":3,"next_offset":0,"last_appended_at":null,"last_fingerprint":null,"#,
        r#""frontier":null}],"floor":111411200000000000,"written_at":7,"closed":true,"epoch":2,"#,
        r#""incomplete":[{"topic":"us.vector-cdc","from":5,"until":9}],"resync_from":"us"}"#
    );

    fn progress() -> Progress {
        let own = SourceProgress {
            topic: "vector-cdc".to_owned(),
            topic_id: Some(TopicId::new("6iBSLQx0QYqYHOFGYxkNeA")),
            partition: 3,
            next_offset: 42,
            last_appended_at: Some(UnixMs(1_700_000_000_000)),
            last_fingerprint: Some(u64::MAX),
            frontier: Some(UnixMs(1_700_000_000_001)),
            since: Some(UnixMs(1_600_000_000_000)),
            confirmed: Some(ConfirmedPlace { next_offset: 40, appended_at: 1_699_999_999_999, fingerprint: 5 }),
        };
        let mirror = SourceProgress {
            topic: "us.vector-cdc".to_owned(),
            topic_id: None,
            partition: 3,
            next_offset: 0,
            last_appended_at: None,
            last_fingerprint: None,
            frontier: None,
            since: None,
            confirmed: None,
        };
        let floor = Some(Hlc::at(UnixMs(1_700_000_000_000)));
        let incomplete = vec![Gap { topic: "us.vector-cdc".to_owned(), from: 5, until: 9 }];
        Progress {
            sources: vec![own, mirror],
            floor,
            written_at: 7,
            closed: true,
            epoch: 2,
            suspect_from: None,
            incomplete,
            resync_from: Some("us".to_owned()),
        }
    }

    /// Format 1 as bytes: a change of this test is a change of what older workers can read.
    #[test]
    fn format_1_is_fixed() {
        assert_eq!(String::from_utf8(progress().encode()).unwrap(), GOLDEN);
        assert_eq!(Progress::decode(GOLDEN.as_bytes()).unwrap(), progress());
    }

    #[test]
    fn what_a_newer_worker_adds_is_passed_over() {
        let newer = GOLDEN.replace(r#""floor""#, r#""added":{"x":[1]},"floor""#).replace(r#""topic""#, r#""new":1,"topic""#);
        assert_eq!(Progress::decode(newer.as_bytes()).unwrap(), progress());
    }

    #[test]
    fn what_an_older_worker_wrote_is_read_without_what_it_did_not_know() {
        let older = GOLDEN.replace(r#","confirmed":{"next_offset":40,"appended_at":1699999999999,"fingerprint":5}"#, "");
        let older = older.replace(r#","topic_id":"6iBSLQx0QYqYHOFGYxkNeA""#, "").replace(r#","since":1600000000000"#, "");
        let older = older.replace(r#","incomplete":[{"topic":"us.vector-cdc","from":5,"until":9}],"resync_from":"us""#, "");
        let mut expected = progress();
        expected.sources[0].confirmed = None;
        expected.sources[0].topic_id = None;
        expected.sources[0].since = None;
        (expected.incomplete, expected.resync_from) = (Vec::new(), None);
        assert_eq!(Progress::decode(older.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn other_formats_and_damage_are_told_apart() {
        assert!(matches!(Progress::decode(b""), Err(ProgressError::Empty)));
        assert!(matches!(Progress::decode(b"\x02{}"), Err(ProgressError::UnknownFormat(2))));
        assert!(matches!(Progress::decode(&GOLDEN.as_bytes()[..40]), Err(ProgressError::Damaged(_))));
    }
}

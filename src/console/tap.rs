//! Hears of dead letters and conflicts where they are appended. It costs a comparison of names for each append, and for
//! those two a copy of the headers and one try at a bounded queue: what finds it full is counted, not waited for.

use crate::base::ids::Region;
use crate::port::log::{Ack, Append, AppendRefused, Appender};
use crate::record::headers;
use crate::record::raw::RawHeader;
use crate::store::entry::parse_version_text;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Between two looks.
const QUEUE_MAX: usize = 256;
/// Shown of each kind.
const KEPT_MAX: usize = 30;
/// Of a key or a detail.
const SHOWN_CHARS_MAX: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DeadLetter,
    Conflict,
}

struct Heard {
    kind: Kind,
    region: Region,
    key: Option<Bytes>,
    headers: Vec<RawHeader>,
}

/// Where taps tell what they hear; one for a process.
#[derive(Clone)]
pub struct Ear {
    queue: Sender<Heard>,
    missed: Arc<AtomicU64>,
}

/// The other end, which the console looks into.
pub struct Inbox {
    queue: Receiver<Heard>,
    missed: Arc<AtomicU64>,
}

pub fn channel() -> (Ear, Inbox) {
    let (sender, receiver) = bounded(QUEUE_MAX);
    let missed = Arc::new(AtomicU64::new(0));
    (Ear { queue: sender, missed: missed.clone() }, Inbox { queue: receiver, missed })
}

/// An appender that listens to what goes through it.
pub struct Tap {
    inner: Box<dyn Appender>,
    ear: Ear,
    region: Region,
    dead_letter: Arc<str>,
    conflicts: Arc<str>,
}

impl Tap {
    pub fn new(inner: Box<dyn Appender>, ear: Ear, region: Region, dead_letter: Arc<str>, conflicts: Arc<str>) -> Self {
        Self { inner, ear, region, dead_letter, conflicts }
    }

    fn kind(&self, append: &Append) -> Option<Kind> {
        match &append.to.topic {
            topic if *topic == self.dead_letter => Some(Kind::DeadLetter),
            topic if *topic == self.conflicts => Some(Kind::Conflict),
            _ => None,
        }
    }
}

impl Appender for Tap {
    fn append(&mut self, append: Append, token: u64) -> Result<(), AppendRefused> {
        let Some(kind) = self.kind(&append) else { return self.inner.append(append, token) };
        let (key, headers) = (append.key.clone(), append.headers.to_vec());
        self.inner.append(append, token)?;
        if self.ear.queue.try_send(Heard { kind, region: self.region.clone(), key, headers }).is_err() {
            self.ear.missed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        self.inner.poll_acks(acks);
    }
}

/// A change that was kept instead of applied, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// When the console heard of it, in Unix ms.
    pub at_ms: i64,
    /// Where it was judged.
    pub region: String,
    pub key: String,
    /// Where the record was read.
    pub topic: String,
    pub partition: String,
    pub offset: String,
    pub reason: String,
    pub detail: String,
    /// The node that judged it.
    pub stage: String,
    /// Of a conflict: the region whose change won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
}

/// The newest of each kind, newest first.
#[derive(Default, Serialize)]
pub struct Recent {
    pub dead_letters: VecDeque<Kept>,
    pub conflicts: VecDeque<Kept>,
    /// Heard of while the queue was full: only counted.
    pub missed: u64,
}

impl Recent {
    pub fn take(&mut self, inbox: &Inbox, now_ms: i64) {
        for heard in inbox.queue.try_iter() {
            let kept = match heard.kind {
                Kind::DeadLetter => &mut self.dead_letters,
                Kind::Conflict => &mut self.conflicts,
            };
            kept.push_front(shown(&heard, now_ms));
            kept.truncate(KEPT_MAX);
        }
        self.missed = inbox.missed.load(Ordering::Relaxed);
    }
}

fn shown(heard: &Heard, at_ms: i64) -> Kept {
    // Ours come last: the record's own producer may have used the same names.
    let header = |name: &str| {
        let found = heard.headers.iter().rev().find(|(header, _)| &**header == name);
        found.and_then(|(_, value)| value.as_deref()).map(text).unwrap_or_default()
    };
    let winner = parse_version_text(&header(headers::WINNER)).map(|version| version.origin.to_string());
    Kept {
        at_ms,
        region: heard.region.to_string(),
        key: heard.key.as_deref().map(text).unwrap_or_default(),
        topic: header(headers::TOPIC),
        partition: header(headers::PARTITION),
        offset: header(headers::OFFSET),
        reason: header(headers::REASON),
        detail: header(headers::DETAIL),
        stage: header(headers::STAGE),
        winner,
    }
}

/// Whatever the bytes are; the page shows it as text and nothing else.
fn text(bytes: &[u8]) -> String {
    let whole = String::from_utf8_lossy(bytes);
    let mut shown: String = whole.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < whole.len() {
        shown.push('…');
    }
    shown
}

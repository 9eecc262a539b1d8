//! Dead letters: what could not be applied, read back with where it came from and why; and offered again
//! ([`replay`]).

pub mod replay;
pub mod superseded;

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::base::time::UnixMs;
use crate::ops::scan::scan;
use crate::port::log::LogReader;
use crate::record::headers;
use crate::record::raw::RawRecord;
use crate::record::reason::Reason;
use std::collections::VecDeque;
use std::sync::Arc;

/// One record of the dead-letter topic.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Where it lies in the dead-letter topic; `appended_at` is when it was put there.
    pub record: RawRecord,
    pub reason: String,
    pub detail: String,
    pub stage: String,
    /// Where it was read from.
    pub source: TopicPartition,
    pub source_offset: i64,
    /// A: when the origin's broker took it.
    pub appended_at: UnixMs,
}

impl DeadLetter {
    /// `None`: it isn't one of ours (somebody else wrote to the topic).
    pub fn read(record: RawRecord) -> Option<Self> {
        let text = |name: &str| record.header_text(name);
        let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
        let partition = i32::try_from(number(headers::PARTITION)?).ok()?;
        let (reason, topic) = (text(headers::REASON)?.to_owned(), Arc::<str>::from(text(headers::TOPIC)?));
        let (source_offset, appended_at) = (number(headers::OFFSET)?, UnixMs(number(headers::APPENDED_AT)?));
        let (detail, stage) = (text(headers::DETAIL).unwrap_or("").to_owned(), text(headers::STAGE).unwrap_or("").to_owned());
        let source = TopicPartition::new(topic, partition);
        Some(Self { reason, detail, stage, source, source_offset, appended_at, record })
    }

    pub fn key_text(&self) -> String {
        self.record.key.as_ref().map_or(String::new(), |key| String::from_utf8_lossy(key).into_owned())
    }
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these; none means all.
    pub reasons: Vec<Reason>,
    /// Any of these places in the dead-letter topic; none means all.
    pub places: Vec<(i32, i64)>,
    /// Only the newest ones, this many at most.
    pub limit: usize,
    /// Keep the changes themselves; otherwise only what is told of them.
    pub with_values: bool,
}

impl Filter {
    fn takes(&self, letter: &DeadLetter) -> bool {
        let place = (letter.record.partition, letter.record.offset);
        let reason = self.reasons.is_empty() || self.reasons.iter().any(|reason| reason.code() == letter.reason);
        reason && (self.places.is_empty() || self.places.contains(&place))
    }
}

/// The newest dead letters that the filter takes, oldest first.
pub fn list(reader: &mut dyn LogReader, topic: &str, filter: &Filter) -> Result<Vec<DeadLetter>> {
    let partitions = reader.partition_count(topic)?;
    let partitions = partitions.ok_or_else(|| {
        Error::refuse(format!("there is no topic {topic}; run `driftless topics create` with this configuration"))
    })?;
    let mut letters = Vec::new();
    for number in 0..partitions {
        let mut newest: VecDeque<DeadLetter> = VecDeque::new();
        scan(reader, &TopicPartition::new(topic, number), 0, &mut |record| {
            if let Some(mut letter) = DeadLetter::read(record).filter(|letter| filter.takes(letter)) {
                if !filter.with_values {
                    letter.record.value = None;
                }
                newest.push_back(letter);
                if newest.len() > filter.limit {
                    newest.pop_front();
                }
            }
        })?;
        letters.extend(newest);
    }
    letters.sort_by_key(|letter| (letter.record.appended_at, letter.record.partition, letter.record.offset));
    let surplus = letters.len().saturating_sub(filter.limit);
    letters.drain(..surplus);
    Ok(letters)
}

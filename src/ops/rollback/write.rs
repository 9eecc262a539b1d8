//! Doing what the plan says.

use super::plan::{PartitionPlan, Plan, Restore};
use super::{Scribe, Written, bytes_of};
use crate::base::error::{Error, Result};
use crate::base::ids::{RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::ops::append::AppendStream;
use crate::ops::history::{History, Setting};
use crate::ops::work::Work;
use crate::port::log::Appender;
use crate::record::change::Body;
use crate::record::decode::decode_body;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// After `last_instant` nothing is appended with this stamp any more.
    OutOfTime,
}

/// Every append is acknowledged when it returns, in whatever way it ends.
pub fn carry_out(
    plan: &Plan,
    scribe: &Scribe,
    history: &mut History<'_>,
    appender: &mut dyn Appender,
    work: &mut Work<'_>,
    last_instant: UnixMs,
) -> Result<(Written, Ended)> {
    let setting = history.setting;
    work.begin("writing", "rows", plan.rows());
    let stream = AppendStream::new(appender);
    let mut writing = Writing { setting, scribe, stream, last_instant, out_of_time: false, written: Written::default() };
    let outcome = writing.all(plan, history, work);
    let (written, out_of_time) = (writing.written, writing.out_of_time);
    writing.stream.finish()?;
    work.end();
    match outcome {
        Err(_) if out_of_time => Ok((written, Ended::OutOfTime)),
        outcome => outcome.map(|()| (written, Ended::Done)),
    }
}

struct Writing<'a> {
    setting: &'a Setting,
    scribe: &'a Scribe,
    stream: AppendStream<'a>,
    last_instant: UnixMs,
    out_of_time: bool,
    written: Written,
}

impl Writing<'_> {
    fn all(&mut self, plan: &Plan, history: &mut History<'_>, work: &mut Work<'_>) -> Result<()> {
        for part in &plan.partitions {
            for key in &part.deletes {
                self.write(part.shard, key, None, work)?;
                self.written.deleted += 1;
            }
            for restores in part.restores.chunk_by(|one, other| one.at.topic == other.at.topic) {
                self.restore(part, restores, history, work)?;
            }
        }
        Ok(())
    }

    /// All of one topic's partition.
    fn restore(
        &mut self,
        part: &PartitionPlan,
        restores: &[Restore],
        history: &mut History<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let topic = &part.topics[restores[0].at.topic];
        let partition = TopicPartition::new(topic.name().clone(), part.partition);
        let offsets: Vec<i64> = restores.iter().map(|restore| restore.at.offset).collect();
        let (mut next, setting) = (restores.iter(), self.setting);
        history.fetch(&partition, &offsets, work, &mut |schemas, work, record| {
            let offset = record.offset;
            let said = topic.statement(setting, schemas, record)?;
            let change = next.next().and_then(|restore| {
                let same = said.filter(|said| said.key == restore.key && said.version == restore.version)?;
                same.change
            });
            let body = change.as_ref().and_then(|change| decode_body(change).ok());
            let (Some(change), Some(body)) = (change, body) else {
                return Err(Error::refuse(format!(
                    "{partition} offset {offset} is not what it was when this was planned; run the command again"
                )));
            };
            self.write(part.shard, &change.key, Some(&body), work)?;
            self.written.restored += 1;
            Ok(())
        })
    }

    fn write(&mut self, shard: u16, key: &RowKey, body: Option<&Body>, work: &mut Work<'_>) -> Result<()> {
        if work.now() > self.last_instant {
            self.out_of_time = true;
            return Err(Error::retry("out of time"));
        }
        let append = self.scribe.compensation(self.setting, shard, key, body);
        let bytes = bytes_of(&append);
        self.stream.push(append)?;
        self.written.bytes += bytes;
        work.advance(1)
    }
}

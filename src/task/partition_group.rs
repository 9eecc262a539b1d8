//! What a task has been given and not yet processed: one queue a source, drawn from in append order.

use crate::base::time::UnixMs;
use crate::record::raw::RawRecord;
use std::collections::VecDeque;

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<RawRecord>,
    bytes: usize,
    /// Its head waits for a writer schema; the other sources go on.
    blocked: bool,
}

#[derive(Debug)]
pub struct PartitionGroup {
    queues: Vec<Queue>,
    /// Of each queue: a source that can't go on takes no room from the others.
    queue_bytes_max: usize,
}

/// What a record takes, with all that is kept beside its content.
fn size(record: &RawRecord) -> usize {
    record.bytes() + size_of::<RawRecord>()
}

impl PartitionGroup {
    pub fn new(sources: usize, bytes_max: usize) -> Self {
        Self { queues: (0..sources).map(|_| Queue::default()).collect(), queue_bytes_max: bytes_max / sources.max(1) }
    }

    pub fn push(&mut self, source: usize, record: RawRecord) {
        let queue = &mut self.queues[source];
        queue.bytes += size(&record);
        queue.records.push_back(record);
    }

    /// Takes the record with the earliest append time among the heads, as Kafka Streams does: no source
    /// waits for another, but where several have records they are taken in the order of their clocks.
    pub fn pop(&mut self) -> Option<(usize, RawRecord)> {
        let mut first: Option<(usize, UnixMs)> = None;
        for (source, queue) in self.queues.iter().enumerate() {
            let Some(head) = queue.records.front().filter(|_| !queue.blocked) else { continue };
            if first.is_none_or(|(_, at)| head.appended_at < at) {
                first = Some((source, head.appended_at));
            }
        }
        let (source, _) = first?;
        let queue = &mut self.queues[source];
        let record = queue.records.pop_front()?;
        queue.bytes -= size(&record);
        Some((source, record))
    }

    /// Puts back a record that cannot be read yet; its source waits until [`PartitionGroup::unblock`].
    pub fn block(&mut self, source: usize, record: RawRecord) {
        let queue = &mut self.queues[source];
        queue.bytes += size(&record);
        queue.records.push_front(record);
        queue.blocked = true;
    }

    pub fn unblock(&mut self) {
        for queue in &mut self.queues {
            queue.blocked = false;
        }
    }

    pub fn is_blocked(&self, source: usize) -> bool {
        self.queues[source].blocked
    }

    /// Drops what is buffered of one source (it is fetched again from another offset).
    pub fn clear(&mut self, source: usize) {
        self.queues[source] = Queue::default();
    }

    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.records.is_empty())
    }

    /// **A** of a source's oldest record.
    pub fn oldest(&self, source: usize) -> Option<UnixMs> {
        self.queues[source].records.front().map(|record| record.appended_at)
    }

    pub fn bytes(&self) -> usize {
        self.queues.iter().map(|queue| queue.bytes).sum()
    }

    /// At its limit: nothing more is to be polled into it (INV-8).
    pub fn is_full(&self, source: usize) -> bool {
        self.queues[source].bytes >= self.queue_bytes_max
    }

    /// Twice its limit: what may be borne while a full source is not paused yet.
    pub fn is_overfull(&self, source: usize) -> bool {
        self.queues[source].bytes >= 2 * self.queue_bytes_max
    }

    pub fn is_half_empty(&self, source: usize) -> bool {
        self.queues[source].bytes <= self.queue_bytes_max / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(appended_at: i64, value: &'static [u8]) -> RawRecord {
        RawRecord {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            appended_at: UnixMs(appended_at),
            key: None,
            value: Some(bytes::Bytes::from_static(value)),
            headers: Vec::new(),
        }
    }

    #[test]
    fn sources_are_drawn_from_in_append_order_and_a_blocked_one_is_passed_over() {
        let mut group = PartitionGroup::new(2, 8);
        group.push(0, record(20, b"b"));
        group.push(1, record(10, b"a"));
        group.push(1, record(30, b"c"));
        let (source, first) = group.pop().expect("three records are there");
        assert_eq!((source, first.appended_at), (1, UnixMs(10)));
        group.block(1, first);
        assert_eq!(group.pop().map(|(source, record)| (source, record.appended_at)), Some((0, UnixMs(20))));
        assert!(group.pop().is_none() && !group.is_empty() && group.is_blocked(1));
        group.unblock();
        assert_eq!(group.pop().map(|(source, _)| source), Some(1));
    }

    #[test]
    fn each_source_has_a_limit_of_its_own() {
        let one = size(&record(1, b"1234"));
        let mut group = PartitionGroup::new(2, 4 * one);
        group.push(0, record(1, b"1234"));
        group.push(0, record(2, b"1234"));
        assert!(group.is_full(0) && !group.is_overfull(0) && !group.is_full(1));
        assert_eq!(group.bytes(), 2 * one);
        group.pop();
        assert!(group.is_half_empty(0));
        group.clear(0);
        assert_eq!(group.bytes(), 0);
    }
}

//! A member of the consumer group.

use super::assignment::{Assignment, Plan, Subscription};
use super::error::FaultTeller;
use super::native::Copier;
use super::rebalance::{GroupContext, Notice, polled_error, unassign_all};
use super::revival::Revival;
use super::settings::{KafkaSettings, unusable};
use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::port::log::{GroupConsumer, LogEvent, Wake};
use crossbeam_channel::bounded;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::time::{Duration, Instant};

/// What is left of a session time-out is better spent by the group on a new assignment.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

pub struct KafkaGroupConsumer {
    /// None after `leave`.
    consumer: Option<BaseConsumer<GroupContext>>,
    assignment: Assignment,
    copier: Copier,
    teller: FaultTeller,
    notices: Vec<Notice>,
    revival: Revival,
    wake: Wake,
}

impl KafkaGroupConsumer {
    /// Joins the group. `wake` is called from librdkafka's threads when there is something to poll.
    pub fn new(settings: &KafkaSettings, subscriptions: &[Subscription], wake: Wake) -> Result<Self> {
        let mut consumer: BaseConsumer<GroupContext> =
            settings.group_consumer()?.create_with_context(GroupContext::default()).map_err(|error| unusable(&error))?;
        let on_nonempty = wake.clone();
        consumer.set_nonempty_callback(move || on_nonempty());
        let topics: Vec<&str> = subscriptions.iter().map(|subscription| &*subscription.local).collect();
        consumer
            .subscribe(&topics)
            .map_err(|error| Error::refuse(format!("can't subscribe to {}: {error}", topics.join(", "))))?;
        Ok(Self {
            consumer: Some(consumer),
            assignment: Assignment::new(subscriptions),
            copier: Copier::default(),
            teller: FaultTeller::default(),
            notices: Vec::new(),
            revival: settings.revival()?,
            wake,
        })
    }

    /// Makes librdkafka fetch what is wanted.
    fn settle(&mut self, events: &mut Vec<LogEvent>) {
        let (Some(consumer), Some(plan)) = (&self.consumer, self.assignment.plan()) else { return };
        if let Err(error) = carry_out(consumer, &mut self.assignment, &plan) {
            let error = Error::retry(format!("partitions can't be fetched yet: {error}; it is tried again"));
            let told = self.teller.tell(RDKafkaErrorCode::InProgress, error, Instant::now());
            events.extend(told.map(LogEvent::Fault));
        }
    }

    /// Turns what the callbacks noted into events. True if there may be more in the queue.
    fn take_notices(&mut self, events: &mut Vec<LogEvent>) -> bool {
        let Some(consumer) = &self.consumer else { return false };
        let served = consumer.context().take(&mut self.notices);
        for notice in self.notices.drain(..) {
            match notice {
                Notice::Assigned(partitions) => {
                    self.assignment.assigned(&partitions);
                    events.push(LogEvent::Assigned(partitions));
                }
                Notice::Revoked { partitions, lost } => {
                    self.assignment.revoked(&partitions);
                    events.push(if lost { LogEvent::Lost(partitions) } else { LogEvent::Revoked(partitions) });
                }
                Notice::Stopped(stopped) => {
                    events.extend(self.assignment.stopped(&stopped).into_iter().map(LogEvent::OffsetOutOfRange));
                }
                Notice::Fault(error) => events.push(LogEvent::Fault(error)),
            }
        }
        served
    }

    fn tell(&mut self, error: &KafkaError, events: &mut Vec<LogEvent>) {
        let Some(consumer) = &self.consumer else { return };
        let (code, error) = polled_error(consumer, error);
        self.revival.look(code == RDKafkaErrorCode::AllBrokersDown, consumer.client());
        // The partition is named by its own event, once the statistics have shown which it is.
        if code != RDKafkaErrorCode::AutoOffsetReset {
            events.extend(self.teller.tell(code, error, Instant::now()).map(LogEvent::Fault));
        }
    }
}

impl GroupConsumer for KafkaGroupConsumer {
    fn poll(&mut self, max: usize, events: &mut Vec<LogEvent>) {
        let limit = events.len() + max;
        if let Some(consumer) = &self.consumer {
            self.revival.look(false, consumer.client());
        }
        self.settle(events);
        while events.len() < limit {
            let Some(consumer) = &self.consumer else { return };
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    if let Some(topic) = self.assignment.accept(message.topic(), message.partition(), message.offset()) {
                        events.push(LogEvent::Record(self.copier.copy(&message, topic)));
                    }
                }
                Some(Err(error)) => self.tell(&error, events),
                // Also what a poll returns that served a callback: the queue is empty only if it served none.
                None => {
                    if !self.take_notices(events) {
                        return;
                    }
                }
            }
        }
        self.take_notices(events);
        // The queue does not become non-empty again if it never was empty.
        (self.wake)();
    }

    fn fetch_from(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.assignment.fetch_from(partition, offset)?;
        (self.wake)();
        Ok(())
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.assignment.stop_fetching(partitions);
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if !self.assignment.release(partitions) {
            return Ok(());
        }
        let Some(consumer) = &self.consumer else { return Ok(()) };
        answer_revocation(consumer, &mut self.assignment)
            .map_err(|error| Error::fatal(format!("partitions can't be given up: {error}; restart the worker")))
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.assignment.set_paused(partitions, true);
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.assignment.set_paused(partitions, false);
        (self.wake)();
        Ok(())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        let Some(consumer) = &self.consumer else { return };
        // librdkafka answers the refused commit of one that is no member (yet) by leaving and joining once more: with a
        // commit every moment the group would never settle.
        let ours: Vec<_> = offsets.iter().filter(|(partition, _)| self.assignment.owns(partition)).cloned().collect();
        if ours.is_empty() {
            return;
        }
        let committed = list_at(&ours).and_then(|list| consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            tracing::debug!(%error, "offsets were not committed; the progress record rules");
        }
    }

    /// Blocks until the group is left: a round trip, or a few seconds if no broker answers.
    fn leave(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        consumer.context().set_closing();
        if self.assignment.revocation_pending()
            && let Err(error) = unassign_all(&consumer)
        {
            tracing::warn!(%error, "the group's revocation could not be answered; leaving takes the session time-out");
        }
        close_within(consumer, LEAVE_PATIENCE);
    }
}

impl Drop for KafkaGroupConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Closes on a thread of its own, which is left behind if a broker keeps silent: librdkafka waits for the answer to
/// its last commit and to LeaveGroup for minutes, and the group finds out by the session time-out anyway.
fn close_within(consumer: BaseConsumer<GroupContext>, patience: Duration) {
    let (done, closed) = bounded(1);
    std::thread::spawn(move || {
        drop(consumer);
        // Nobody waits any more if it took too long.
        let _ = done.send(());
    });
    if closed.recv_timeout(patience).is_err() {
        tracing::warn!("no broker answered: the group is not left in order and finds out by the session time-out");
    }
}

fn carry_out(consumer: &BaseConsumer<GroupContext>, assignment: &mut Assignment, plan: &Plan) -> KafkaResult<()> {
    if !plan.resume.is_empty() {
        consumer.resume(&list(&plan.resume))?;
    }
    if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
        if !plan.unassign.is_empty() {
            consumer.incremental_unassign(&list(&plan.unassign))?;
            assignment.set_unassigned(&plan.unassign);
        }
        if !plan.assign.is_empty() {
            consumer.incremental_assign(&list_at(&plan.assign)?)?;
        }
    } else if !plan.unassign.is_empty() || !plan.assign.is_empty() {
        // An eager assignment can only be replaced as a whole.
        consumer.assign(&list_at(&assignment.everything())?)?;
    }
    if !plan.pause.is_empty() {
        consumer.pause(&list(&plan.pause))?;
    }
    assignment.set_settled();
    Ok(())
}

/// Gives up what has been released, even if nothing of it was being fetched: the group waits for this call.
fn answer_revocation(consumer: &BaseConsumer<GroupContext>, assignment: &mut Assignment) -> KafkaResult<()> {
    let plan = assignment.plan().unwrap_or_default();
    if !plan.resume.is_empty() {
        consumer.resume(&list(&plan.resume))?;
    }
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&list(&plan.unassign))?,
        _ => consumer.unassign()?,
    }
    assignment.set_unassigned(&plan.unassign);
    Ok(())
}

fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

fn list_at(offsets: &[(TopicPartition, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

//! An appender to an embedded broker, with every step of a real producer's in a call of its own: a record is
//! queued, written by the next poll, and acknowledged by the one after. A process that ends in between
//! leaves exactly what a real one would.

use super::broker::{Broker, Message};
use crate::base::error::Error;
use crate::port::log::{Ack, Append, AppendRefused, Appender, Wake};
use std::collections::VecDeque;
use std::sync::Arc;

pub struct EmbeddedAppender {
    broker: Arc<Broker>,
    wake: Wake,
    queue_records_max: usize,
    queued: VecDeque<(Append, u64)>,
    written: VecDeque<Ack>,
}

impl EmbeddedAppender {
    /// Holds at most `queue_records_max` records that have not been acknowledged to the caller.
    pub fn new(broker: Arc<Broker>, queue_records_max: usize, wake: Wake) -> Self {
        Self { broker, wake, queue_records_max, queued: VecDeque::new(), written: VecDeque::new() }
    }
}

impl Appender for EmbeddedAppender {
    fn append(&mut self, append: Append, token: u64) -> Result<(), AppendRefused> {
        if self.queued.len() + self.written.len() >= self.queue_records_max {
            return Err(AppendRefused::QueueFull(append.into()));
        }
        self.queued.push_back((append, token));
        (self.wake)();
        Ok(())
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        acks.extend(self.written.drain(..));
        for (append, token) in self.queued.drain(..) {
            let message = Message { key: append.key, value: append.value, headers: append.headers.into_vec(), timestamp: None };
            let outcome = self.broker.append(&append.to, message).map_err(Error::from);
            self.written.push_back(Ack { token, outcome });
        }
        if !self.written.is_empty() {
            (self.wake)();
        }
    }
}

//! Appending records and waiting for every acknowledgement.

use crate::base::error::{Error, Result};
use crate::port::log::{Ack, Append, AppendRefused, Appender, Wake};
use std::sync::Arc;
use std::thread::{self, Thread};

/// Wakes the calling thread, which is the one that then appends.
pub fn wake() -> Wake {
    let caller: Thread = thread::current();
    Arc::new(move || caller.unpark())
}

/// The first failure ends it; what had been appended until then stays.
pub fn all(appender: &mut dyn Appender, appends: Vec<Append>) -> Result<()> {
    let mut stream = AppendStream::new(appender);
    for append in appends {
        stream.push(append)?;
    }
    stream.finish().map(drop)
}

/// Appends one record after the other, as many under way as the appender takes.
pub struct AppendStream<'a> {
    appender: &'a mut dyn Appender,
    sent: u64,
    acknowledged: u64,
    acks: Vec<Ack>,
}

impl<'a> AppendStream<'a> {
    pub fn new(appender: &'a mut dyn Appender) -> Self {
        Self { appender, sent: 0, acknowledged: 0, acks: Vec::new() }
    }

    /// Waits for room.
    pub fn push(&mut self, append: Append) -> Result<()> {
        let mut waiting = append;
        loop {
            match self.appender.append(waiting, self.sent) {
                Ok(()) => {
                    self.sent += 1;
                    return self.take_acks();
                }
                Err(AppendRefused::QueueFull(append)) => waiting = append,
                Err(AppendRefused::Failed(error)) => return Err(self.partly(error)),
            }
            let before = self.acknowledged;
            self.take_acks()?;
            if self.acknowledged == before {
                // An ack that came in since the poll has left its token: then this returns at once.
                thread::park();
            }
        }
    }

    /// Waits for the last acknowledgement; answers with how many there were.
    pub fn finish(mut self) -> Result<u64> {
        loop {
            self.take_acks()?;
            if self.acknowledged == self.sent {
                return Ok(self.acknowledged);
            }
            thread::park();
        }
    }

    fn take_acks(&mut self) -> Result<()> {
        self.appender.poll_acks(&mut self.acks);
        for ack in std::mem::take(&mut self.acks) {
            ack.outcome.map_err(|error| self.partly(error))?;
            self.acknowledged += 1;
        }
        Ok(())
    }

    fn partly(&self, error: Error) -> Error {
        let count = self.acknowledged;
        error.context(format!("{count} were appended, then it failed; do it again, duplicates are harmless"))
    }
}

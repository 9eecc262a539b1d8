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
    answered: u64,
    acknowledged: u64,
    /// The first failure: nothing is appended after it.
    failed: Option<Error>,
    acks: Vec<Ack>,
}

impl<'a> AppendStream<'a> {
    pub fn new(appender: &'a mut dyn Appender) -> Self {
        Self { appender, sent: 0, answered: 0, acknowledged: 0, failed: None, acks: Vec::new() }
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
                Err(AppendRefused::QueueFull(append)) => waiting = *append,
                Err(AppendRefused::Failed(error)) => return Err(self.partly(error)),
            }
            let before = self.answered;
            self.take_acks()?;
            if self.answered == before {
                // An ack that came in since the poll has left its token: then this returns at once.
                thread::park();
            }
        }
    }

    /// Waits until the fate of every append is known, after a failure too; answers with how many there were.
    pub fn finish(mut self) -> Result<u64> {
        loop {
            let outcome = self.take_acks();
            if self.answered == self.sent {
                return outcome.map(|()| self.acknowledged);
            }
            thread::park();
        }
    }

    fn take_acks(&mut self) -> Result<()> {
        self.appender.poll_acks(&mut self.acks);
        for ack in self.acks.drain(..) {
            self.answered += 1;
            match ack.outcome {
                Ok(_) => self.acknowledged += 1,
                Err(error) => _ = self.failed.get_or_insert(error),
            }
        }
        match &self.failed {
            Some(error) => Err(self.partly(error.clone())),
            None => Ok(()),
        }
    }

    fn partly(&self, error: Error) -> Error {
        let count = self.acknowledged;
        error.context(format!("{count} were appended, then it failed; do it again, duplicates are harmless"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicPartition;
    use crate::record::raw::Headers;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Answers one append with each poll, but the first; the first of them has failed.
    #[derive(Default)]
    struct Failing {
        polls: u64,
        tokens: Vec<u64>,
    }

    impl Appender for Failing {
        fn append(&mut self, _append: Append, token: u64) -> std::result::Result<(), AppendRefused> {
            self.tokens.push(token);
            Ok(())
        }

        fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
            self.polls += 1;
            if self.polls > 1 && !self.tokens.is_empty() {
                let token = self.tokens.remove(0);
                let outcome = if token == 0 { Err(Error::retry("the leader is gone")) } else { Ok(7) };
                acks.push(Ack { token, outcome });
                thread::current().unpark();
            }
        }
    }

    #[test]
    fn after_a_failure_the_fate_of_the_rest_is_waited_for_and_the_failure_is_told() {
        let (ended, outcome) = mpsc::channel();
        thread::spawn(move || {
            let mut appender = Failing::default();
            let mut stream = AppendStream::new(&mut appender);
            let append = || Append { to: TopicPartition::new("t", 0), key: None, value: None, headers: Headers::new() };
            let pushed = [stream.push(append()).is_ok(), stream.push(append()).is_ok()];
            thread::current().unpark();
            let finished = stream.finish();
            _ = ended.send((pushed, finished.map_err(|error| error.to_string()), appender.tokens.len()));
        });
        let (pushed, finished, left) = outcome.recv_timeout(Duration::from_secs(20)).expect("it waits for ever");
        assert_eq!((pushed, left), ([true, false], 0));
        let error = finished.unwrap_err();
        assert!(error.contains("1 were appended, then it failed") && error.contains("the leader is gone"), "{error}");
    }
}

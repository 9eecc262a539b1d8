//! Appending a list of records and waiting for every acknowledgement.

use crate::base::error::{Error, Result};
use crate::port::log::{Append, AppendRefused, Appender, Wake};
use std::sync::Arc;
use std::thread::{self, Thread};

/// Wakes the calling thread, which is the one that then calls [`all`].
pub fn wake() -> Wake {
    let caller: Thread = thread::current();
    Arc::new(move || caller.unpark())
}

/// The first failure ends it; what had been appended until then stays.
pub fn all(appender: &mut dyn Appender, appends: Vec<Append>) -> Result<()> {
    let mut acks = Vec::new();
    let (mut sent, mut acknowledged) = (0u64, 0u64);
    let mut waiting = appends.into_iter().rev().collect::<Vec<_>>();
    loop {
        while let Some(append) = waiting.pop() {
            match appender.append(append, sent) {
                Ok(()) => sent += 1,
                Err(AppendRefused::QueueFull(append)) => {
                    waiting.push(append);
                    break;
                }
                Err(AppendRefused::Failed(error)) => return Err(partly(error, acknowledged)),
            }
        }
        appender.poll_acks(&mut acks);
        for ack in acks.drain(..) {
            ack.outcome.map_err(|error| partly(error, acknowledged))?;
            acknowledged += 1;
        }
        if waiting.is_empty() && acknowledged == sent {
            return Ok(());
        }
        // An ack that came in since the poll has left its token: then this returns at once.
        thread::park();
    }
}

fn partly(error: Error, acknowledged: u64) -> Error {
    error.context(format!("{acknowledged} were appended, then it failed; do it again, duplicates are harmless"))
}

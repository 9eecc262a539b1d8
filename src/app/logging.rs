//! Logs, to standard error: for people, or as JSON lines. Owns who may write there while a page is shown.

use crate::base::error::{Error, Result};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line an event, coloured on a terminal
    Human,
    /// One JSON object an event
    Json,
}

/// `level` is a level, or levels by module (`info,driftless::stream=debug`). Once in a process.
pub fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Error::refuse(format!("--log-level {level}: {error}; write error, warn, info, debug or trace, or \"info,MODULE=debug\""))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogWriter);
    let started = match format {
        LogFormat::Human => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Error::fatal(format!("logging cannot be started: {error}")))
}

/// What is held back at most; the first lines tell most.
const HELD_BYTES_MAX: usize = 256 << 10;

#[derive(Default)]
struct HeldBack {
    bytes: Vec<u8>,
    /// Events for which there was no room.
    more: usize,
}

/// There is one standard error in a process, and so one of this.
static HELD_BACK: Mutex<Option<HeldBack>> = Mutex::new(None);

fn held_back() -> MutexGuard<'static, Option<HeldBack>> {
    HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is logged off the terminal, until the answer is dropped: then it is written.
pub fn hold() -> Hold {
    *held_back() = Some(HeldBack::default());
    Hold
}

#[must_use]
pub struct Hold;

impl Drop for Hold {
    /// What standard error does not take any more can't be told to anybody.
    fn drop(&mut self) {
        let Some(held) = held_back().take() else { return };
        let mut out = io::stderr().lock();
        let _ = out.write_all(&held.bytes);
        if held.more > 0 {
            let _ = writeln!(out, "({} more events were logged meanwhile; --json shows them as they come)", held.more);
        }
    }
}

/// Takes one event at a time, as the subscriber formats them.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match held_back().as_mut() {
            None => return io::stderr().write(event),
            Some(held) if held.bytes.len() + event.len() > HELD_BYTES_MAX => held.more += 1,
            Some(held) => held.bytes.extend_from_slice(event),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_while_a_page_is_shown_is_kept_up_to_a_limit() {
        let hold = hold();
        let event = vec![b'x'; HELD_BYTES_MAX / 2];
        for _ in 0..3 {
            LogWriter.write_all(&event).expect("it is kept");
        }
        let (bytes, more) = held_back().as_ref().map(|held| (held.bytes.len(), held.more)).expect("held");
        assert_eq!((bytes, more), (HELD_BYTES_MAX, 1));
        // What was kept is written at the end: nothing of it here.
        *held_back() = None;
        drop(hold);
    }
}

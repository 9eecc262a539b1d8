//! Logs, to standard error: for people, or as JSON lines.

use crate::base::error::{Error, Result};
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
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_ansi(colours).try_init()
        }
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Error::fatal(format!("logging cannot be started: {error}")))
}

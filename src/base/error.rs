//! Errors, classed by what cures them (after Kafka Streams' TaskCorrupted, TaskMigrated and kin).
//!
//! A module has its own precise error type; at a layer's boundary it becomes [`Error`], which adds the
//! remedy. Whoever handles an error looks at the remedy alone; whoever reads it looks at the message.

use std::fmt;

/// What to do about an error. The one place that acts on it is `stream::StreamThread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A passing fault: the same call later.
    Retry,
    /// The record cannot be applied: dead-letter it and go on.
    Skip,
    /// What is held in memory can't be trusted: close the task dirty and restore it from its changelogs.
    Restore,
    /// Another member owns it now: let go without a commit and wait for the next assignment.
    Rejoin,
    /// The configuration or the cluster is not as it must be: say so and do not start.
    Refuse,
    /// Nothing of the above: end the process with a non-zero code.
    Fatal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub remedy: Remedy,
    message: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(remedy: Remedy, message: impl fmt::Display) -> Self {
        Self { remedy, message: message.to_string() }
    }

    pub fn retry(message: impl fmt::Display) -> Self {
        Self::new(Remedy::Retry, message)
    }

    pub fn restore(message: impl fmt::Display) -> Self {
        Self::new(Remedy::Restore, message)
    }

    pub fn refuse(message: impl fmt::Display) -> Self {
        Self::new(Remedy::Refuse, message)
    }

    pub fn fatal(message: impl fmt::Display) -> Self {
        Self::new(Remedy::Fatal, message)
    }

    /// Puts what was being done before the message: `context: message`.
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { remedy: self.remedy, message: format!("{context}: {}", self.message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

//! One thing that was looked at: how it is, and what to do if it isn't as it should be.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works, but not as well or as safely as it could.
    Warn,
    /// A worker will not start with it, or would do wrong.
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was looked at: `topic us.vector-cdc`.
    pub subject: String,
    pub message: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

impl Finding {
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), message: message.into(), remedy: String::new() }
    }

    pub fn warn(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, subject: subject.into(), message: message.into(), remedy: remedy.into() }
    }

    pub fn fail(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, subject: subject.into(), message: message.into(), remedy: remedy.into() }
    }
}

/// The worst level among the findings.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

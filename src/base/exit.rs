//! What the process ends with.

use crate::base::error::{Error, Remedy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const DONE: Exit = Exit(0);
    pub const FAILED: Exit = Exit(1);
    /// Wrong usage or configuration.
    pub const WRONG: Exit = Exit(2);
    /// Not converged, or differences found.
    pub const DIFFERENT: Exit = Exit(3);
    pub const INTERRUPTED: Exit = Exit(130);

    pub fn of(error: &Error) -> Self {
        if error.remedy == Remedy::Refuse { Self::WRONG } else { Self::FAILED }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

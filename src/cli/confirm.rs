//! A question before something is done that is not undone as easily.

use crate::base::error::{Error, Result};
use std::io::IsTerminal;

/// Goes on only with a yes: `--yes`, or the answer of whoever sits at the terminal.
pub fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::refuse("nobody can be asked without a terminal; add --yes to go on, or --dry-run to only see"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Error::fatal(format!("no answer: {error}")))?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(Error::retry("nothing was done")) }
}

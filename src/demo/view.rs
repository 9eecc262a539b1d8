//! What the user sees while the demo runs: a live page on a terminal, a line now and then anywhere else.
//! Both go to standard error; standard output is the result's.

mod lines;
mod page;

use super::DemoOptions;
use super::status::Snapshot;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How often the run is looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(150);

pub(super) enum View {
    Page(page::Page),
    Lines(lines::Lines),
}

/// Will the run be shown as a live page? It has the terminal for itself then: nothing else may write there.
pub fn is_page(options: &DemoOptions) -> bool {
    !options.json && io::stderr().is_terminal()
}

impl View {
    pub fn open(options: &DemoOptions) -> io::Result<Self> {
        if is_page(options) { Ok(View::Page(page::Page::open()?)) } else { Ok(View::Lines(lines::Lines::default())) }
    }

    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        match self {
            View::Page(page) => page.draw(snapshot),
            View::Lines(lines) => lines.print(snapshot),
        }
    }

    /// Has the user asked to end by a key? (A terminal in raw mode sends no signal.)
    pub fn wants_end(&mut self) -> io::Result<bool> {
        match self {
            View::Page(_) => page::end_key_pressed(),
            View::Lines(_) => Ok(false),
        }
    }
}

/// `us→eu`.
fn pair_name(snapshot: &Snapshot, from: usize, to: usize) -> String {
    format!("{}→{}", snapshot.regions[from].name, snapshot.regions[to].name)
}

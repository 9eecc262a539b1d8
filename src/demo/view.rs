//! What the user sees while the demo runs: a live page on a terminal, a line now and then anywhere else.
//! Both go to standard error; standard output is the result's.

mod lines;
mod page;

use super::status::Snapshot;
use std::io::{self, IsTerminal};
use std::time::Duration;

pub(super) enum View {
    Page(page::Page),
    Lines(lines::Lines),
}

impl View {
    /// The page, where there is a terminal to show it on and nobody has asked for `lines`.
    pub fn open(lines: bool) -> io::Result<Self> {
        if lines || !io::stderr().is_terminal() {
            Ok(View::Lines(lines::Lines::default()))
        } else {
            Ok(View::Page(page::Page::open()?))
        }
    }

    pub fn interval(&self) -> Duration {
        match self {
            View::Page(_) => Duration::from_millis(150),
            View::Lines(_) => Duration::from_secs(1),
        }
    }

    /// Events that a snapshot for this view should hold.
    pub fn events_max(&self) -> usize {
        match self {
            View::Page(_) => page::EVENTS_MAX,
            View::Lines(_) => usize::MAX,
        }
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

//! The live page: progress, lag by pair of regions, what each region's worker does, what happened.

use crate::demo::board::Incident;
use crate::demo::status::{RegionStatus, Snapshot};
use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Table};
use std::io::{self, Stderr};
use std::time::Duration;

pub(in crate::demo) const EVENTS_MAX: usize = 4;

/// From here on a lag is shown as something to look at.
const LAG_MS_NOTABLE: i64 = 300;
const LAG_COLUMN: u16 = 12;
/// Heads and widths of a worker's numbers; with the region's name they fit into 80 columns.
const NUMBERS: [(&str, u16); 7] =
    [("applied/s", 9), ("applied", 8), ("duplicates", 10), ("stale", 7), ("conflicts", 9), ("dead letters", 12), ("rows", 7)];

pub(in crate::demo) struct Page {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

impl Page {
    pub fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let mut page = Self { terminal: Terminal::new(CrosstermBackend::new(io::stderr()))? };
        execute!(page.terminal.backend_mut(), EnterAlternateScreen)?;
        Ok(page)
    }

    pub fn draw(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, snapshot))?;
        Ok(())
    }
}

impl Drop for Page {
    /// The user's terminal is given back whatever ended the run; what fails here can't be mended or told.
    fn drop(&mut self) {
        let _ = disable_raw_mode();
        let _ = execute!(self.terminal.backend_mut(), LeaveAlternateScreen);
        let _ = self.terminal.backend_mut().show_cursor();
    }
}

pub(in crate::demo) fn end_key_pressed() -> io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if ctrl_c || key.code == KeyCode::Char('q') {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot) {
    let regions = snapshot.regions.len() as u16;
    let [progress, lag, workers, events] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(regions + 3),
        Constraint::Length(regions + 3),
        Constraint::Length(EVENTS_MAX as u16 + 2),
    ])
    .areas(frame.area());
    frame.render_widget(progress_gauge(snapshot), progress);
    frame.render_widget(lag_table(snapshot), lag);
    frame.render_widget(worker_table(snapshot), workers);
    let line = |event: &Incident| Line::from(format!("{:>6.1} s  {}", event.at.as_secs_f64(), event.what));
    let lines: Vec<Line<'_>> = snapshot.events.iter().map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" what happened (q ends) ")), events);
}

fn progress_gauge(snapshot: &Snapshot) -> Gauge<'_> {
    let label = if snapshot.settling {
        format!("all {} changes sent; settling", snapshot.planned)
    } else {
        format!("{} of {} changes sent", snapshot.sent, snapshot.planned)
    };
    let title = format!(" driftless demo · {:.1} s ", snapshot.elapsed.as_secs_f64());
    let ratio = snapshot.sent as f64 / snapshot.planned.max(1) as f64;
    Gauge::default().block(Block::bordered().title(title)).gauge_style(Color::Cyan).ratio(ratio.clamp(0.0, 1.0)).label(label)
}

/// A row per region that receives, a column per region that it receives from.
fn lag_table(snapshot: &Snapshot) -> Table<'_> {
    let heads = snapshot.regions.iter().map(|region| right(format!("from {}", region.name), Style::default()));
    let rows = snapshot.regions.iter().enumerate().map(|(to, region)| {
        let cells = (0..snapshot.regions.len()).map(|from| lag_cell(snapshot, from, to));
        Row::new(std::iter::once(Cell::from(format!("in {}", region.name))).chain(cells))
    });
    let widths = std::iter::once(Constraint::Length(8)).chain(snapshot.regions.iter().map(|_| Constraint::Length(LAG_COLUMN)));
    Table::new(rows, widths)
        .header(Row::new(std::iter::once(Cell::from("")).chain(heads)).style(Modifier::BOLD))
        .block(Block::bordered().title(" lag: age of the oldest change not yet applied "))
}

fn lag_cell(snapshot: &Snapshot, from: usize, to: usize) -> Cell<'static> {
    let Some(pair) = snapshot.pairs.iter().find(|pair| (pair.from, pair.to) == (from, to)) else {
        return right("·".to_owned(), Style::default());
    };
    if !pair.up {
        let style = Style::default().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD);
        return right(format!("CUT {} ms", pair.lag_ms), style);
    }
    let color = if pair.lag_ms >= LAG_MS_NOTABLE { Color::Yellow } else { Color::Green };
    right(format!("{} ms", pair.lag_ms), Style::default().fg(color))
}

fn worker_table(snapshot: &Snapshot) -> Table<'_> {
    let heads = NUMBERS.map(|(head, _)| right(head.to_owned(), Style::default()));
    let header = std::iter::once(Cell::from("region")).chain(heads);
    let rows = snapshot.regions.iter().map(|region| {
        let numbers = numbers(region).map(|number| right(number, Style::default()));
        Row::new(std::iter::once(Cell::from(region.name.as_str())).chain(numbers))
    });
    let widths = std::iter::once(Constraint::Length(8)).chain(NUMBERS.map(|(_, width)| Constraint::Length(width)));
    Table::new(rows, widths).header(Row::new(header).style(Modifier::BOLD)).block(Block::bordered().title(" workers "))
}

fn numbers(region: &RegionStatus) -> [String; NUMBERS.len()] {
    [
        format!("{:.0}", region.applied_per_second),
        region.applied.to_string(),
        region.duplicates.to_string(),
        region.stale.to_string(),
        region.conflicts.to_string(),
        region.dead_letters.to_string(),
        region.rows.to_string(),
    ]
}

fn right(text: String, style: Style) -> Cell<'static> {
    Cell::from(Line::from(Span::styled(text, style)).alignment(Alignment::Right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::status::PairStatus;
    use ratatui::backend::TestBackend;

    #[test]
    fn a_cut_link_stands_out_and_every_number_of_a_region_is_there() {
        let region = |name: &str| RegionStatus {
            name: name.to_owned(),
            applied_per_second: 101.4,
            applied: 202,
            duplicates: 303,
            stale: 404,
            conflicts: 505,
            dead_letters: 606,
            rows: 707,
        };
        let snapshot = Snapshot {
            elapsed: Duration::from_millis(1500),
            sent: 10,
            planned: 40,
            settling: false,
            pairs: vec![
                PairStatus { from: 0, to: 1, up: false, lag_ms: 1234 },
                PairStatus { from: 1, to: 0, up: true, lag_ms: 31 },
            ],
            regions: vec![region("us"), region("eu")],
            events: vec![Incident { at: Duration::from_secs(1), what: "the link is cut".to_owned() }],
        };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("in memory");
        terminal.draw(|frame| draw(frame, &snapshot)).expect("in memory");
        let shown = terminal.backend().to_string();
        for text in [
            "dead letters",
            "10 of 40",
            "CUT 1234 ms",
            "31 ms",
            "101",
            "202",
            "303",
            "404",
            "505",
            "606",
            "707",
            "the link is cut",
        ] {
            assert!(shown.contains(text), "{text} is missing in\n{shown}");
        }
    }
}

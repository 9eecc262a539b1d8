//! The live page: progress, what each region makes of each other's changes, what happened.

use super::pair_name;
use crate::demo::board::Incident;
use crate::demo::status::{PairStatus, Snapshot};
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

/// From here on a lag is shown as something to look at.
const LAG_MS_NOTABLE: i64 = 300;
const PAIR_COLUMN: u16 = 7;
const LAG_COLUMN: u16 = 11;
/// Heads and widths of a pair's numbers; with the names and the lag they fit into 80 columns.
const NUMBERS: [(&str, u16); 6] =
    [("applied/s", 9), ("applied", 8), ("duplicates", 10), ("stale", 5), ("conflicts", 9), ("dead letters", 12)];
/// Enough for all that happens in a run.
const EVENT_LINES: u16 = 4;

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
    let heights = [3, snapshot.pairs.len() as u16 + 3, EVENT_LINES + 2].map(Constraint::Length);
    let [progress, pairs, events] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(progress_gauge(snapshot), progress);
    frame.render_widget(pair_table(snapshot), pairs);
    frame.render_widget(event_list(snapshot), events);
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

/// A row per pair of regions. A region's own changes stand back: they take no link.
fn pair_table(snapshot: &Snapshot) -> Table<'_> {
    let heads = std::iter::once("lag").chain(NUMBERS.map(|(head, _)| head));
    let heads = heads.map(|head| right(head.to_owned(), Style::default()));
    let header = Row::new(std::iter::once(Cell::from("from→to")).chain(heads)).style(Modifier::BOLD);
    let rows = snapshot.pairs.iter().map(|pair| {
        let numbers = numbers(pair).map(|number| right(number, Style::default()));
        let name = Cell::from(pair_name(snapshot, pair.from, pair.to));
        let row = Row::new([name, lag_cell(pair)].into_iter().chain(numbers));
        if pair.from == pair.to { row.style(Modifier::DIM) } else { row }
    });
    let widths = [PAIR_COLUMN, LAG_COLUMN].into_iter().chain(NUMBERS.map(|(_, width)| width)).map(Constraint::Length);
    let holds: Vec<String> = snapshot.regions.iter().map(|region| format!("{} {}", region.name, region.rows)).collect();
    let block = Block::bordered().title(" what each region makes of each one's changes ");
    Table::new(rows, widths).header(header).block(block.title_bottom(format!(" rows: {} ", holds.join(" · "))))
}

/// The age of the oldest change that is not applied yet.
fn lag_cell(pair: &PairStatus) -> Cell<'static> {
    let lag = if pair.lag_ms < 1_000 { format!("{} ms", pair.lag_ms) } else { format!("{:.1} s", pair.lag_ms as f64 / 1000.0) };
    if !pair.up {
        let style = Style::default().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD);
        return right(format!("CUT {lag}"), style);
    }
    let color = if pair.lag_ms >= LAG_MS_NOTABLE { Color::Yellow } else { Color::Green };
    right(lag, Style::default().fg(color))
}

fn numbers(pair: &PairStatus) -> [String; NUMBERS.len()] {
    [
        format!("{:.0}", pair.applied_per_second),
        pair.counts.applied.to_string(),
        pair.counts.duplicates.to_string(),
        pair.counts.stale.to_string(),
        pair.counts.conflicts.to_string(),
        pair.counts.dead_letters.to_string(),
    ]
}

fn event_list(snapshot: &Snapshot) -> Paragraph<'_> {
    let line = |event: &Incident| Line::from(format!("{:>6.1} s  {}", event.at.as_secs_f64(), event.what));
    let older = snapshot.events.len().saturating_sub(usize::from(EVENT_LINES));
    let lines: Vec<Line<'_>> = snapshot.events[older..].iter().map(line).collect();
    Paragraph::new(lines).block(Block::bordered().title(" what happened (q ends) "))
}

fn right(text: String, style: Style) -> Cell<'static> {
    Cell::from(Line::from(Span::styled(text, style)).alignment(Alignment::Right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::demo::report::Counts;
    use crate::demo::status::RegionStatus;
    use ratatui::backend::TestBackend;

    #[test]
    fn a_cut_link_stands_out_and_every_number_of_a_pair_is_there() {
        let counts =
            Counts { received: 9, applied: 202, coalesced: 9, duplicates: 303, stale: 404, conflicts: 505, dead_letters: 606 };
        let pair = |from, to, up, lag_ms, counts| {
            let (lag_ms_max, applied_per_second) = (lag_ms, if up { 9.0 } else { 101.4 });
            PairStatus { from, to, up, lag_ms, lag_ms_max, applied_per_second, counts }
        };
        let region = |name: &str, rows| RegionStatus { name: Region::new(name), rows };
        let snapshot = Snapshot {
            elapsed: Duration::from_millis(1500),
            sent: 10,
            planned: 40,
            settling: false,
            pairs: vec![pair(0, 1, false, 61_234, counts), pair(1, 0, true, 31, Counts::default())],
            regions: vec![region("us", 707), region("eu", 708)],
            events: vec![Incident { at: Duration::from_secs(1), what: "the link is cut".to_owned() }],
        };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("in memory");
        terminal.draw(|frame| draw(frame, &snapshot)).expect("in memory");
        let shown = terminal.backend().to_string();
        for text in [
            "dead letters",
            "10 of 40",
            "us→eu",
            "CUT 61.2 s",
            "31 ms",
            "101",
            "202",
            "303",
            "404",
            "505",
            "606",
            "us 707 · eu 708",
            "the link is cut",
        ] {
            assert!(shown.contains(text), "{text} is missing in\n{shown}");
        }
    }
}

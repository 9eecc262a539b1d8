//! How answers are printed. A reader that goes away (`| head`) is no error.

use crate::base::error::{Error, Result};
use crate::ops::finding::{Finding, Level};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{ErrorKind, Write, stdout};

pub fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::fatal(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

pub fn print_line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// One JSON value, on lines of its own.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::fatal(format!("the answer is not JSON: {error}")))?;
    print_line(&text)
}

/// Each finding on a line, with its remedy below it, and how many there are of each level.
pub fn findings_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        text += &format!("{mark}  {}: {}\n", finding.subject, finding.message);
        for line in finding.remedy.lines() {
            text += &format!("      → {line}\n");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text + &format!("\n{} ok, {} warnings, {} failures\n", count(Level::Ok), count(Level::Warn), count(Level::Fail))
}

/// Columns without lines between them; the last one is wrapped to the terminal's width.
pub fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(heads);
    table.add_rows(rows);
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// A number of bytes in the unit that suits it.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_told_in_their_unit() {
        assert_eq!([999, 1_500, 2_500_000, 3_210_000_000].map(super::bytes), ["999 B", "1.5 kB", "2.5 MB", "3.21 GB"]);
    }
}

//! Writing to people and to programs.

use crate::diag::{Style, visible};
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;

/// Data for people, to stdout: what a terminal would obey is shown instead. A reader that has gone away ends nothing.
pub(super) fn data(text: &str) {
    raw(&visible(text));
}

/// The same for programs, and for findings, which are made visible as they are written and may be coloured.
pub(super) fn raw(text: &str) {
    let _ = try_data(text);
}

/// The same; false once the reader has gone away.
pub(super) fn try_data(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let sent = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    sent.is_ok()
}

/// Everything else, to stderr, as visible as data for people.
pub(super) fn note(text: &str) {
    raw_note(&visible(text));
}

/// The same for findings.
pub(super) fn raw_note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

pub(super) fn line(text: &str) {
    note(&format!("{text}\n"));
}

/// How findings are shown on a stream: colour only where a person looks and `NO_COLOR` is not set, 80 columns where there is no
/// terminal, the first hundred.
#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR is a convention of the environment"
)]
pub(super) fn style(stream: &(impl IsTerminal + AsFd)) -> Style {
    let size = rustix::termios::tcgetwinsize(stream);
    Style {
        colour: stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        width: size
            .ok()
            .map(|s| usize::from(s.ws_col))
            .filter(|w| *w >= 40)
            .unwrap_or(80),
        most: 100,
    }
}

pub(super) fn json(value: &impl serde::Serialize) {
    raw(&(serde_json::to_string_pretty(value).expect("plain data") + "\n"));
}

/// A document in one line.
pub(super) fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

/// A table for people: columns as wide as what stands in them, no blanks at the end of a line.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

//! Writing to people and to programs.

use crate::diag::Style;
use std::io::{self, IsTerminal as _, Write as _};

/// Data, to stdout. A reader that has gone away ends nothing.
pub(super) fn data(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Everything else, to stderr.
pub(super) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

pub(super) fn line(text: &str) {
    note(&format!("{text}\n"));
}

/// Colour only where a person looks, and `NO_COLOR` is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR is a convention of the environment"
)]
pub(super) fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// The terminal's width, 80 where there is none.
pub(super) fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok()
        .map(|s| usize::from(s.ws_col))
        .filter(|w| *w >= 40)
        .unwrap_or(80)
}

/// How findings are shown here; the first hundred of them.
pub(super) fn style() -> Style {
    Style {
        colour: colour(),
        width: width(),
        most: 100,
    }
}

pub(super) fn json(value: &impl serde::Serialize) {
    data(&(serde_json::to_string_pretty(value).expect("plain data") + "\n"));
}

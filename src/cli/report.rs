//! Steps as they happen: a moving line on a terminal, plain lines elsewhere.

use super::out;
use crate::agent::without_head;
use crate::host::wall_clock;
use crate::model::{human_ms, rfc3339};
use crate::step::{Notice, Report};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Prints to stderr.
pub(super) struct Lines {
    bar: Option<ProgressBar>,
    waiting: Vec<String>,
}

impl Lines {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("             {spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            waiting: vec![],
        }
    }

    fn say(&self, text: &str) {
        let time = rfc3339(wall_clock());
        let time = time.get(11..23).unwrap_or(&time);
        let line = format!("{time} {text}");
        match &self.bar {
            Some(bar) => bar.println(line),
            None => out::line(&line),
        }
    }

    fn moving(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Report for Lines {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Began(step) => self.moving(step.name.clone()),
            Notice::Progress(step, text) => self.moving(format!("{} · {text}", step.name)),
            Notice::Ended(step, ms, note) => {
                self.waiting.clear();
                let note = note.map(|n| format!("  {n}")).unwrap_or_default();
                self.say(&format!("✓ {:<28} {:>8}{note}", step.name, human_ms(ms)));
            }
            Notice::Failed(step, error) => self.say(&format!("✗ {}: {error}", step.name)),
            Notice::Looks | Notice::Waiting([]) => {}
            Notice::Waiting(why) => {
                // A head that moves is no news; the reason without its figures is.
                let bare: Vec<String> = why.iter().map(|w| without_head(w).to_owned()).collect();
                self.moving(format!("waiting: {}", why.join("; ")));
                if bare != self.waiting {
                    self.say(&format!("… waiting: {}", why.join("; ")));
                    self.waiting = bare;
                }
            }
            Notice::Undo { cause, restore } => {
                let data = if restore {
                    "with the sealed data"
                } else {
                    "data untouched"
                };
                self.say(&format!(
                    "↩ rolling back, {data}: {}",
                    cause.lines().next().unwrap_or_default()
                ));
            }
            Notice::Stuck { step, reason } => {
                self.say(&format!("■ stuck at {}: {reason}", step.name))
            }
            Notice::Refused { why, again_in } => {
                self.say(&format!("· {why}; it is tried again in {again_in:?}"));
            }
            Notice::Warn(text) => self.say(&format!("· {text}")),
        }
    }
}

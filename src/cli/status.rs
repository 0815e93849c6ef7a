//! `visor status`: what is, what should be, what visor waits for and why, what comes next.

use super::args::{Format, Global};
use super::context::{Context, peers_variables};
use super::error::{CliError, Exit};
use super::out;
use super::reach::Reach;
use crate::agent::Since;
use crate::control::Status;
use crate::diag::visible;
use crate::host::wall_clock;
use crate::model::{UnixMs, human_ms, rfc3339};
use crate::plan::{Fact, Liveness, wrapped};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) fn status(global: &Global, format: Format, watch: bool) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    if watch {
        return follow(&cx, format);
    }
    let status = look(&cx)?;
    match format {
        Format::Json => out::json(&status),
        Format::Human => out::data(&text(&status, wall_clock())),
    }
    Ok(if status.run.is_some_and(|r| r.stuck_at.is_some()) {
        Exit::Stuck
    } else {
        Exit::Done
    })
}

fn look(cx: &Context) -> Result<Status, CliError> {
    Ok(Status {
        peers_variables: peers_variables(),
        ..Reach::new(cx)?.status()?
    })
}

/// Shows the status anew until it is ended: on a terminal in place, elsewhere each time that something has changed; to programs a document
/// a line.
fn follow(cx: &Context, format: Format) -> Result<Exit, CliError> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut shown = None;
    loop {
        let status = look(cx)?;
        let now = wall_clock();
        let is_news = shown.as_ref() != Some(&without_figures(&status));
        let sent = match format {
            Format::Json if is_news => out::try_data(&out::json_line(&status)),
            Format::Human if is_terminal => {
                // Home, and what was there before cleared.
                out::try_data(&format!("\x1b[H\x1b[2J{}", visible(&text(&status, now))))
            }
            Format::Human if is_news => {
                let time = rfc3339(now);
                out::try_data(&format!("--- {time}\n{}", visible(&text(&status, now))))
            }
            _ => true,
        };
        if !sent {
            return Ok(Exit::Done);
        }
        shown = Some(without_figures(&status));
        std::thread::sleep(WATCH_EVERY);
    }
}

/// What counts as news: not a head that moves, and not the time that passes.
fn without_figures(status: &Status) -> Status {
    let mut s = status.clone();
    s.diff.head = None;
    for scheduled in &mut s.diff.scheduled {
        scheduled.remaining = None;
    }
    for next in &mut s.next {
        next.at = next.at.filter(|_| !next.is_guess);
        next.is_guess = false;
    }
    if let Some(chain) = &mut s.chain {
        for figure in [&mut chain.head, &mut chain.head_age_ms] {
            if let Fact::Known(n) = figure {
                *n = 0;
            }
        }
    }
    if let Some(now) = &mut s.now {
        (now.begun, now.looks) = (0, 0);
        for wait in now.waits.iter_mut().chain(&mut now.said) {
            wait.what = wait.what.replace(|c: char| c.is_ascii_digit(), "");
        }
    }
    s
}

fn since_text(what: &Since, now: UnixMs) -> String {
    let time = human_ms(now.saturating_sub(what.since));
    format!("{} (for {time})", what.what)
}

fn text(s: &Status, now: u64) -> String {
    let mut out = String::new();
    let mut row = |key: &str, value: &str| {
        out.push_str(&wrapped(&format!("{key:<9} "), &" ".repeat(10), value));
    };
    row("node", &s.node);
    for (i, standing) in s.states.iter().enumerate() {
        let since = standing
            .since
            .map(|at| format!(" for {}", human_ms(now.saturating_sub(at))));
        let detail = standing.detail.as_ref().map(|d| format!(": {d}"));
        let line = format!(
            "{}{}{}",
            standing.state.word(),
            since.unwrap_or_default(),
            detail.unwrap_or_default()
        );
        row(if i == 0 { "state" } else { "" }, &line);
    }
    row("root", &s.root);
    row("release", s.current.as_deref().unwrap_or("none"));
    row(
        "process",
        &match &s.process {
            Liveness::Running { pid, since } => format!(
                "running, pid {pid}, for {}",
                human_ms(now.saturating_sub(*since))
            ),
            Liveness::Stopped { exit } => format!(
                "not running ({})",
                exit.as_deref().unwrap_or("no exit record")
            ),
            Liveness::Unclear { why } => format!("not clear: {why}"),
        },
    );
    for (i, line) in s.last_output.iter().enumerate() {
        row(if i == 0 { "last log" } else { "" }, line);
    }
    if let Some(chain) = &s.chain {
        let age = match &chain.head_age_ms {
            Fact::Known(ms) => format!("{} old", human_ms(*ms)),
            Fact::Unknown(_) => "age unknown".into(),
        };
        row(
            "chain",
            &match &chain.head {
                // The rest is unknown for the same reason.
                Fact::Unknown(why) => format!("unknown: {why}"),
                Fact::Known(head) => format!("head {head}, {age}, syncing {}", chain.syncing),
            },
        );
    }
    row(
        "visor",
        &s.visor.as_ref().map_or_else(
            || "none works on this node now".into(),
            |o| {
                format!(
                    "`visor {}`, pid {}, since {}",
                    o.command,
                    o.pid,
                    rfc3339(o.since)
                )
            },
        ),
    );
    if let Some(live) = &s.now {
        if let Some(doing) = &live.doing {
            row("doing", &since_text(doing, now));
        }
        if let Some(said) = &live.said {
            row(
                if live.doing.is_some() { "" } else { "doing" },
                &since_text(said, now),
            );
        }
        for (i, wait) in live.waits.iter().enumerate() {
            row(if i == 0 { "waits" } else { "" }, &since_text(wait, now));
        }
    }
    for (i, next) in s.next.iter().enumerate() {
        let about = if next.is_guess { "about " } else { "" };
        let at = next.at.map(|at| {
            let time = human_ms(at.saturating_sub(now));
            format!(", {about}{} (in {about}{time})", rfc3339(at))
        });
        let line = format!("{}{}", next.what, at.unwrap_or_default());
        row(if i == 0 { "next" } else { "" }, &line);
    }
    if let Some(run) = &s.run {
        row(
            "run",
            &format!(
                "{} · {} · {} · {} of {} steps",
                run.run, run.what, run.stage, run.done, run.steps
            ),
        );
        if let (Some(at), Some(reason)) = (&run.stuck_at, &run.reason) {
            row("stuck", &format!("at {at}: {reason}"));
        }
    }
    if let Some(last) = &s.last_run {
        row(
            "last run",
            &format!(
                "{} · {} · {} · {}",
                last.run,
                last.what,
                last.outcome,
                rfc3339(last.at)
            ),
        );
        for line in last.detail.lines().take(8) {
            row("", line.trim_end());
        }
    }
    row(
        "backups",
        &if s.backups.is_empty() {
            "none".into()
        } else {
            s.backups.join(", ")
        },
    );
    if !s.peers_variables.is_empty() {
        row(
            "ignored",
            &format!("{}: the manifests win", s.peers_variables.join(", ")),
        );
    }
    let diff = crate::plan::diff_text(&s.diff);
    let rest = diff.split_once('\n').map_or("", |(_, rest)| rest);
    out.push_str(rest);
    out
}

//! Plans and differences as text for people, within 80 columns where the names allow it.

use super::change::{Change, ChangeKind};
use super::diff::Diff;
use super::step::{Action, Phase, Plan, StepKind};
use crate::model::{OnFailure, human_ms};
use std::fmt::Write as _;

/// The plan as a tree: phases, steps, and the way back.
pub fn plan_tree(plan: &Plan) -> String {
    let mut out = String::new();
    let from = match &plan.action {
        Action::Upgrade { from, .. } => format!(" from {from}"),
        Action::Install { .. } => String::new(),
    };
    let _ = writeln!(out, "{} · {}{from}", plan.node.name, plan.action.describe());
    let used: Vec<Phase> = Phase::FORWARD
        .into_iter()
        .filter(|p| plan.phase(*p).next().is_some())
        .collect();
    let last_phase = if plan.undo.is_empty() {
        used.last().copied()
    } else {
        None
    };
    for phase in used {
        let note = match phase {
            Phase::Critical if matches!(plan.action, Action::Upgrade { .. }) => "  OUTAGE",
            _ => "  node runs",
        };
        let (branch, bar) = if Some(phase) == last_phase {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        let _ = writeln!(out, "{branch} {}{note}", phase.as_str());
        let steps: Vec<_> = plan.phase(phase).collect();
        rows(
            &mut out,
            bar,
            &steps
                .iter()
                .map(|s| (s.kind.clone(), s.name.clone()))
                .collect::<Vec<_>>(),
        );
    }
    if !plan.undo.is_empty() {
        let when = match &plan.action {
            Action::Upgrade {
                on_failure: OnFailure::Hold,
                ..
            } => "when a person says so: the new release is held if it is bad",
            _ => "from any step before commit",
        };
        let _ = writeln!(out, "└─ undo  {when}");
        rows(
            &mut out,
            "  ",
            &plan
                .undo
                .iter()
                .map(|s| (s.kind.clone(), s.name.clone()))
                .collect::<Vec<_>>(),
        );
    }
    let _ = writeln!(out, "digest {}", &plan.digest[..16.min(plan.digest.len())]);
    out
}

fn rows(out: &mut String, bar: &str, steps: &[(StepKind, String)]) {
    for (i, (kind, name)) in steps.iter().enumerate() {
        let branch = if i + 1 == steps.len() {
            "└─"
        } else {
            "├─"
        };
        let short = name.split_once('/').map_or(name.as_str(), |(_, rest)| rest);
        let line = format!("{bar} {branch} {short:<26} {}", detail(kind));
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn detail(kind: &StepKind) -> String {
    match kind {
        StepKind::Fetch { artifact, .. } => format!(
            "{} ({} source{})",
            artifact.name,
            artifact.sources.len(),
            if artifact.sources.len() == 1 { "" } else { "s" }
        ),
        StepKind::Stage { release, .. } => format!("to {}/bin", release.dir().display()),
        StepKind::Hook(hook) => hook.run.first().cloned().unwrap_or_default(),
        StepKind::Precopy { backup } | StepKind::Seal { backup } => {
            format!("backup {}", backup.name)
        }
        StepKind::Verify { backup } => format!("backup {}", backup.name),
        StepKind::Archive { backup } => match &backup.archive {
            Some(archive) => match &archive.to {
                Some(to) => format!("{} to {}", archive.ending(), to.display()),
                None => format!("{} to backups/archive", archive.ending()),
            },
            None => String::new(),
        },
        StepKind::Prune { backup } => format!("keep the last {}", backup.keep_last),
        StepKind::Trigger { trigger } => trigger.to_string(),
        StepKind::ChainSafe { .. } => "in sync, fresh head".into(),
        StepKind::Stop { policy } | StepKind::StopNew { policy } => {
            let kill = if policy.kill {
                ", then QUIT and KILL"
            } else {
                ", never KILL"
            };
            format!("TERM, {}{kill}", crate::check::duration_text(policy.grace))
        }
        StepKind::Switch { to, .. } | StepKind::SwitchBack { to } => {
            format!("current → {}", to.dir().display())
        }
        StepKind::Health { health } | StepKind::HealthOld { health } => {
            format!(
                "within {}, {} blocks",
                crate::check::duration_text(health.within),
                health.blocks
            )
        }
        StepKind::Exchange => "sealed data for failed data".into(),
        StepKind::SetAside => "failed data to failed/".into(),
        StepKind::CarryKeep => "signer state and keep paths".into(),
        StepKind::Commit => "from here on nothing is rolled back".into(),
        StepKind::Consume => "the sealed copy is used up".into(),
        StepKind::Start => "the new release".into(),
        StepKind::StartOld => "the old release".into(),
    }
}

/// Columns for people.
const WIDTH: usize = 80;

/// A text behind its label, in lines that end before the 80th column; `rest` stands before all but the first. Words are kept whole.
pub fn wrapped(first: &str, rest: &str, text: &str) -> String {
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options) + "\n"
}

fn labelled(out: &mut String, first: &str, rest: usize, text: &str) {
    out.push_str(&wrapped(first, &" ".repeat(rest), text));
}

fn remark(out: &mut String, mark: char, what: &str, help: &str) {
    labelled(out, &format!("  {mark} "), 4, what);
    labelled(out, "      ", 6, help);
}

/// The difference for people.
pub fn diff_text(d: &Diff) -> String {
    let mut out = String::new();
    let state = if d.running { "running" } else { "not running" };
    let head = d.head.map(|h| format!(", head {h}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "node {} · {} · {state}{head}",
        d.node,
        d.current.as_deref().unwrap_or("no release")
    );
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            let _ = write!(out, "\n{title}\n{body}");
        }
    };
    let all = |each: &dyn Fn(&mut String)| {
        let mut body = String::new();
        each(&mut body);
        body
    };
    section(
        "drift",
        all(&|b| {
            d.drift
                .iter()
                .for_each(|r| remark(b, '~', &r.what, &r.help))
        }),
    );
    section(
        "changes",
        all(&|b| d.changes.iter().for_each(|c| change_text(b, c))),
    );
    section(
        "scheduled",
        all(&|b| {
            for s in &d.scheduled {
                let remaining = s.remaining.map(|n| format!(", {n} blocks to go"));
                let note = s.note.as_ref().map(|n| format!(", {n}"));
                let text = format!(
                    "{} at {}{}{}  ({})",
                    s.upgrade,
                    s.trigger,
                    remaining.unwrap_or_default(),
                    note.unwrap_or_default(),
                    s.place
                );
                labelled(b, "  · ", 6, &text);
            }
        }),
    );
    section(
        "blocked",
        all(&|b| {
            d.blocked
                .iter()
                .for_each(|r| remark(b, '!', &r.what, &r.help))
        }),
    );
    section(
        "overrides",
        all(&|b| d.overrides.iter().for_each(|o| labelled(b, "  # ", 4, o))),
    );
    if !d.has_changes() && d.blocked.is_empty() {
        let now = if d.scheduled.is_empty() { "" } else { " now" };
        let _ = writeln!(out, "\nnothing to do{now}");
    }
    out
}

/// A change: what, why, what comes first, and the risk in its parts.
fn change_text(out: &mut String, c: &Change) {
    labelled(out, "  + ", 4, &c.what);
    let mut row = |label: &str, text: &str| labelled(out, &format!("      {label:<10}"), 16, text);
    let mut label = "why";
    for reason in &c.why {
        let place = reason.place.as_ref().map(|p| format!("  ({p})"));
        row(
            label,
            &format!("{}{}", reason.fact, place.unwrap_or_default()),
        );
        label = "";
    }
    if !c.first.is_empty() {
        row("first", &c.first.join(" · "));
    }
    let mut label = "copy";
    for line in &c.copy {
        row(label, line);
        label = "";
    }
    let outage = &c.risk.outage;
    if outage.parts.is_empty() {
        row(
            "outage",
            if c.kind == ChangeKind::Resume && !c.risk.roll_back.is_empty() {
                "as when it began"
            } else {
                "none"
            },
        );
    } else {
        match (outage.estimate_ms, &outage.measured) {
            (Some(ms), Some(measured)) => {
                row(
                    "outage",
                    &format!("about {}, measured by {measured}:", human_ms(ms)),
                );
            }
            _ => row("outage", "not measured yet on this node; it is made of"),
        }
        for part in &outage.parts {
            let estimate = part.estimate_ms.map(|ms| format!("about {}", human_ms(ms)));
            let limit = part.limit_ms.map(|ms| format!("at most {}", human_ms(ms)));
            let figures: Vec<String> = estimate.into_iter().chain(limit).collect();
            let figures = if figures.is_empty() {
                String::new()
            } else {
                format!(", {}", figures.join(", "))
            };
            row("", &format!("- {}{figures}", part.what));
        }
    }
    let mut label = "for good";
    for step in &c.risk.irreversible {
        row(label, step);
        label = "";
    }
    if !c.risk.roll_back.is_empty() {
        let label = if c.risk.outage.parts.is_empty() {
            "risk"
        } else {
            "if bad"
        };
        row(label, &c.risk.roll_back);
    }
}

//! Plans and differences as text for people, within 80 columns where the names allow it.

use super::diff::Diff;
use super::step::{Action, Phase, Plan, StepKind};
use std::fmt::Write as _;

/// The plan as a tree: phases, steps, and the way back.
pub fn plan_tree(plan: &Plan) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} · {}", plan.node.name, plan.action.describe());
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
        let _ = writeln!(out, "└─ undo  from any step before commit");
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
    let _ = writeln!(out, "plan {}", &plan.digest[..16.min(plan.digest.len())]);
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
        StepKind::Start | StepKind::StartOld | StepKind::Consume => String::new(),
    }
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
    let mut section = |title: &str, lines: Vec<(String, Vec<String>)>| {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{title}");
        for (first, rest) in lines {
            let _ = writeln!(out, "  {first}");
            for line in rest {
                let _ = writeln!(out, "      {line}");
            }
        }
    };
    let remark = |mark: char| {
        move |r: &super::diff::Remark| (format!("{mark} {}", r.what), vec![r.help.clone()])
    };
    section("drift", d.drift.iter().map(remark('~')).collect());
    let changes = d.changes.iter().map(|c| {
        let mut rest = vec![format!("why     {}", c.why)];
        rest.extend(c.place.iter().map(|p| format!("wish    {p}")));
        rest.push(format!("risk    {}", c.risk));
        rest.push(format!("outage  {}", c.outage));
        (format!("+ {}", c.what), rest)
    });
    section("changes", changes.collect());
    let scheduled = d.scheduled.iter().map(|s| {
        let remaining = s
            .remaining
            .map(|n| format!(", {n} blocks to go"))
            .unwrap_or_default();
        let note = s
            .note
            .as_ref()
            .map(|n| format!(", {n}"))
            .unwrap_or_default();
        (
            format!(
                "· {} at {}{remaining}{note}  ({})",
                s.upgrade, s.trigger, s.place
            ),
            vec![],
        )
    });
    section("scheduled", scheduled.collect());
    section("blocked", d.blocked.iter().map(remark('!')).collect());
    section(
        "overrides",
        d.overrides
            .iter()
            .map(|o| (format!("# {o}"), vec![]))
            .collect(),
    );
    if !d.has_changes() && d.blocked.is_empty() {
        let now = if d.scheduled.is_empty() { "" } else { " now" };
        let _ = writeln!(out, "\nnothing to do{now}");
    }
    out
}

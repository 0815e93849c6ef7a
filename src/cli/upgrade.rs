//! `visor upgrade approve|retry|list`.

use super::args::{Format, Global};
use super::context::{Context, person};
use super::error::{CliError, Exit};
use super::out;
use crate::check::{DesiredUpgrade, platform};
use crate::host::wall_clock;
use crate::model::{Trigger, UnixMs, rfc3339};
use crate::observe::observe;
use crate::plan::{Approval, diff};
use crate::store::edit_deny;
use schemars::JsonSchema;
use serde::Serialize;

fn find<'a>(cx: &'a Context, name: &str) -> Result<&'a DesiredUpgrade, CliError> {
    let upgrades = &cx.node().upgrades;
    upgrades
        .iter()
        .find(|u| u.name.as_str() == name)
        .ok_or_else(|| {
            let names: Vec<String> = upgrades.iter().map(|u| u.name.to_string()).collect();
            let help = if names.is_empty() {
                "The set has none for this node.".into()
            } else {
                format!("There are: {}.", names.join(", "))
            };
            CliError::usage(
                format!(
                    "there is no upgrade \"{name}\" for node {}",
                    cx.node().spec.name
                ),
                help,
            )
        })
}

pub(super) fn approve(global: &Global, name: &str) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let upgrade = find(&cx, name)?;
    if upgrade.trigger != Trigger::Manual {
        return Err(CliError::usage(
            format!(
                "upgrade {name} is triggered by {}, not by an approval",
                upgrade.trigger
            ),
            "Only upgrades with `trigger = { manual = true }` are approved.",
        ));
    }
    let observed = observe(cx.node(), &cx.host())?;
    if let Some(applied) = observed.applied.iter().find(|a| a.name == upgrade.name) {
        out::line(&format!(
            "visor: upgrade {name} was applied at {}; nothing is left to approve",
            rfc3339(applied.at)
        ));
        return Ok(Exit::Done);
    }
    let approval = Approval {
        upgrade: upgrade.name.clone(),
        by: person(),
        at: wall_clock(),
    };
    cx.override_(&format!("approve {name}"), |now| {
        now.approvals.retain(|a| a.upgrade != approval.upgrade);
        now.approvals.push(approval);
    })?;
    out::line(&format!(
        "visor: upgrade {name} is approved; `visor run` takes it up, or `visor reconcile` does"
    ));
    Ok(Exit::Done)
}

pub(super) fn retry(global: &Global, name: &str) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let upgrade = find(&cx, name)?;
    let was = edit_deny(&cx.layout, |denied| {
        let before = denied.len();
        denied.retain(|d| d.upgrade != upgrade.name);
        before > denied.len()
    })?;
    out::line(&if was {
        format!("visor: upgrade {name} will be tried again")
    } else {
        format!("visor: upgrade {name} had not failed")
    });
    Ok(Exit::Done)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct List {
    version: u32,
    node: String,
    upgrades: Vec<Row>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    name: String,
    trigger: String,
    /// applied, current, failed, running, stuck, due, scheduled, passed or blocked.
    state: &'static str,
    place: String,
    at: Option<UnixMs>,
    detail: Option<String>,
}

pub(super) fn list(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let observed = observe(cx.node(), &cx.host())?;
    let d = diff(cx.node(), &observed, &platform());
    let current = d.current.clone();
    let rows = cx.node().upgrades.iter().map(|u| {
        let name = u.name.to_string();
        let applied = observed.applied.iter().rfind(|a| a.name == u.name);
        let denied = observed.denied.iter().find(|x| x.upgrade == u.name);
        let open = observed
            .open_run
            .as_ref()
            .filter(|o| o.upgrade.as_ref() == Some(&u.name));
        let is_due = d
            .changes
            .iter()
            .any(|c| c.upgrade.as_ref() == Some(&u.name));
        let (state, at, detail) = if let Some(open) = open {
            let state = if open.stuck.is_some() {
                "stuck"
            } else {
                "running"
            };
            (
                state,
                None,
                Some(open.stuck.clone().unwrap_or_else(|| open.stage.clone())),
            )
        } else if current.as_deref() == Some(&name) {
            ("current", applied.map(|a| a.at), None)
        } else if let Some(applied) = applied {
            ("applied", Some(applied.at), None)
        } else if let Some(denied) = denied {
            (
                "failed",
                Some(denied.at),
                Some(denied.reason.lines().next().unwrap_or_default().to_owned()),
            )
        } else if is_due {
            ("due", None, None)
        } else if let Some(s) = d.scheduled.iter().find(|s| s.upgrade == u.name) {
            (
                "scheduled",
                None,
                s.remaining
                    .map(|n| format!("{n} blocks to go"))
                    .or_else(|| s.note.clone()),
            )
        } else if d
            .blocked
            .iter()
            .any(|b| b.upgrade.as_ref() == Some(&u.name))
        {
            ("blocked", None, None)
        } else if observed.open_run.is_some() || current.is_none() {
            ("scheduled", None, None)
        } else {
            ("passed", None, None)
        };
        let approval = observed.overrides.approvals.iter();
        let approval = approval
            .filter(|_| matches!(state, "due" | "scheduled" | "blocked"))
            .find(|a| a.upgrade == u.name)
            .map(|a| format!("approved by {}", a.by));
        let detail = match (approval, detail) {
            (Some(approval), Some(detail)) => Some(format!("{approval}, {detail}")),
            (approval, detail) => approval.or(detail),
        };
        Row {
            name,
            trigger: u.trigger.to_string(),
            state,
            place: u.place.clone(),
            at,
            detail,
        }
    });
    let list = List {
        version: 1,
        node: cx.node().spec.name.to_string(),
        upgrades: rows.collect(),
    };
    match format {
        Format::Json => out::json(&list),
        Format::Human if list.upgrades.is_empty() => out::data("no upgrade for this node\n"),
        Format::Human => {
            let mut rows = vec![
                ["STATE", "UPGRADE", "TRIGGER", "PLACE"]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            rows.extend(list.upgrades.iter().map(|r| {
                vec![
                    r.state.to_owned(),
                    r.name.clone(),
                    r.trigger.clone(),
                    r.place.clone(),
                ]
            }));
            let table = out::table(&rows);
            let mut lines = table.lines();
            let mut text = lines.next().map(|l| format!("{l}\n")).unwrap_or_default();
            for (line, r) in lines.zip(&list.upgrades) {
                text.push_str(&format!("{line}\n"));
                let since = r.at.map(|at| format!("since {}", rfc3339(at)));
                let more: Vec<String> = since.into_iter().chain(r.detail.clone()).collect();
                if !more.is_empty() {
                    text.push_str(&format!("    {}\n", more.join(", ")));
                }
            }
            out::data(&text);
        }
    }
    Ok(Exit::Done)
}

//! `visor upgrade approve|retry|list`.

use super::args::{Format, Global};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use super::reach::Reach;
use crate::check::platform;
use crate::control::Request;
use crate::model::{UnixMs, rfc3339};
use crate::observe::observe;
use crate::plan::diff;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) fn approve(global: &Global, name: &str) -> Result<Exit, CliError> {
    let upgrade = name.to_owned();
    ask(global, &Request::Approve { upgrade })
}

pub(super) fn retry(global: &Global, name: &str) -> Result<Exit, CliError> {
    let upgrade = name.to_owned();
    ask(global, &Request::Retry { upgrade })
}

fn ask(global: &Global, request: &Request) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let noted = Reach::new(&cx)?.ask(request)?;
    out::line(&format!("visor: {}", noted.said));
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
        } else if observed.open_run.as_ref().is_some_and(|o| !o.waits) || current.is_none() {
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

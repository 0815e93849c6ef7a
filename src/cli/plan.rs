//! `visor plan check|diff|show`.

use super::args::{Format, Global, ShowFormat};
use super::context::{Context, ambient};
use super::error::{CliError, Exit};
use super::out;
use crate::check::{DesiredUpgrade, platform};
use crate::host::{Ambient, Baton, RealHost};
use crate::model::{Name, Release};
use crate::observe::observe;
use crate::plan::{
    Diff, Plan, compile_upgrade, diff as compare, diff_text, plan_dot, plan_mermaid, plan_tree,
};
use std::collections::HashSet;
use std::path::Path;

pub(super) fn diff(global: &Global, format: Format, save: Option<&Path>) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let surveys = Ambient {
        surveys: true,
        ..ambient()
    };
    let host = RealHost::new(&cx.node().spec, surveys, Baton::default());
    let observed = observe(cx.node(), &host)?;
    let d = compare(cx.node(), &observed, &platform());
    match format {
        Format::Human => out::data(&diff_text(&d)),
        Format::Json => out::json(&d),
    }
    if let Some(path) = save {
        super::saved::write(path, &d, &observed)?;
    }
    Ok(exit_of(&d))
}

/// 2 when there is something to do, 3 when that is blocked, else 0.
pub(super) fn exit_of(d: &Diff) -> Exit {
    if d.has_changes() {
        Exit::Changes
    } else if d.blocked.is_empty() {
        Exit::Done
    } else {
        Exit::Blocked
    }
}

/// The upgrades in the order in which they would be made: by height, manual ones where their batch has them, or last.
fn in_order(upgrades: &[DesiredUpgrade]) -> Vec<&DesiredUpgrade> {
    let mut left: Vec<&DesiredUpgrade> = upgrades.iter().collect();
    let mut out: Vec<&DesiredUpgrade> = Vec::with_capacity(left.len());
    let mut done: HashSet<&Name> = HashSet::new();
    while !left.is_empty() {
        // Batches are in the order of their heights, so there is always one that nothing is before.
        let is_next = |u: &&DesiredUpgrade| {
            let mut before = u.batch.iter().flat_map(|b| b.before());
            before.all(|name| done.contains(name))
        };
        let next = left.iter().position(is_next).unwrap_or(0);
        let upgrade = left.remove(next);
        done.insert(&upgrade.name);
        out.push(upgrade);
    }
    out
}

pub(super) fn show(
    global: &Global,
    only: Option<&str>,
    format: ShowFormat,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let mut from = Release::Genesis;
    let mut plans: Vec<Plan> = Vec::new();
    for upgrade in in_order(&cx.node().upgrades) {
        let is_wanted = only.is_none_or(|name| name == upgrade.name.as_str());
        let Some(file) = upgrade.artifact.file(&platform()) else {
            let (artifact, here) = (&upgrade.artifact.name, platform());
            let what = format!("artifact {artifact} has no file for {here}");
            let help = "Add one, or one without `platform`.";
            if only.is_some() && is_wanted {
                return Err(CliError::usage(what, help));
            }
            if is_wanted {
                out::line(&format!(
                    "visor: upgrade {} is left out: {what}",
                    upgrade.name
                ));
            }
            continue;
        };
        let plan = compile_upgrade(cx.node(), upgrade, file, &from)
            .map_err(|e| CliError::Machine(e.to_string()))?;
        if is_wanted {
            plans.push(plan);
        }
        from = Release::Upgrade(upgrade.name.clone());
    }
    if let (Some(name), true) = (only, plans.is_empty()) {
        return Err(CliError::usage(
            format!("there is no upgrade \"{name}\" for this node"),
            "See `visor upgrade list`.",
        ));
    }
    match format {
        ShowFormat::Tree if plans.is_empty() => out::data("no upgrade for this node\n"),
        ShowFormat::Tree => {
            let trees: Vec<String> = plans.iter().map(plan_tree).collect();
            out::data(&trees.join("\n"));
        }
        ShowFormat::Json => out::json(&plans),
        ShowFormat::Dot => out::data(&plan_dot(&plans)),
        ShowFormat::Mermaid => out::data(&plan_mermaid(&plans)),
    }
    Ok(Exit::Done)
}

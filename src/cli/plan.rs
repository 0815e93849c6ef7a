//! `visor plan check|diff|show`.

use super::args::{Format, Global, ShowFormat};
use super::context::{Context, set_dir};
use super::error::{CliError, Exit};
use super::out;
use crate::check::{self, platform};
use crate::diag::{Code, Finding, Place, Severity, SourceText, human, json};
use crate::model::Release;
use crate::observe::observe;
use crate::plan::{Diff, Plan, compile_upgrade, diff as compare, diff_text, plan_tree};
use crate::source::read_set;
use std::path::PathBuf;

pub(super) fn check(global: &Global, paths: &[PathBuf], format: Format) -> Result<Exit, CliError> {
    let paths = if paths.is_empty() {
        vec![set_dir(global)]
    } else {
        paths.to_vec()
    };
    let mut sets = Vec::new();
    for path in &paths {
        let set = read_set(path)?;
        if !sets
            .iter()
            .any(|s: &crate::manifest::ManifestSet| s.dir == set.dir)
        {
            sets.push(set);
        }
    }
    let several = sets.len() > 1;
    let mut findings: Vec<Finding> = Vec::new();
    let mut files: Vec<SourceText> = Vec::new();
    for set in sets {
        let offset = files.len();
        let prefix = if several {
            format!("{}/", set.dir.display())
        } else {
            String::new()
        };
        if set.files.is_empty() {
            files.push(SourceText {
                path: set.dir.display().to_string(),
                text: String::new(),
            });
            let help = "Write a manifest, or name the directory of one with --manifests.";
            findings.push(Finding::error(
                Code::Empty,
                Place::new(offset, 0..0),
                "there is no *.toml file here",
                help,
            ));
            continue;
        }
        findings.extend(
            check::check(&set)
                .findings
                .into_iter()
                .map(|f| shifted(f, offset)),
        );
        files.extend(set.files.into_iter().map(|f| SourceText {
            path: format!("{prefix}{}", f.path),
            text: f.text,
        }));
    }
    match format {
        Format::Human => out::data(&human(&findings, &files, out::colour(), out::width())),
        Format::Json => out::data(&json(&findings, &files)),
    }
    let errors = findings.iter().any(|f| f.severity == Severity::Error);
    Ok(if errors { Exit::Findings } else { Exit::Done })
}

/// A finding of a set whose files stand behind those of other sets.
fn shifted(mut finding: Finding, offset: usize) -> Finding {
    finding.place.file += offset;
    for related in &mut finding.related {
        related.place.file += offset;
    }
    finding
}

pub(super) fn diff(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let observed = observe(cx.node(), &cx.host())?;
    let d = compare(cx.node(), &observed, &platform());
    match format {
        Format::Human => out::data(&diff_text(&d)),
        Format::Json => out::json(&d),
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

pub(super) fn show(
    global: &Global,
    only: Option<&str>,
    format: ShowFormat,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let mut from = Release::Genesis;
    let mut plans: Vec<Plan> = Vec::new();
    for upgrade in &cx.node().upgrades {
        let Some(file) = upgrade.artifact.file(&platform()) else {
            return Err(CliError::usage(
                format!(
                    "artifact {} has no file for {}",
                    upgrade.artifact.name,
                    platform()
                ),
                "Add one, or one without `platform`.",
            ));
        };
        let plan = compile_upgrade(cx.node(), upgrade, file, &from)
            .map_err(|e| CliError::Machine(e.to_string()))?;
        if only.is_none_or(|name| name == upgrade.name.as_str()) {
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
        ShowFormat::Tree if plans.is_empty() => out::data("the set has no upgrade for this node\n"),
        ShowFormat::Tree => plans.iter().for_each(|p| out::data(&plan_tree(p))),
        ShowFormat::Json => out::json(&plans),
    }
    Ok(Exit::Done)
}

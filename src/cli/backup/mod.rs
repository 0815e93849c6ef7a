//! `visor backup …`.

mod list;
mod make;

use super::args::{BackupCommand, Global};
use super::context::Context;
use super::error::{CliError, Exit};
use crate::agent::RestoreOptions;
use crate::model::{BackupSpec, GenId};
pub(super) use list::{Backup, Backups};

pub(super) fn backup(global: &Global, command: &BackupCommand) -> Result<Exit, CliError> {
    match command {
        BackupCommand::List { format } => list::list(global, *format),
        BackupCommand::Show { id, format } => list::show(global, id, *format),
        BackupCommand::Create { label, policy } => {
            make::create(global, label.as_deref(), policy.as_deref())
        }
        BackupCommand::Verify { id } => make::verify(global, id),
        BackupCommand::Restore {
            id,
            running,
            verify,
        } => {
            let options = RestoreOptions {
                running: *running,
                verify: *verify,
            };
            make::restore(global, id, options)
        }
        BackupCommand::Prune { policy, dry_run } => {
            make::prune(global, policy.as_deref(), *dry_run)
        }
        BackupCommand::Remove { id } => make::remove(global, id),
        BackupCommand::Pin { id } => make::pin(global, id, true),
        BackupCommand::Unpin { id } => make::pin(global, id, false),
        BackupCommand::Export {
            id,
            file,
            level,
            recipient,
        } => make::export(global, id, file, *level, recipient),
        BackupCommand::Import {
            file,
            label,
            identity,
        } => make::import(global, file, label.as_deref(), identity),
    }
}

/// `latest`, or an id.
fn id_of(cx: &Context, text: &str) -> Result<GenId, CliError> {
    if text == "latest" {
        let newest = crate::backup::sealed_generations(&cx.layout).pop();
        return newest.ok_or_else(|| {
            CliError::usage(
                "there is no sealed generation",
                "`visor backup create` makes one.",
            )
        });
    }
    text.parse().map_err(|_| {
        CliError::usage(
            format!("`{text}` is not the id of a generation"),
            "`visor backup list` shows them; `latest` is the newest that is sealed.",
        )
    })
}

/// A policy of the set by its name, or what holds without one.
fn policy_of(cx: &Context, name: Option<&str>) -> Result<BackupSpec, CliError> {
    let Some(name) = name else {
        return Ok(BackupSpec::built_in());
    };
    let policies = &cx.wish.backups;
    policies
        .iter()
        .find(|p| p.name == name)
        .cloned()
        .ok_or_else(|| {
            let names: Vec<&str> = policies.iter().map(|p| p.name.as_str()).collect();
            let help = match names.as_slice() {
                [] => "The set has none; leave it out for what holds without one.".to_owned(),
                names => format!("There are: {}.", names.join(", ")),
            };
            CliError::usage(format!("there is no backup policy \"{name}\""), help)
        })
}

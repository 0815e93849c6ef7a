//! `visor backup create`, `verify`, `restore`, `prune`, `pin`, `unpin`, `export` and `import`.

use super::super::args::Global;
use super::super::context::{Context, ambient_with_signals};
use super::super::error::{CliError, Exit};
use super::super::out;
use super::{id_of, policy_of};
use crate::agent::{
    BackupJobError, RestoreOptions, create_backup, cut_restore, find_backup, import_backup,
    needed_by_runs, restore_backup, verify_backup,
};
use crate::backup::{self, GenState, Generation, Verdict};
use crate::check::is_recipient;
use crate::host::{Ambient, Baton, Clock as _, RealHost, Releases as _};
use crate::model::{ArchiveFormat, ArchiveSpec, BackupSpec, GenId, Rate};
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host of a command that can be interrupted.
fn host(cx: &Context, command: &str) -> Result<RealHost, CliError> {
    let ambient: Ambient = ambient_with_signals(command)?;
    Ok(RealHost::new(&cx.node().spec, ambient, Baton::default()))
}

fn blocked(what: String, help: &str) -> CliError {
    let help = help.to_owned();
    BackupJobError::Blocked { what, help }.into()
}

/// An id; `latest` is the newest that may be put back.
fn restorable(cx: &Context, id: &str, options: RestoreOptions) -> Result<GenId, CliError> {
    if id != "latest" {
        return id_of(cx, id);
    }
    let all = backup::generations(&cx.layout);
    let fits = |g: &&Generation| {
        matches!(g.state, GenState::Sealed | GenState::Verified)
            && (options.running || !g.is_of_a_running_node())
    };
    all.iter().rfind(fits).map(Generation::id).ok_or_else(|| {
        CliError::usage(
            "there is no generation that can be put back",
            "`visor backup list` shows those that are there, and what is wrong with them.",
        )
    })
}

/// What is going on, on a terminal only.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

pub(super) fn create(
    global: &Global,
    label: Option<&str>,
    policy: Option<&str>,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let policy = BackupSpec {
        label: Some(label.unwrap_or("manual").to_owned()),
        ..policy_of(&cx, policy)?
    };
    let host = host(&cx, "backup create")?;
    let bar = spinner();
    let say = |text: &str| bar.set_message(text.to_owned());
    let made = create_backup(cx.node(), &host, &policy, &say);
    let generation = match made {
        Ok(made) => made,
        Err(error) => {
            bar.finish_and_clear();
            return Err(error.into());
        }
    };
    let found = verify_backup(&host, &generation, policy.rate, &say);
    bar.finish_and_clear();
    tell(&generation, &found?)
}

/// What was made, and whether it is good.
fn tell(generation: &Generation, found: &Verdict) -> Result<Exit, CliError> {
    out::data(&format!("{}\n", generation.id()));
    let size = bytesize::ByteSize(found.bytes);
    out::line(&format!(
        "visor: {} files, {size}, all of them read",
        found.files
    ));
    if generation.record.as_ref().is_some_and(|r| r.running) {
        out::line(
            "visor: the node ran, so the files are of different moments; after `visor stop` they are of one",
        );
    }
    bad_is_an_error(generation.id(), found)
}

fn bad_is_an_error(id: GenId, found: &Verdict) -> Result<Exit, CliError> {
    if found.bad.is_empty() {
        return Ok(Exit::Done);
    }
    for bad in &found.bad {
        out::line(&format!("visor: {bad}"));
    }
    Err(CliError::Machine(format!(
        "generation {id} is bad and is never restored"
    )))
}

pub(super) fn verify(global: &Global, id: &str) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = host(&cx, "backup verify")?;
    let generation = find_backup(&host, id_of(&cx, id)?)?;
    let bar = spinner();
    let found = verify_backup(&host, &generation, Rate::Auto, &|text| {
        bar.set_message(text.to_owned());
    });
    bar.finish_and_clear();
    let found = found?;
    let size = bytesize::ByteSize(found.bytes);
    out::data(&format!(
        "{} files, {size}, {} of them compared with their unchanged sources, {} bad\n",
        found.files,
        found.proved,
        found.bad.len()
    ));
    bad_is_an_error(generation.id(), &found)
}

pub(super) fn restore(
    global: &Global,
    id: &str,
    options: RestoreOptions,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let cut = cut_restore(&cx.host());
    let id = match cut.filter(|_| id == "latest") {
        Some(cut) => cut,
        None => restorable(&cx, id, options)?,
    };
    let _lock = match cx.try_lock("backup restore")? {
        Ok(lock) => lock,
        Err(owner) => {
            let who = owner.map_or("a visor".to_owned(), |o| {
                format!("`visor {}`, pid {}", o.command, o.pid)
            });
            return Err(blocked(
                format!("{who} works on this node"),
                "Stop the node and then that visor first: `visor stop`, then `systemctl stop` of its unit, or TERM. It starts nothing until `visor start`.",
            ));
        }
    };
    let host = host(&cx, "backup restore")?;
    if let Some(run) = crate::observe::run_summaries(&host)
        .map_err(|e| CliError::Machine(e.to_string()))?
        .iter()
        .rfind(|r| r.outcome().is_none())
    {
        return Err(blocked(
            format!("the run of {} is open", run.plan.action.describe()),
            "Let it end first: `visor reconcile`, or `visor reconcile --abort`.",
        ));
    }
    let bar = spinner();
    let release = find_backup(&host, id)
        .ok()
        .and_then(|g| g.release().map(str::to_owned));
    let restored = restore_backup(cx.node(), &host, id, options, &|text| {
        bar.set_message(text.to_owned());
    });
    bar.finish_and_clear();
    let aside = restored?;
    out::data(&format!(
        "generation {id} is in the place of the data; those that were there are in {}\n",
        aside.display()
    ));
    let current = host.current()?.map(|r| r.to_string());
    if let Some(release) = release.filter(|r| current.as_ref() != Some(r)) {
        let current = current.unwrap_or_else(|| "none".into());
        out::line(&format!(
            "visor: these data are of release {release}, and the current release is {current}: see that it can go on with them before you start it"
        ));
    }
    out::line(
        "visor: `visor start` starts the node; `visor backup prune` removes the old data once they are old enough",
    );
    Ok(Exit::Done)
}

pub(super) fn prune(
    global: &Global,
    policy: Option<&str>,
    dry_run: bool,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let policy = policy_of(&cx, policy)?;
    let host = cx.host();
    let needed = needed_by_runs(&host)?;
    let found = backup::superfluous(&cx.layout, &policy, &needed, host.now());
    for path in &found {
        out::data(&format!("{}\n", path.display()));
    }
    if dry_run {
        out::line(&format!("visor: {} would be removed", found.len()));
        return Ok(Exit::Done);
    }
    let removed = backup::remove_each(&cx.layout, found.into_iter());
    let removed = removed.map_err(BackupJobError::from)?;
    out::line(&format!("visor: {removed} removed"));
    Ok(Exit::Done)
}

pub(super) fn remove(global: &Global, id: &str) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = cx.host();
    let generation = find_backup(&host, id_of(&cx, id)?)?;
    let id = generation.id();
    if needed_by_runs(&host)?.contains(&id) {
        return Err(blocked(
            format!("the open run may have to go back to generation {id}"),
            "Let the run end first: `visor status`.",
        ));
    }
    let refuse = |what: &str, help: &str| {
        Err(CliError::usage(
            format!("generation {id} is {what}"),
            help.to_owned(),
        ))
    };
    match generation.state {
        _ if generation.pinned => return refuse("pinned", "Unpin it first."),
        GenState::Part => {
            return refuse("half-made", "Who makes it, or the next upgrade, sweeps it.");
        }
        GenState::Consumed => {
            return refuse(
                "used up by a restore that was cut off",
                "Let the restore end first.",
            );
        }
        GenState::Sealed | GenState::Verified | GenState::Bad => {}
    }
    backup::remove(&cx.layout, &generation.paths.done).map_err(BackupJobError::from)?;
    out::data(&format!("{id} is removed\n"));
    Ok(Exit::Done)
}

pub(super) fn pin(global: &Global, id: &str, pinned: bool) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let generation = find_backup(&cx.host(), id_of(&cx, id)?)?;
    sealed(&generation)?;
    backup::pin(&generation.paths, pinned).map_err(BackupJobError::from)?;
    let word = if pinned { "pinned" } else { "no longer pinned" };
    out::data(&format!("{} is {word}\n", generation.id()));
    Ok(Exit::Done)
}

fn sealed(generation: &Generation) -> Result<(), CliError> {
    match generation.state {
        GenState::Sealed | GenState::Verified => Ok(()),
        other => Err(CliError::usage(
            format!("generation {} is {}", generation.id(), other.word()),
            "Only sealed ones can be pinned and exported: `visor backup list`.",
        )),
    }
}

pub(super) fn export(
    global: &Global,
    id: &str,
    file: &Path,
    level: Option<i32>,
    recipients: &[String],
) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = host(&cx, "backup export")?;
    let generation = find_backup(&host, id_of(&cx, id)?)?;
    sealed(&generation)?;
    let format = backup::format_of(file).ok_or_else(|| {
        CliError::usage(
            format!(
                "{} has no ending that says how it is compressed",
                file.display()
            ),
            "Give it one of .tar.zst, .tar.gz and .tar, with .age behind it if it is to be encrypted.",
        )
    })?;
    // It may be a secret key, so it is not repeated.
    if !recipients.iter().all(|key| is_recipient(key)) {
        return Err(CliError::usage(
            "a recipient is no public key of age",
            "Name one as `age-keygen` prints it, age1…, or an SSH key in quotes.",
        ));
    }
    if backup::is_encrypted(file) == recipients.is_empty() {
        return Err(match recipients {
            [] => CliError::usage(
                format!("{} is to be encrypted, and nobody is named", file.display()),
                "Name public keys: --recipient age1….",
            ),
            _ => CliError::usage(
                format!("{} does not say that it is encrypted", file.display()),
                "Let its name end with .age.",
            ),
        });
    }
    let pace = |_| match host.interrupted() {
        true => Err(backup::BackupError::Interrupted),
        false => Ok(()),
    };
    let how = ArchiveSpec {
        format,
        level: level.unwrap_or(ArchiveFormat::DEFAULT_LEVEL),
        to: None,
        recipients: recipients.to_owned(),
    };
    let bytes =
        backup::export(&generation.paths, file, &how, &pace).map_err(BackupJobError::from)?;
    let size = bytesize::ByteSize(bytes);
    out::data(&format!("{}: {size}\n", file.display()));
    Ok(Exit::Done)
}

pub(super) fn import(
    global: &Global,
    file: &Path,
    label: Option<&str>,
    identities: &[PathBuf],
) -> Result<Exit, CliError> {
    if !backup::is_encrypted(file) && !identities.is_empty() {
        return Err(CliError::usage(
            format!("{} does not say that it is encrypted", file.display()),
            "Let its name end with .age, or leave --identity out.",
        ));
    }
    if backup::is_encrypted(file) && identities.is_empty() {
        return Err(CliError::usage(
            format!("{} is encrypted", file.display()),
            "Name the file with the secret key: --identity FILE.",
        ));
    }
    let cx = Context::open(global)?;
    let host = host(&cx, "backup import")?;
    let policy = BackupSpec {
        label: Some(label.unwrap_or("imported").to_owned()),
        ..BackupSpec::built_in()
    };
    let generation = import_backup(cx.node(), &host, file, identities, &policy)?;
    let found = verify_backup(&host, &generation, policy.rate, &|_| {})?;
    tell(&generation, &found)
}

//! The command line: arguments, one file a family of commands, exit codes.
//!
//! Data go to stdout, everything else to stderr.

mod args;
mod backup;
mod batch;
mod check;
mod context;
mod error;
mod history;
mod import;
mod init;
mod logs;
mod node;
mod out;
mod plan;
mod reach;
mod reconcile;
mod rehearse;
mod report;
mod resolve;
mod saved;
mod schemas;
mod status;
mod systemd;
mod timeline;
mod upgrade;

pub use schemas::SchemaOf;

use crate::process::is_first;
use args::{Args, Command, HistoryCommand, PlanCommand, UpgradeCommand};
use clap::Parser as _;
use error::{CliError, Exit};
use std::path::Path;
use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return code.into();
        }
    };
    match run(args) {
        Ok(Done::Exit(exit)) => exit.into(),
        Ok(Done::Code(code)) => code,
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}

/// The end of a command: one of visor's exit codes, or that of a program it has become.
enum Done {
    Exit(Exit),
    Code(ExitCode),
}

fn run(args: Args) -> Result<Done, CliError> {
    let global = args.global;
    let exit = match args.command {
        Command::Plan(PlanCommand::Check(options)) => check::check(&global, &options)?,
        Command::Plan(PlanCommand::Diff { format, out }) => {
            plan::diff(&global, format, out.as_deref())?
        }
        Command::Plan(PlanCommand::Show { upgrade, format }) => {
            plan::show(&global, upgrade.as_deref(), format)?
        }
        Command::Reconcile(options) => reconcile::reconcile(&global, &options)?,
        Command::Run if is_first() => return reconcile::run_as_container().map(Done::Code),
        Command::Run => reconcile::run(&global)?,
        Command::Start { release } => node::start(&global, release.as_deref())?,
        Command::Stop { reason } => node::stop(&global, &reason)?,
        Command::Restart { reason } => node::restart(&global, &reason)?,
        Command::Logs(options) => logs::logs(&global, &options)?,
        Command::Hold { reason, r#for } => node::hold(&global, &reason, r#for.as_deref())?,
        Command::ReleaseHold => node::release_hold(&global)?,
        Command::Status { watch, format } => status::status(&global, format, watch)?,
        Command::Upgrade(UpgradeCommand::Approve { name }) => upgrade::approve(&global, &name)?,
        Command::Upgrade(UpgradeCommand::Retry { name }) => upgrade::retry(&global, &name)?,
        Command::Upgrade(UpgradeCommand::List { format }) => upgrade::list(&global, format)?,
        Command::History {
            command: None,
            format,
        } => history::list(&global, format)?,
        Command::History {
            command: Some(HistoryCommand::Show { run, format }),
            ..
        } => history::show(&global, &run, format)?,
        Command::Batch(command) => batch::batch(&global, &command)?,
        Command::Backup(command) => backup::backup(&global, &command)?,
        Command::Resolve { answer, reason } => resolve::resolve(&global, answer, &reason)?,
        Command::Rehearse(options) => rehearse::rehearse(&global, &options)?,
        Command::Init {
            kind: Some(kind),
            dir,
            ..
        } => {
            let dir = dir.as_deref().or(global.manifests.as_deref());
            init::init(dir.unwrap_or(Path::new("manifests")), kind)?
        }
        Command::Init { systemd: dir, .. } => {
            systemd::init_unit(&global, dir.as_deref().unwrap_or(Path::new(".")))?
        }
        Command::Explain { code } => check::explain(code.as_deref())?,
        Command::Schema { of } => {
            out::data(&of.text());
            Exit::Done
        }
        Command::Devnode(options) => return node::devnode(options).map(Done::Code),
        Command::Shim {
            root,
            start,
            second_stage,
        } => {
            let stage = if second_stage {
                crate::node::ShimStage::Second
            } else {
                crate::node::ShimStage::Parent
            };
            return Ok(Done::Code(crate::node::shim_main(
                &crate::store::Layout::new(&root),
                start,
                stage,
            )));
        }
        Command::HookExec {
            record,
            number,
            argv,
        } => {
            return Ok(Done::Code(crate::hook::hook_exec_main(
                &record, number, &argv,
            )));
        }
    };
    Ok(Done::Exit(exit))
}

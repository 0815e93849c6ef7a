//! `visor start|stop|hold|release-hold|devnode`.

use super::args::{DevnodeCommand, DevnodeOptions, Global};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use super::reach::Reach;
use super::reconcile::one_pass;
use super::report::Lines;
use crate::agent::{AgentError, start_node, stop_node};
use crate::check::{duration, platform};
use crate::control::{Request, restart_is_possible};
use crate::devnode::{DevnodeConfig, check_data, run_devnode};
use crate::engine::{Advance, Run, create};
use crate::host::{RealHost, StopReport};
use crate::model::{Release, rfc3339};
use crate::observe::{ObserveError, run_summaries};
use crate::plan::{Liveness, compile_install};
use crate::release::read_current;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn start(global: &Global, release: Option<&str>) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let reach = Reach::new(&cx)?;
    if let Some(visor) = reach.visor() {
        if release.is_some() {
            return Err(said_too_late());
        }
        reach.ask(&Request::Start {})?;
        asked(visor.pid, "start the node");
        return await_start(&reach);
    }
    match cx.try_lock("start")? {
        Ok(_lock) => {
            let host = cx.host_of("start");
            if let Some(open) = open_run(&host)? {
                if release.is_some() {
                    let help = "`visor reconcile` finishes it.";
                    return Err(CliError::usage(format!("run {open} is not finished"), help));
                }
                reach.ask(&Request::Start {})?;
                out::line(&format!("visor: run {open} goes on, and starts the node"));
                drop(reach);
                return one_pass(cx);
            }
            if let Some(name) = release {
                say_release(&cx, &host, name)?;
            }
            let current = read_current(&cx.layout).map_err(|e| CliError::Machine(e.to_string()))?;
            if current.is_none() {
                return Err(CliError::usage(
                    "the node has no release yet",
                    "`visor reconcile` installs the manifest's `genesis`; for data that exist say `visor start --release NAME`.",
                ));
            }
            reach.ask(&Request::Start {})?;
            let started = start_node(cx.node(), &host)?;
            report_running(&reach, started)
        }
        Err(_) if release.is_some() => Err(said_too_late()),
        Err(owner) => {
            reach.ask(&Request::Start {})?;
            asked(owner.map_or(0, |o| o.pid), "start the node");
            await_start(&reach)
        }
    }
}

fn said_too_late() -> CliError {
    CliError::usage(
        "a visor works on this node, so its first release cannot be said now",
        "Stop `visor run`, say it, and start it again.",
    )
}

fn asked(pid: impl std::fmt::Display, what: &str) {
    out::line(&format!("visor: asked the visor of pid {pid} to {what}"));
}

fn await_start(reach: &Reach<'_>) -> Result<Exit, CliError> {
    reach.wait_for(Duration::from_secs(30), |state| {
        matches!(state, Liveness::Running { .. })
    })?;
    report_running(reach, true)
}

fn report_running(reach: &Reach<'_>, started: bool) -> Result<Exit, CliError> {
    match reach.node()? {
        Liveness::Running { pid, since } => {
            let word = if started { "started" } else { "runs already" };
            out::line(&format!(
                "visor: the node {word}, pid {pid}, since {}",
                rfc3339(since)
            ));
            Ok(Exit::Done)
        }
        Liveness::Stopped { exit } => {
            let exit = exit.unwrap_or_else(|| "exit status unknown".into());
            out::line(&format!(
                "visor: the node does not run: {exit}\n  `visor logs` shows what it wrote, `visor status` what is next"
            ));
            Ok(Exit::Blocked)
        }
        Liveness::Unclear { why } => {
            out::line(&format!("visor: {why}"));
            Ok(Exit::Blocked)
        }
    }
}

/// Installs the release that a person says the data belong to.
fn say_release(cx: &Context, host: &RealHost, name: &str) -> Result<(), CliError> {
    if let Ok(Some(current)) = read_current(&cx.layout) {
        return Err(CliError::usage(
            format!("the node has a release already: {current}"),
            "Upgrades change it; --release is for a node that has data and no `current` link.",
        ));
    }
    let known = || {
        cx.node()
            .upgrades
            .iter()
            .map(|u| u.name.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (release, artifact) = if name == "genesis" {
        (Release::Genesis, cx.node().genesis.as_ref())
    } else {
        let upgrade = cx.node().upgrades.iter().find(|u| u.name.as_str() == name);
        let upgrade = upgrade.ok_or_else(|| {
            CliError::usage(
                format!("there is no release \"{name}\""),
                format!("Say `genesis` or one of: {}.", known()),
            )
        })?;
        (
            Release::Upgrade(upgrade.name.clone()),
            Some(&upgrade.artifact),
        )
    };
    let file = artifact.and_then(|a| a.file(&platform())).ok_or_else(|| {
        CliError::usage(
            format!("release {name} has no artifact for {}", platform()),
            "Add one to the set.",
        )
    })?;
    let plan =
        compile_install(cx.node(), file, &release).map_err(|e| CliError::Machine(e.to_string()))?;
    let run = create(host, &plan).map_err(crate::agent::AgentError::from)?;
    let mut report = Lines::new();
    match Run::recover(host, run)
        .and_then(|mut r| r.advance(&mut report))
        .map_err(crate::agent::AgentError::from)?
    {
        Advance::Closed(crate::journal::Outcome::Committed, _) => Ok(()),
        Advance::Closed(_, detail) => Err(CliError::Machine(detail)),
        other => Err(CliError::Machine(format!(
            "the release could not be installed: {other:?}"
        ))),
    }
}

/// The open run and what it is for.
fn open_run(host: &RealHost) -> Result<Option<String>, CliError> {
    let runs = run_summaries(host).map_err(ObserveError::from)?;
    let open = runs.iter().rfind(|r| r.is_open());
    Ok(open.map(|r| format!("{} ({})", r.run, r.plan.action.describe())))
}

pub(super) fn stop(global: &Global, reason: &str) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let reach = Reach::new(&cx)?;
    let reason = reason.to_owned();
    reach.ask(&Request::Stop { reason })?;
    if let Some(visor) = reach.visor() {
        asked(visor.pid, "stop the node");
    } else {
        match cx.try_lock("stop")? {
            Ok(_lock) => return stop_here(&cx),
            Err(owner) => asked(owner.map_or(0, |o| o.pid), "stop the node"),
        }
    }
    let is_stopped = |state: &Liveness| matches!(state, Liveness::Stopped { .. });
    if reach.wait_for(grace(&cx), is_stopped)? {
        out::line("visor: the node is stopped; it stays so until `visor start`");
        Ok(Exit::Done)
    } else {
        out::line("visor: the node lives still; `visor status` shows what visor waits for");
        Ok(Exit::Blocked)
    }
}

/// How long a stop may take, with some time to begin it.
fn grace(cx: &Context) -> Duration {
    let stop = &cx.node().spec.stop;
    stop.grace + stop.dump + Duration::from_secs(30)
}

fn stop_here(cx: &Context) -> Result<Exit, CliError> {
    let Some(report) = stop_in_run(cx, &cx.host())? else {
        out::line(
            "visor: TERM was sent, and the node lives after its grace; the manifest does not allow more",
        );
        return Ok(Exit::Stuck);
    };
    let exit = report.exit.unwrap_or_else(|| "no exit record".into());
    out::line(&format!(
        "visor: the node is stopped ({exit}); it stays so until `visor start`"
    ));
    Ok(Exit::Done)
}

pub(super) fn restart(global: &Global, reason: &str) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let reach = Reach::new(&cx)?;
    let old = reach.node()?;
    if reach.visor().is_none() {
        restart_is_possible(&cx.host())?;
        if let Ok(_lock) = cx.try_lock("restart")? {
            return restart_here(&cx, &reach, &old);
        }
    }
    let reason = reason.to_owned();
    let noted = reach.ask(&Request::Restart { reason })?;
    out::line(&format!("visor: asked `visor run`: {}", noted.said));
    let is_new = |state: &Liveness| matches!(state, Liveness::Running { .. }) && *state != old;
    if reach.wait_for(grace(&cx), is_new)? {
        return report_running(&reach, true);
    }
    out::line(
        "visor: the node is not yet started again; `visor status` shows what visor waits for",
    );
    Ok(Exit::Blocked)
}

fn restart_here(cx: &Context, reach: &Reach<'_>, old: &Liveness) -> Result<Exit, CliError> {
    if !matches!(old, Liveness::Running { .. }) {
        return Err(CliError::usage(
            "the node does not run, so it cannot be restarted",
            "Say `visor start`.",
        ));
    }
    let host = cx.host();
    if stop_node(cx.node(), &host)?.is_none() {
        out::line(
            "visor: TERM was sent, and the node lives after its grace; the manifest does not allow more",
        );
        return Ok(Exit::Stuck);
    }
    let started = start_node(cx.node(), &host)?;
    report_running(reach, started)
}

/// Stops the node; an open run is told first that the node's death is ours.
fn stop_in_run(cx: &Context, host: &RealHost) -> Result<Option<StopReport>, CliError> {
    let runs = run_summaries(host).map_err(ObserveError::from)?;
    if let Some(open) = runs.iter().rfind(|r| r.is_open()) {
        let paused = Run::recover(host, open.run).and_then(|mut run| run.paused("visor stop"));
        paused.map_err(AgentError::from)?;
    }
    Ok(stop_node(cx.node(), host)?)
}

pub(super) fn hold(global: &Global, reason: &str, time: Option<&str>) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let wrong = |text| {
        let help = "Write for example --for 2h.";
        CliError::usage(format!("`--for {text}` is not a duration"), help)
    };
    let time = time
        .map(|text| duration(text).ok_or_else(|| wrong(text)))
        .transpose()?;
    let noted = Reach::new(&cx)?.ask(&Request::Hold {
        reason: reason.to_owned(),
        for_ms: time.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
    })?;
    out::line(&format!("visor: {}", noted.said));
    Ok(Exit::Done)
}

pub(super) fn release_hold(global: &Global) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let noted = Reach::new(&cx)?.ask(&Request::ReleaseHold {})?;
    out::line(&format!("visor: {}", noted.said));
    Ok(Exit::Done)
}

pub(super) fn devnode(options: DevnodeOptions) -> Result<ExitCode, CliError> {
    if let Some(DevnodeCommand::Check { dir }) = &options.command {
        let report =
            check_data(dir).map_err(|e| CliError::Machine(format!("{}: {e}", dir.display())))?;
        out::json(&report);
        return Ok(if report.mistakes.is_empty() {
            Exit::Done
        } else {
            Exit::Findings
        }
        .into());
    }
    let ms = Duration::from_millis;
    let config = DevnodeConfig {
        data: options.data,
        port: options.port,
        release: options.release,
        block: ms(options.block_ms.max(1)),
        start: ms(options.start_ms),
        stop: ms(options.stop_ms),
        fault: options.fault,
        fill: options.fill,
        signed_log: options.signed_log,
        faults: options.faults,
        say_blocks: options.say_blocks,
    };
    run_devnode(&config).map_err(|e| CliError::Machine(format!("devnode: {e}")))?;
    Ok(ExitCode::SUCCESS)
}

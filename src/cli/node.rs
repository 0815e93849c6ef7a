//! `visor start|stop|hold|release-hold|devnode`.

use super::args::{DevnodeCommand, DevnodeOptions, Global};
use super::context::{Context, person};
use super::error::{CliError, Exit};
use super::out;
use super::reconcile::one_pass;
use super::report::Lines;
use crate::agent::{AgentError, start_node, stop_node};
use crate::check::{duration, platform};
use crate::devnode::{DevnodeConfig, check_data, run_devnode};
use crate::engine::{Advance, Run, create};
use crate::host::{NodeState, Nodes as _, RealHost, StopReport, wall_clock};
use crate::model::{Release, rfc3339};
use crate::observe::{ObserveError, run_summaries};
use crate::plan::{Hold, StopOverride, compile_install};
use crate::release::read_current;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn start(global: &Global, release: Option<&str>) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    match cx.try_lock("start")? {
        Ok(_lock) => {
            let host = cx.host();
            if let Some(open) = open_run(&host)? {
                if release.is_some() {
                    let help = "`visor reconcile` finishes it.";
                    return Err(CliError::usage(format!("run {open} is not finished"), help));
                }
                cx.override_("start", |now| now.stop = None)?;
                out::line(&format!("visor: run {open} goes on, and starts the node"));
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
            cx.override_("start", |now| now.stop = None)?;
            let started = start_node(cx.node(), &host)?;
            report_running(&host, started)
        }
        Err(_) if release.is_some() => Err(CliError::usage(
            "a visor works on this node, so its first release cannot be said now",
            "Stop `visor run`, say it, and start it again.",
        )),
        Err(owner) => {
            cx.override_("start", |now| now.stop = None)?;
            let who = owner.map_or(0, |o| o.pid);
            out::line(&format!(
                "visor: asked the visor of pid {who} to start the node"
            ));
            let host = cx.host();
            wait_for(&host, Duration::from_secs(30), |state| {
                matches!(state, NodeState::Running { .. })
            })?;
            report_running(&host, true)
        }
    }
}

fn report_running(host: &RealHost, started: bool) -> Result<Exit, CliError> {
    match host.node()? {
        NodeState::Running { pid, since, .. } => {
            let word = if started { "started" } else { "runs already" };
            out::line(&format!(
                "visor: the node {word}, pid {pid}, since {}",
                rfc3339(since)
            ));
            Ok(Exit::Done)
        }
        NodeState::Gone { exit, .. } => {
            let exit = exit.unwrap_or_else(|| "exit status unknown".into());
            out::line(&format!(
                "visor: the node does not run: {exit}\n  Its log is {}",
                host.layout.log().display()
            ));
            Ok(Exit::Blocked)
        }
        NodeState::Unclear { why } => {
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
    let stop = StopOverride {
        reason: reason.to_owned(),
        by: person(),
        at: wall_clock(),
    };
    cx.override_("stop", |now| now.stop = Some(stop))?;
    let host = cx.host();
    match cx.try_lock("stop")? {
        Ok(_lock) => match stop_in_run(&cx, &host)? {
            Some(report) => {
                let exit = report.exit.unwrap_or_else(|| "no exit record".into());
                out::line(&format!(
                    "visor: the node is stopped ({exit}); it stays so until `visor start`"
                ));
                Ok(Exit::Done)
            }
            None => {
                out::line(
                    "visor: TERM was sent, and the node lives after its grace; the manifest does not allow more",
                );
                Ok(Exit::Stuck)
            }
        },
        Err(owner) => {
            let who = owner.map_or(0, |o| o.pid);
            out::line(&format!(
                "visor: asked the visor of pid {who} to stop the node"
            ));
            let grace =
                cx.node().spec.stop.grace + cx.node().spec.stop.dump + Duration::from_secs(30);
            if wait_for(&host, grace, |state| {
                matches!(state, NodeState::Gone { .. })
            })? {
                out::line("visor: the node is stopped; it stays so until `visor start`");
                Ok(Exit::Done)
            } else {
                out::line("visor: the node lives still; `visor status` shows what visor waits for");
                Ok(Exit::Blocked)
            }
        }
    }
}

pub(super) fn restart(global: &Global, reason: &str) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = cx.host();
    let runs = run_summaries(&host).map_err(ObserveError::from)?;
    if let Some(open) = runs.iter().rfind(|r| r.is_open() && !r.waits()) {
        let open = format!("{} ({})", open.run, open.plan.action.describe());
        let help = "`visor status` shows what it waits for; `visor stop` and `visor start` work at any time.";
        return Err(CliError::usage(format!("run {open} is not finished"), help));
    }
    let NodeState::Running {
        start: old, pid, ..
    } = host.node()?
    else {
        return Err(CliError::usage(
            "the node does not run, so it cannot be restarted",
            "Say `visor start`.",
        ));
    };
    if let Ok(_lock) = cx.try_lock("restart")? {
        if stop_node(cx.node(), &host)?.is_none() {
            out::line(
                "visor: TERM was sent, and the node lives after its grace; the manifest does not allow more",
            );
            return Ok(Exit::Stuck);
        }
        let started = start_node(cx.node(), &host)?;
        return report_running(&host, started);
    }
    cx.override_(&format!("restart: {reason}"), |now| now.restart = Some(old))?;
    out::line(&format!("visor: asked `visor run` to restart pid {pid}"));
    let stop = &cx.node().spec.stop;
    let time = stop.grace + stop.dump + Duration::from_secs(30);
    let is_done = wait_for(
        &host,
        time,
        |state| matches!(state, NodeState::Running { start, .. } if *start != old),
    )?;
    if is_done {
        cx.override_("restarted", |now| now.restart = None)?;
        return report_running(&host, true);
    }
    out::line(
        "visor: the node is not yet started again; `visor status` shows what visor waits for",
    );
    Ok(Exit::Blocked)
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

/// True once the node's state is as wanted; false when the time is over.
fn wait_for(
    host: &RealHost,
    time: Duration,
    wanted: impl Fn(&NodeState) -> bool,
) -> Result<bool, CliError> {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        if wanted(&host.node()?) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

pub(super) fn hold(global: &Global, reason: &str, time: Option<&str>) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let until = match time {
        None => None,
        Some(text) => {
            let time = duration(text).ok_or_else(|| {
                CliError::usage(
                    format!("`--for {text}` is not a duration"),
                    "Write for example --for 2h.",
                )
            })?;
            Some(wall_clock() + u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2))
        }
    };
    let hold = Hold {
        reason: reason.to_owned(),
        by: person(),
        at: wall_clock(),
        until,
    };
    cx.override_("hold", |now| now.hold = Some(hold))?;
    let until = until
        .map(|u| format!(" until {}", rfc3339(u)))
        .unwrap_or_default();
    out::line(&format!(
        "visor: no upgrade begins{until}; `visor release-hold` ends it"
    ));
    Ok(Exit::Done)
}

pub(super) fn release_hold(global: &Global) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let mut was = false;
    cx.override_("release-hold", |now| was = now.hold.take().is_some())?;
    out::line(if was {
        "visor: the hold is ended"
    } else {
        "visor: there was no hold"
    });
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

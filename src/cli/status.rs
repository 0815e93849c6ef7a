//! `visor status`: what is, what should be, what visor waits for.

use super::args::{Format, Global};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use crate::backup::sealed_generations;
use crate::check::platform;
use crate::host::{Clock as _, RealHost};
use crate::journal::Stage;
use crate::model::{human_ms, rfc3339};
use crate::node::last_lines;
use crate::observe::{ObserveError, observe, run_summaries};
use crate::plan::{Diff, Fact, Liveness, Observed, diff, wrapped};
use crate::store::{Owner, StateLock};
use schemars::JsonSchema;
use serde::Serialize;

/// The format of the JSON form. 1: first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Status {
    version: u32,
    node: String,
    root: String,
    current: Option<String>,
    process: Liveness,
    chain: Option<ChainStatus>,
    visor: Option<Owner>,
    run: Option<RunStatus>,
    last_run: Option<LastRun>,
    backups: Vec<String>,
    /// The end of the node's log, when the node does not run.
    last_output: Vec<String>,
    /// Variables of the peers that are set; the manifests win over them.
    peers_variables: Vec<String>,
    diff: Diff,
}

#[derive(Serialize, JsonSchema)]
struct ChainStatus {
    head: Fact<u64>,
    syncing: Fact<bool>,
    head_age_ms: Fact<u64>,
}

#[derive(Serialize, JsonSchema)]
struct RunStatus {
    run: String,
    what: String,
    stage: String,
    stuck_at: Option<String>,
    reason: Option<String>,
    done: usize,
    steps: usize,
}

#[derive(Serialize, JsonSchema)]
struct LastRun {
    run: String,
    what: String,
    outcome: String,
    detail: String,
    at: u64,
}

pub(super) fn status(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = cx.host();
    let observed = observe(cx.node(), &host)?;
    let status = gather(&cx, &host, &observed)?;
    match format {
        Format::Json => out::json(&status),
        Format::Human => out::data(&text(&status, host.now())),
    }
    Ok(if observed.open_run.is_some_and(|r| r.stuck.is_some()) {
        Exit::Stuck
    } else {
        Exit::Done
    })
}

fn gather(cx: &Context, host: &RealHost, observed: &Observed) -> Result<Status, CliError> {
    let runs = run_summaries(host).map_err(ObserveError::from)?;
    let run = runs.iter().rfind(|r| r.is_open()).map(|r| {
        let stuck = if let Stage::Stuck(at) = &r.status.stage {
            Some(at)
        } else {
            None
        };
        RunStatus {
            run: r.run.to_string(),
            what: r.plan.action.describe(),
            stage: r.status.stage.word().to_owned(),
            stuck_at: stuck.map(|at| {
                r.plan
                    .step(&at.step)
                    .map_or_else(|| at.step.to_string(), |s| s.name.clone())
            }),
            reason: stuck.map(|at| at.reason.clone()),
            done: r.status.done.len(),
            steps: r.plan.steps.len(),
        }
    });
    let last_run = runs.iter().rfind(|r| !r.is_open()).and_then(|r| {
        let (outcome, detail) = r.outcome()?;
        let outcome = serde_json::to_value(outcome).ok()?.as_str()?.to_owned();
        Some(LastRun {
            run: r.run.to_string(),
            what: r.plan.action.describe(),
            outcome,
            detail: detail.to_owned(),
            at: r.ended_at,
        })
    });
    let has_chain = cx.node().spec.chain != crate::model::ChainSpec::None;
    let age = match &observed.chain.head_age {
        Fact::Known(age) => Fact::Known(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        Fact::Unknown(why) => Fact::Unknown(why.clone()),
    };
    Ok(Status {
        version: 1,
        node: cx.node().spec.name.to_string(),
        root: cx.layout.root.display().to_string(),
        current: observed
            .current
            .known()
            .cloned()
            .flatten()
            .map(|r| r.to_string()),
        process: observed.node.clone(),
        chain: has_chain.then(|| ChainStatus {
            head: observed.chain.head.clone(),
            syncing: observed.chain.syncing.clone(),
            head_age_ms: age,
        }),
        visor: StateLock::holder(&cx.layout),
        run,
        last_run,
        backups: sealed_generations(&cx.layout)
            .iter()
            .map(ToString::to_string)
            .collect(),
        last_output: match &observed.node {
            Liveness::Stopped { exit: Some(_) } => last_lines(&cx.layout, LAST_LINES)?,
            _ => vec![],
        },
        peers_variables: super::context::peers_variables(),
        diff: diff(cx.node(), observed, &platform()),
    })
}

/// Lines of the log that are shown.
const LAST_LINES: usize = 5;

fn text(s: &Status, now: u64) -> String {
    let mut out = String::new();
    let mut row = |key: &str, value: &str| {
        out.push_str(&wrapped(&format!("{key:<9} "), &" ".repeat(10), value));
    };
    row("node", &s.node);
    row("root", &s.root);
    row("release", s.current.as_deref().unwrap_or("none"));
    row(
        "process",
        &match &s.process {
            Liveness::Running { pid, since } => format!(
                "running, pid {pid}, for {}",
                human_ms(now.saturating_sub(*since))
            ),
            Liveness::Stopped { exit } => format!(
                "not running ({})",
                exit.as_deref().unwrap_or("no exit record")
            ),
            Liveness::Unclear { why } => format!("not clear: {why}"),
        },
    );
    for (i, line) in s.last_output.iter().enumerate() {
        row(if i == 0 { "last log" } else { "" }, line);
    }
    if let Some(chain) = &s.chain {
        let age = match &chain.head_age_ms {
            Fact::Known(ms) => format!("{} old", human_ms(*ms)),
            Fact::Unknown(_) => "age unknown".into(),
        };
        row(
            "chain",
            &match &chain.head {
                // The rest is unknown for the same reason.
                Fact::Unknown(why) => format!("unknown: {why}"),
                Fact::Known(head) => format!("head {head}, {age}, syncing {}", chain.syncing),
            },
        );
    }
    row(
        "visor",
        &s.visor.as_ref().map_or_else(
            || "none works on this node now".into(),
            |o| {
                format!(
                    "`visor {}`, pid {}, since {}",
                    o.command,
                    o.pid,
                    rfc3339(o.since)
                )
            },
        ),
    );
    if let Some(run) = &s.run {
        row(
            "run",
            &format!(
                "{} · {} · {} · {} of {} steps",
                run.run, run.what, run.stage, run.done, run.steps
            ),
        );
        if let (Some(at), Some(reason)) = (&run.stuck_at, &run.reason) {
            row("stuck", &format!("at {at}: {reason}"));
        }
    }
    if let Some(last) = &s.last_run {
        row(
            "last run",
            &format!(
                "{} · {} · {} · {}",
                last.run,
                last.what,
                last.outcome,
                rfc3339(last.at)
            ),
        );
        for line in last.detail.lines().take(8) {
            row("", line.trim_end());
        }
    }
    row(
        "backups",
        &if s.backups.is_empty() {
            "none".into()
        } else {
            s.backups.join(", ")
        },
    );
    if !s.peers_variables.is_empty() {
        row(
            "ignored",
            &format!("{}: the manifests win", s.peers_variables.join(", ")),
        );
    }
    let diff = crate::plan::diff_text(&s.diff);
    let rest = diff.split_once('\n').map_or("", |(_, rest)| rest);
    out.push_str(rest);
    out
}

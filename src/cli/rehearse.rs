//! `visor rehearse`.

use super::args::{Format, Global, RehearseOptions};
use super::context::{ambient_with_signals, set_dir};
use super::error::{CliError, Exit};
use super::out;
use super::reconcile::tell;
use super::report::Lines;
use super::timeline::{LEGEND, timeline_text};
use crate::agent::{Pass, PassEnd, Patience, Wish, stop_node};
use crate::devnode::check_data;
use crate::durable::PathError;
use crate::engine::{Timeline, status_of, timeline};
use crate::host::{Ambient, Baton, Journals as _, RealHost, wall_clock};
use crate::journal::Outcome;
use crate::model::human_ms;
use crate::observe::run_summaries;
use crate::plan::{Action, Approval};
use crate::rehearse::{Probe, Silence, Staged, stage};
use crate::store::{Layout, OverrideChange, StateLock, edit_overrides};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

#[derive(Serialize, JsonSchema)]
pub(super) struct Rehearsal {
    version: u32,
    node: String,
    replaced: Vec<String>,
    outcome: &'static str,
    runs: Vec<RehearsedRun>,
    /// Whether the node's data prove themselves after the last stop; absent where no devnode ran.
    data_whole: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct RehearsedRun {
    what: String,
    outcome: String,
    detail: String,
    timeline: Timeline,
    /// The silence of the RPC around the stop, as a client saw it.
    silence: Option<Silence>,
}

/// A rehearsal that has not ended by then never will.
const LONGEST_MS: u64 = 10 * 60 * 1000;
/// Shorter silences are the prober's own.
const LEAST_SILENCE: Duration = Duration::from_millis(20);

pub(super) fn rehearse(global: &Global, options: &RehearseOptions) -> Result<Exit, CliError> {
    let dir = options.set.clone().unwrap_or_else(|| set_dir(global));
    let wish = Wish::read(&dir, global.node.as_deref())?;
    let temporary = tempfile::Builder::new()
        .prefix("visor-rehearsal-")
        .tempdir()
        .map_err(|source| PathError {
            what: "make a temporary directory below",
            path: std::env::temp_dir(),
            source,
        })?;
    let staged = stage(wish.node, temporary.path(), options.bad)?;
    let rehearsed = perform(staged, options.format)?;
    if options.keep {
        out::line(&format!("visor: kept in {}", temporary.keep().display()));
    }
    Ok(rehearsed)
}

fn perform(staged: Staged, format: Format) -> Result<Exit, CliError> {
    let Staged {
        node,
        replaced,
        approve,
    } = staged;
    out::line(&format!(
        "rehearsal of node {} in {}",
        node.spec.name,
        node.spec.home.display()
    ));
    for line in &replaced {
        out::line(&format!("  replaced: {line}"));
    }
    let layout = Layout::new(&node.spec.root);
    let _lock = StateLock::acquire(&layout, "rehearse", wall_clock())?;
    for name in approve {
        out::line(&format!(
            "  approved: upgrade {name}, which waits for a person"
        ));
        let approval = Approval {
            upgrade: name.clone(),
            by: "the rehearsal".into(),
            at: wall_clock(),
        };
        let change = OverrideChange::new(wall_clock(), "the rehearsal", format!("approve {name}"));
        edit_overrides(&layout, change, |now| now.approvals.push(approval))?;
    }
    let ambient = ambient_with_signals("rehearse")?;
    let host = RealHost::new(&node.spec, ambient, Baton::default());
    let probe = Probe::start(&node.spec.chain);
    let mut wish = Wish::fixed(node);
    let mut end = PassEnd::Done;
    let mut report = Lines::new();
    let deadline = wall_clock() + LONGEST_MS;
    // A failed upgrade does not end the rehearsal: the ones after it are rehearsed too.
    for _ in 0..=wish.node.upgrades.len() {
        let mut pass = Pass {
            only: None,
            host: &host,
            wish: &mut wish,
            patience: Patience::Until(Some(deadline)),
            supervised: false,
            stuck: Arc::default(),
            report: &mut report,
            complaint: String::new(),
        };
        let this = pass.run()?;
        let go_on = matches!(this, PassEnd::RolledBack(_));
        if this != PassEnd::Done
            && !matches!((&this, &end), (PassEnd::Blocked(_), PassEnd::RolledBack(_)))
        {
            end = this;
        }
        if !go_on || all_tried(&host, wish.node.upgrades.len())? {
            break;
        }
    }
    drop(report);
    let silences = probe.map(|p| p.end(LEAST_SILENCE)).unwrap_or_default();
    let calm = RealHost::new(&wish.node.spec, Ambient::default(), Baton::default());
    let stopped = stop_node(&wish.node, &calm)?.is_some();
    let data = &wish.node.spec.data.path;
    let data_whole = (stopped && data.join("chain.log").exists())
        .then(|| check_data(data).is_ok_and(|r| r.mistakes.is_empty()));
    let runs = rehearsed_runs(&calm, &silences)?;
    let outcome = match &end {
        PassEnd::Done => "done",
        PassEnd::RolledBack(_) => "rolled-back",
        PassEnd::Stuck { .. } => "stuck",
        PassEnd::Interrupted => "interrupted",
        _ => "blocked",
    };
    let rehearsal = Rehearsal {
        version: 1,
        node: wish.node.spec.name.to_string(),
        replaced,
        outcome,
        runs,
        data_whole,
    };
    match format {
        Format::Json => out::json(&rehearsal),
        Format::Human => out::data(&text(&rehearsal)),
    }
    let exit = tell(&end);
    Ok(if rehearsal.data_whole == Some(false) {
        Exit::Error
    } else {
        exit
    })
}

/// True once every upgrade has a finished run.
fn all_tried(host: &RealHost, upgrades: usize) -> Result<bool, CliError> {
    let runs = run_summaries(host).map_err(crate::observe::ObserveError::from)?;
    let finished = |o: Outcome| {
        matches!(
            o,
            Outcome::Committed | Outcome::RolledBack | Outcome::GivenUp
        )
    };
    let tried = runs.iter().filter(|r| {
        matches!(r.plan.action, Action::Upgrade { .. })
            && r.outcome().is_some_and(|(o, _)| finished(o))
    });
    Ok(tried.count() >= upgrades)
}

fn rehearsed_runs(host: &RealHost, silences: &[Silence]) -> Result<Vec<RehearsedRun>, CliError> {
    let mut out = Vec::new();
    for run in host.runs()? {
        let (plan, journal) = host.read(run)?;
        let (plan, status, records, _) =
            status_of(run, &plan, &journal).map_err(crate::agent::AgentError::from)?;
        let timeline = timeline(&plan, &records);
        let stop = timeline.rows.iter().find(|r| r.step == "critical/stop");
        let silence = stop
            .and_then(|stop| silences.iter().find(|s| s.next_answer > stop.began))
            .copied();
        let (outcome, detail) = match &status.stage {
            crate::journal::Stage::Closed(outcome, detail) => {
                let word = serde_json::to_value(outcome)
                    .ok()
                    .and_then(|v| v.as_str().map(str::to_owned));
                (word.unwrap_or_default(), detail.clone())
            }
            other => (other.word().to_owned(), String::new()),
        };
        out.push(RehearsedRun {
            what: plan.action.describe(),
            outcome,
            detail,
            timeline,
            silence,
        });
    }
    Ok(out)
}

fn text(r: &Rehearsal) -> String {
    let mut out = format!("\n{LEGEND}\n");
    for run in &r.runs {
        let _ = writeln!(out, "\n{} · {}", run.what, run.outcome);
        out.push_str(&timeline_text(&run.timeline));
        if let Some(s) = &run.silence {
            let _ = writeln!(out, "  outage as a client saw it: {}", human_ms(s.ms));
        }
    }
    if let Some(whole) = r.data_whole {
        let word = if whole {
            "prove themselves whole"
        } else {
            "ARE NOT WHOLE: see `visor devnode check`"
        };
        let _ = writeln!(out, "\nafter the last stop the data {word}");
    }
    out
}

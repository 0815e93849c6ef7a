//! `visor history` and `history show`: past runs, from the journals alone.

use super::args::{Format, Global};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use super::timeline::{LEGEND, timeline_text};
use crate::agent::AgentError;
use crate::engine::{Timeline, status_of, timeline};
use crate::host::{HostError, Journals as _, RealHost};
use crate::journal::{Event, Outcome, Record, decode};
use crate::model::{RunId, UnixMs, human_ms, rfc3339};
use crate::observe::{ObserveError, RunSummary, run_summaries};
use schemars::JsonSchema;
use serde::Serialize;

/// The JSON form. 1: first.
#[derive(Serialize, JsonSchema)]
pub(super) struct History {
    version: u32,
    node: String,
    /// Oldest first.
    runs: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    run: String,
    what: String,
    /// committed, rolled-back, abandoned, cancelled or given-up; of an open run its stage.
    outcome: String,
    detail: String,
    by: String,
    began: UnixMs,
    ended: UnixMs,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Shown {
    version: u32,
    node: String,
    #[serde(flatten)]
    entry: Entry,
    plan: String,
    visor: String,
    timeline: Timeline,
    /// What people said and did to the run.
    words: Vec<Word>,
}

#[derive(Serialize, JsonSchema)]
struct Word {
    at: UnixMs,
    what: String,
}

fn entry(run: &RunSummary, records: &[Record]) -> Entry {
    let (outcome, detail) = match run.outcome() {
        Some((outcome, detail)) => (word(outcome), detail.to_owned()),
        None => (format!("open: {}", run.status.stage.word()), String::new()),
    };
    Entry {
        run: run.run.to_string(),
        what: run.plan.action.describe(),
        outcome,
        detail,
        by: by(records),
        began: records.first().map_or(run.run.0.timestamp_ms(), |r| r.at),
        ended: run.ended_at.max(run.run.0.timestamp_ms()),
    }
}

/// A closed run whose plan this visor cannot read, by what its journal tells all the same.
fn unreadable(run: RunId, journal: &[u8], error: &dyn std::error::Error) -> Entry {
    let (records, _) = decode(journal).unwrap_or_default();
    let ended = records.last();
    let (outcome, said) = match ended.map(|r| &r.event) {
        Some(Event::Closed { outcome, detail }) => (word(*outcome), format!("{detail}\n")),
        _ => ("unreadable".to_owned(), String::new()),
    };
    Entry {
        run: run.to_string(),
        what: "a plan that cannot be read".to_owned(),
        outcome,
        detail: format!("{said}{}", HostError::from_error(error)),
        by: by(&records),
        began: records.first().map_or(run.0.timestamp_ms(), |r| r.at),
        ended: ended.map_or(run.0.timestamp_ms(), |r| r.at),
    }
}

fn by(records: &[Record]) -> String {
    match records.first().map(|r| &r.event) {
        Some(Event::Opened { by, .. }) if !by.is_empty() => by.clone(),
        _ => "not on record".to_owned(),
    }
}

fn word(outcome: Outcome) -> String {
    let json = serde_json::to_value(outcome).ok();
    let word = json.as_ref().and_then(|v| v.as_str());
    word.unwrap_or_default().to_owned()
}

/// All runs, oldest first, those too whose plan cannot be read.
fn entries(host: &RealHost) -> Result<Vec<Entry>, CliError> {
    let summaries = run_summaries(host).map_err(ObserveError::from)?;
    let of = |run: RunId| {
        let (plan, journal) = host.read(run)?;
        Ok(match status_of(run, &plan, &journal) {
            Ok((_, _, records, _)) => summaries
                .iter()
                .find(|s| s.run == run)
                .map(|s| entry(s, &records)),
            Err(error) => Some(unreadable(run, &journal, &error)),
        })
    };
    let runs = host.runs()?.into_iter().map(of);
    let entries: Result<Vec<Option<Entry>>, HostError> = runs.collect();
    Ok(entries
        .map_err(AgentError::from)?
        .into_iter()
        .flatten()
        .collect())
}

fn words(records: &[Record]) -> Vec<Word> {
    let said = |record: &Record| {
        let what = match &record.event {
            Event::Stuck { reason, .. } => format!("stuck: {reason}"),
            Event::Resolved { answer, by, reason } => {
                let answer = serde_json::to_value(answer).ok()?;
                format!("{by} said {}: {reason}", answer.as_str()?)
            }
            Event::Paused { why } => format!("paused: {why}"),
            Event::Restart { why, .. } => format!("started once more: {why}"),
            Event::Undo(undo) => format!("turned back: {}", undo.cause),
            _ => return None,
        };
        Some(Word {
            at: record.at,
            what,
        })
    };
    records.iter().filter_map(said).collect()
}

pub(super) fn list(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = cx.host();
    let runs = entries(&host)?;
    let node = cx.node().spec.name.to_string();
    let history = History {
        version: 1,
        node,
        runs,
    };
    match format {
        Format::Json => out::json(&history),
        Format::Human if history.runs.is_empty() => out::data("no run yet\n"),
        Format::Human => {
            for r in &history.runs {
                let took = human_ms(r.ended.saturating_sub(r.began));
                out::data(&format!(
                    "{}  {}  {:<20} {} after {took}\n      {}\n",
                    r.run,
                    rfc3339(r.began).get(..19).unwrap_or_default(),
                    r.what,
                    r.outcome,
                    r.by
                ));
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) fn show(global: &Global, wanted: &str, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let host = cx.host();
    let summaries = run_summaries(&host).map_err(ObserveError::from)?;
    let runs = host.runs()?;
    // The end of an id is what tells runs apart.
    let fits = |run: &&RunId| {
        let id = run.to_string();
        id.eq_ignore_ascii_case(wanted)
            || wanted.len() >= 4 && id.ends_with(&wanted.to_ascii_uppercase())
    };
    let run = match (
        wanted,
        runs.iter().filter(fits).collect::<Vec<_>>().as_slice(),
    ) {
        ("last", _) => runs.last(),
        (_, [one]) => Some(*one),
        _ => None,
    };
    let Some(run) = run else {
        let message = if runs.is_empty() {
            "there is no run yet".to_owned()
        } else {
            format!("there is no run \"{wanted}\"")
        };
        return Err(CliError::usage(
            message,
            "`visor history` lists them; `last` is the last one.",
        ));
    };
    let (plan, journal) = host.read(*run)?;
    let (plan, _, records, _) = status_of(*run, &plan, &journal).map_err(AgentError::from)?;
    let run = summaries
        .iter()
        .find(|s| s.run == *run)
        .ok_or_else(|| CliError::Machine(format!("run {run} has gone while it was looked at")))?;
    let shown = Shown {
        version: 1,
        node: plan.node.name.to_string(),
        entry: entry(run, &records),
        timeline: timeline(&plan, &records),
        words: words(&records),
        visor: plan.visor.clone(),
        plan: plan.digest,
    };
    match format {
        Format::Json => out::json(&shown),
        Format::Human => out::data(&text(&shown)),
    }
    Ok(Exit::Done)
}

fn text(s: &Shown) -> String {
    let e = &s.entry;
    let mut out = format!("{} · {} · {}\n", e.run, e.what, e.outcome);
    for line in e.detail.lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&format!("  node     {}\n  by       {}\n", s.node, e.by));
    let (began, took) = (rfc3339(e.began), human_ms(e.ended.saturating_sub(e.began)));
    out.push_str(&format!("  began    {began}, took {took}\n"));
    out.push_str(&format!(
        "  plan     {}, made by visor {}\n\n",
        s.plan.get(..16).unwrap_or(&s.plan),
        s.visor
    ));
    out.push_str(&timeline_text(&s.timeline));
    out.push_str(&format!("  {LEGEND}\n"));
    for word in &s.words {
        out.push_str(&format!("  {}  {}\n", rfc3339(word.at), word.what));
    }
    out
}

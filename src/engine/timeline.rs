//! The timeline of a run, from its journal alone.

use crate::journal::{Event, Record};
use crate::model::UnixMs;
use crate::plan::{Phase, Plan, Step, StepId, StepKind};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// One line: a step, when it began, how long it took, whether the node was down or not yet healthy meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Row {
    pub step: String,
    pub began: UnixMs,
    pub ms: u64,
    pub inside_outage: bool,
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Timeline {
    pub rows: Vec<Row>,
    /// From TERM to the process's end: the node's own stop.
    pub stop_ms: Option<u64>,
    /// From the new process's start to its first answer: the node's own start.
    pub start_ms: Option<u64>,
    /// From the end of the old process to the start of the new one: what visor added.
    pub between_ms: Option<u64>,
    /// From TERM to the first answer of the new release.
    pub outage_ms: Option<u64>,
}

/// Reads a run's records. Steps found done after a crash have no length.
pub fn timeline(plan: &Plan, records: &[Record]) -> Timeline {
    let mut rows = Vec::new();
    let (mut term, mut exit, mut started, mut answer) = (None, None, None, None);
    let mut begun: BTreeMap<&StepId, UnixMs> = BTreeMap::new();
    for record in records {
        let (id, began, ended, note, facts) = match &record.event {
            Event::Began { step, .. } => {
                begun.entry(step).or_insert(record.at);
                continue;
            }
            // It ends the pre-copy, which has no end of its own.
            Event::Intent(_) => {
                let of = |s: &&Step| matches!(s.kind, StepKind::Precopy { .. });
                let Some(step) = plan.steps.iter().find(of) else {
                    continue;
                };
                let from = begun.get(&step.id).copied().unwrap_or(record.at);
                (
                    &step.id,
                    from,
                    record.at,
                    Some("beside the gates".to_owned()),
                    None,
                )
            }
            Event::Ended {
                step,
                began,
                note,
                facts,
            } => {
                let ended = facts.get("ended").copied().unwrap_or(record.at);
                (step, *began, ended, note.clone(), Some(facts))
            }
            Event::Failed { step, error } => {
                let from = begun.get(step).copied().unwrap_or(record.at);
                (
                    step,
                    from,
                    record.at,
                    Some(format!("failed: {error}")),
                    None,
                )
            }
            _ => continue,
        };
        let failed = matches!(record.event, Event::Failed { .. });
        let Some(step) = plan.step(id) else { continue };
        let fact = |name: &str| facts.and_then(|f| f.get(name)).copied();
        match step.kind.word() {
            "stop" => {
                term = fact("term-at");
                exit = fact("exit-at");
            }
            "start" if fact("ended").is_some() => started = Some(ended),
            "health" => answer = fact("first-answer"),
            _ => {}
        }
        rows.push(Row {
            step: step.name.clone(),
            began,
            ms: ended.saturating_sub(began),
            inside_outage: matches!(step.phase, Phase::Critical | Phase::Undo)
                || failed && step.phase == Phase::Confirm,
            note,
        });
    }
    rows.sort_by_key(|r| r.began);
    let between = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
    Timeline {
        rows,
        stop_ms: between(term, exit),
        start_ms: between(started, answer),
        between_ms: between(exit, started),
        outage_ms: between(term, answer),
    }
}

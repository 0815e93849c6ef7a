//! The state of a run as a fold over its records. The same function serves live runs and recovery.

use super::record::{Event, Intent, Outcome, Undo};
use crate::model::{Answer, GenId, StartId};
use crate::plan::{Phase, Plan, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The node runs its old release; nothing that matters has happened.
    Preparing,
    /// The intent is written: the node may be down.
    Critical,
    /// The new release was started and must prove itself.
    Confirming,
    /// Committed; archives, pruning and reports are left.
    After,
    /// On the way back to the old release.
    Undoing,
    /// A person is needed.
    Stuck(StuckAt),
    Closed(Outcome, String),
}

impl Stage {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Critical => "critical section",
            Self::Confirming => "confirming",
            Self::After => "after commit",
            Self::Undoing => "rolling back",
            Self::Stuck(_) => "stuck",
            Self::Closed(..) => "closed",
        }
    }
}

/// The step at which a run is stuck, why, and the stage it was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckAt {
    pub step: StepId,
    pub reason: String,
    pub stage: Box<Stage>,
}

/// A run's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub stage: Stage,
    pub generation: Option<GenId>,
    pub n_records: u64,
    /// Steps with an end record.
    pub done: BTreeSet<StepId>,
    /// Steps begun and not ended, with the number of the attempt.
    pub begun: BTreeMap<StepId, u32>,
    pub intent: Option<Intent>,
    /// The start that should live now, once one was decided on.
    pub start: Option<StartId>,
    /// The node's death is not the release's fault: it gets one more start.
    pub paused: bool,
    pub undo: Option<Undo>,
    /// Inodes before the exchange: live, generation.
    pub restore: Option<(u64, u64)>,
    pub warnings: Vec<String>,
    /// A person's word that is on record and not yet carried out.
    pub pending: Option<(Answer, String)>,
}

/// A record that cannot follow the records before it: the journal is damaged, or visor has a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} ({event}) cannot stand in a run that is {stage}")]
pub struct IllegalEvent {
    pub seq: u64,
    pub stage: &'static str,
    pub event: String,
}

impl Status {
    pub fn new() -> Self {
        Self {
            stage: Stage::Preparing,
            generation: None,
            n_records: 0,
            done: BTreeSet::new(),
            begun: BTreeMap::new(),
            intent: None,
            start: None,
            paused: false,
            undo: None,
            restore: None,
            warnings: Vec::new(),
            pending: None,
        }
    }

    pub fn is_done(&self, step: &StepId) -> bool {
        self.done.contains(step)
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

/// The next state of a run of `plan`, or why the event is not possible in this one.
pub fn next_status(plan: &Plan, mut status: Status, event: &Event) -> Result<Status, IllegalEvent> {
    let seq = status.n_records;
    let stage = status.stage.word();
    let illegal = || {
        let text = serde_json::to_string(event).unwrap_or_default();
        Err(IllegalEvent {
            seq,
            stage,
            event: text,
        })
    };
    if (seq == 0) != matches!(event, Event::Opened { .. }) {
        return illegal();
    }
    let phase_of = |id: &StepId| plan.step(id).map(|s| s.phase);
    match event {
        Event::Opened {
            plan: digest,
            generation,
            ..
        } => {
            if *digest != plan.digest {
                return illegal();
            }
            status.generation = Some(*generation);
        }
        Event::Began { step, attempt } => {
            let fits = matches!(
                (&status.stage, phase_of(step)),
                (Stage::Preparing, Some(Phase::Prepare | Phase::Gate))
                    | (Stage::Confirming, Some(Phase::Confirm))
                    | (Stage::After, Some(Phase::After))
                    | (Stage::Undoing, Some(Phase::Undo))
            );
            if !fits || status.is_done(step) {
                return illegal();
            }
            status.begun.insert(step.clone(), *attempt);
        }
        Event::Ended { step, .. } => {
            let in_intent = status.stage == Stage::Critical
                && status
                    .intent
                    .as_ref()
                    .is_some_and(|i| i.steps.contains(step));
            if status.begun.remove(step).is_none() && !in_intent
                || !status.done.insert(step.clone())
            {
                return illegal();
            }
            if in_intent
                && status
                    .intent
                    .as_ref()
                    .is_some_and(|i| i.steps.iter().all(|s| status.done.contains(s)))
            {
                status.stage = Stage::Confirming;
            }
            let commits = plan
                .step(step)
                .is_some_and(|s| s.kind == crate::plan::StepKind::Commit);
            if commits {
                status.stage = Stage::After;
            }
        }
        Event::Failed { step, error } => {
            let in_intent = status
                .intent
                .as_ref()
                .is_some_and(|i| i.steps.contains(step));
            let begun = status.begun.remove(step).is_some();
            if !begun && !in_intent {
                return illegal();
            }
            let tolerated = matches!(status.stage, Stage::After)
                || status.stage == Stage::Undoing
                    && matches!(
                        plan.step(step).map(|s| &s.kind),
                        Some(crate::plan::StepKind::Hook(_))
                    );
            if tolerated {
                status.done.insert(step.clone());
                status.warnings.push(format!(
                    "{}: {error}",
                    plan.step(step).map_or("?", |s| &s.name)
                ));
            }
        }
        Event::Intent(intent) => {
            if status.stage != Stage::Preparing
                || intent
                    .steps
                    .iter()
                    .any(|s| phase_of(s) != Some(Phase::Critical))
            {
                return illegal();
            }
            let before = plan
                .steps
                .iter()
                .filter(|s| matches!(s.phase, Phase::Prepare | Phase::Gate));
            status.done.extend(before.map(|s| s.id.clone()));
            status.begun.clear();
            status.start = Some(intent.new_start);
            status.intent = Some(intent.clone());
            status.stage = Stage::Critical;
        }
        Event::Restart { start, .. } => {
            if !matches!(status.stage, Stage::Confirming | Stage::Undoing) {
                return illegal();
            }
            status.start = Some(*start);
            status.paused = false;
        }
        Event::Paused { .. } => {
            if !matches!(
                status.stage,
                Stage::Critical | Stage::Confirming | Stage::Undoing
            ) {
                return illegal();
            }
            status.paused = true;
        }
        Event::Undo(undo) => {
            if !matches!(status.stage, Stage::Critical | Stage::Confirming) {
                return illegal();
            }
            status.begun.clear();
            status.pending = None;
            status.undo = Some(undo.clone());
            status.start = Some(undo.start);
            status.paused = false;
            status.stage = Stage::Undoing;
        }
        Event::Restore { live, generation } => {
            if status.stage != Stage::Undoing || status.restore.is_some() {
                return illegal();
            }
            status.restore = Some((*live, *generation));
        }
        Event::Stuck { step, reason } => {
            if matches!(status.stage, Stage::Stuck(_) | Stage::Closed(..))
                || plan.step(step).is_none()
            {
                return illegal();
            }
            status.pending = None;
            let stage = Box::new(status.stage.clone());
            status.stage = Stage::Stuck(StuckAt {
                step: step.clone(),
                reason: reason.clone(),
                stage,
            });
        }
        Event::Resolved { answer, by, reason } => {
            let Stage::Stuck(at) = status.stage.clone() else {
                return illegal();
            };
            status.stage = *at.stage;
            match answer {
                Answer::Done => {
                    status.begun.remove(&at.step);
                    status.done.insert(at.step.clone());
                    let all = |i: &Intent| i.steps.iter().all(|s| status.done.contains(s));
                    if status.stage == Stage::Critical && status.intent.as_ref().is_some_and(all) {
                        status.stage = Stage::Confirming;
                    }
                }
                Answer::NotDone => {
                    // A node that has died meanwhile gets one more start: its death is what the person has looked into.
                    status.paused = true;
                    status.begun.remove(&at.step);
                    status.done.remove(&at.step);
                }
                // A `Closed` or an `Undo` record follows, by this visor or the next.
                Answer::GiveUp | Answer::RollBack => {
                    status.pending = Some((*answer, format!("{by}: {reason}")));
                }
            }
        }
        Event::Closed { outcome, detail } => {
            let fits = match outcome {
                Outcome::Committed => status.stage == Stage::After,
                Outcome::RolledBack => status.stage == Stage::Undoing,
                Outcome::Abandoned | Outcome::Cancelled => status.stage == Stage::Preparing,
                Outcome::GivenUp => !matches!(status.stage, Stage::Stuck(_) | Stage::Closed(..)),
            };
            if !fits {
                return illegal();
            }
            status.pending = None;
            status.stage = Stage::Closed(*outcome, detail.clone());
        }
    }
    status.n_records += 1;
    Ok(status)
}

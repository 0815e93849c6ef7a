//! A run: opened, recovered, advanced, resolved. Every record passes through `Run::record`.

use super::late::Foresight;
use crate::host::{Host, HostError, NodeState};
use crate::journal::{
    Event, IllegalEvent, JOURNAL_VERSION, JournalError, Outcome, Record, Stage, Status, StuckAt,
    Undo, decode, encode, next_status,
};
use crate::model::{Answer, GenId, RunId, StartId};
use crate::plan::{Action, Denied, Phase, Plan, PlanError, Step, StepId, StepKind};
use crate::step::{Cx, Notice, Report, StepEnd, StepError};

/// How far `advance` came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advance {
    /// Gates are closed, each with its reason. Call again later.
    Waiting(Vec<String>),
    Closed(Outcome, String),
    Stuck(StuckAt),
    /// visor was told to end; the journal can be resumed.
    Interrupted,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("run {run}: the plan cannot be used; nothing was touched")]
    Plan {
        run: RunId,
        #[source]
        source: PlanError,
    },
    #[error("run {run}: the journal cannot be used; nothing was touched")]
    Journal {
        run: RunId,
        #[source]
        source: JournalError,
    },
    #[error("run {run}: the journal is not that of a run")]
    Illegal {
        run: RunId,
        #[source]
        source: IllegalEvent,
    },
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A run in the hands of this process.
pub struct Run<'h, H> {
    pub(super) host: &'h H,
    pub id: RunId,
    pub plan: Plan,
    pub(super) status: Status,
    /// True until this process has itself written the record that opened the present stage.
    pub(super) recovering: bool,
    pub(super) foresight: Foresight,
}

/// Lays down a run's directory with its plan and an empty journal. `Run::recover` takes it from there.
pub fn create<H: Host>(host: &H, plan: &Plan) -> Result<RunId, EngineError> {
    let id = RunId(host.new_ulid());
    host.create(id, &plan.to_bytes())?;
    Ok(id)
}

/// The plan, the state and all records of a run, for those who only look.
pub fn status_of(
    run: RunId,
    plan: &[u8],
    journal: &[u8],
) -> Result<(Plan, Status, Vec<Record>, usize), EngineError> {
    let plan = Plan::read(plan).map_err(|source| EngineError::Plan { run, source })?;
    let (records, whole) =
        decode(journal).map_err(|source| EngineError::Journal { run, source })?;
    let mut status = Status::new();
    for record in &records {
        status = next_status(&plan, status, &record.event)
            .map_err(|source| EngineError::Illegal { run, source })?;
    }
    Ok((plan, status, records, whole))
}

impl<'h, H: Host> Run<'h, H> {
    /// Reads a run's journal, cuts a torn last line, and stands where the last visor stood.
    pub fn recover(host: &'h H, id: RunId) -> Result<Self, EngineError> {
        let (plan, journal) = host.read(id)?;
        let (plan, status, _, whole) = status_of(id, &plan, &journal)?;
        if whole < journal.len() {
            host.truncate(id, whole as u64)?;
        }
        // What is read may not have reached the disk: a visor that was killed before its sync has written it.
        if status.n_records > 0 {
            host.append(id, b"", true)?;
        }
        let mut run = Self {
            host,
            id,
            plan,
            status,
            recovering: true,
            foresight: Foresight::default(),
        };
        if run.status.n_records == 0 {
            let generation = GenId(host.new_ulid());
            run.record(
                Event::Opened {
                    version: JOURNAL_VERSION,
                    plan: run.plan.digest.clone(),
                    generation,
                    by: host.actor(),
                },
                true,
            )?;
        }
        Ok(run)
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Does all that can be done now.
    pub fn advance(&mut self, report: &mut dyn Report) -> Result<Advance, EngineError> {
        loop {
            self.carry_out(report)?;
            let end = match self.status.stage.clone() {
                Stage::Preparing => self.prepare(report)?,
                Stage::Critical => self.critical(report)?,
                Stage::Confirming => self.confirm(report)?,
                Stage::After => self.after(report)?,
                Stage::Undoing => self.undo(report)?,
                // The node stays claimed: who drives the run decides what may be done meanwhile.
                Stage::Stuck(at) => Some(Advance::Stuck(at)),
                Stage::Closed(outcome, detail) => {
                    self.host.release_node();
                    Some(Advance::Closed(outcome, detail))
                }
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Takes a person's word for what happened at the stuck step.
    pub fn resolve(
        &mut self,
        answer: Answer,
        by: &str,
        reason: &str,
        report: &mut dyn Report,
    ) -> Result<(), EngineError> {
        self.record(
            Event::Resolved {
                answer,
                by: by.to_owned(),
                reason: reason.to_owned(),
            },
            true,
        )?;
        self.recovering = true;
        self.carry_out(report)
    }

    /// Does what a person said, whether to this visor or to one before it.
    fn carry_out(&mut self, report: &mut dyn Report) -> Result<(), EngineError> {
        let Some((answer, words)) = self.status.pending.clone() else {
            return Ok(());
        };
        match (answer, &self.status.stage) {
            (_, Stage::Stuck(_) | Stage::Closed(..)) => Ok(()),
            (Answer::RollBack, Stage::Critical | Stage::Confirming) => {
                self.begin_undo(&format!("asked for by {words}"), report)
            }
            // Nothing is there to go back from, or it is on its way.
            (Answer::RollBack, _) => Ok(()),
            (_, stage) => {
                let preparing = *stage == Stage::Preparing;
                if !preparing && !matches!(self.host.node()?, NodeState::Running { .. }) {
                    // Nobody knows what state this leaves: a node that is down stays so until a person starts it.
                    let reason = format!("run {} was given up by {words}", self.id);
                    self.host.keep_stopped(&reason)?;
                }
                self.close(Outcome::GivenUp, format!("given up by {words}"))
            }
        }
    }

    /// Gives up a run that has not touched the node, for another wish comes first. True when it did.
    pub fn supersede(&mut self, why: &str) -> Result<bool, EngineError> {
        let preparing = self.status.stage == Stage::Preparing;
        if preparing {
            self.close(Outcome::Abandoned, why.to_owned())?;
        }
        Ok(preparing)
    }

    /// Journals that the operator stops the node while the run goes on later.
    pub fn paused(&mut self, why: &str) -> Result<(), EngineError> {
        if matches!(
            self.status.stage,
            Stage::Critical | Stage::Confirming | Stage::Undoing
        ) {
            self.record(
                Event::Paused {
                    why: why.to_owned(),
                },
                true,
            )?;
        }
        Ok(())
    }

    /// Checks that an event may stand here, appends it, and only then believes it.
    pub(super) fn record(&mut self, event: Event, sync: bool) -> Result<(), EngineError> {
        let next = next_status(&self.plan, self.status.clone(), &event).map_err(|source| {
            EngineError::Illegal {
                run: self.id,
                source,
            }
        })?;
        let record = Record {
            seq: self.status.n_records,
            at: self.host.now(),
            event,
        };
        self.host.append(self.id, &encode(&record), sync)?;
        self.status = next;
        Ok(())
    }

    pub(super) fn cx(&self) -> Cx<'_, H> {
        Cx {
            host: self.host,
            plan: &self.plan,
            run: self.id,
            generation: self
                .status
                .generation
                .expect("a run in hand has its first record"),
            status: &self.status,
            recovering: self.recovering,
        }
    }

    pub(super) fn generation(&self) -> GenId {
        self.cx().generation
    }

    pub(super) fn ended(
        &mut self,
        step: &StepId,
        began: u64,
        end: StepEnd,
        sync: bool,
    ) -> Result<(), EngineError> {
        self.record(
            Event::Ended {
                step: step.clone(),
                began,
                note: end.note,
                facts: end.facts,
            },
            sync,
        )
    }

    pub(super) fn stuck(
        &mut self,
        step: &Step,
        reason: &str,
        report: &mut dyn Report,
    ) -> Result<(), EngineError> {
        report.notice(Notice::Stuck { step, reason });
        self.record(
            Event::Stuck {
                step: step.id.clone(),
                reason: reason.to_owned(),
            },
            true,
        )
    }

    /// Turns the run back. The decision whether data are put back rests on evidence on disk, not on memory.
    pub(super) fn begin_undo(
        &mut self,
        cause: &str,
        report: &mut dyn Report,
    ) -> Result<(), EngineError> {
        self.host.claim_node();
        // A hook that outlived its visor would go on writing into the data that are put back.
        let hooks = self
            .plan
            .phase(Phase::Critical)
            .filter(|s| matches!(s.kind, StepKind::Hook(_)));
        for step in hooks.cloned().collect::<Vec<_>>() {
            if self
                .host
                .attempt(self.id, &step.id)?
                .is_some_and(|a| a.ok.is_none())
                && let Err(error) = self.host.reap_hook(self.id, &step.id)
            {
                return match error {
                    HostError::Failed(why) => self.stuck(&step, &why, report),
                    other => Err(other.into()),
                };
            }
        }
        self.host.drop_ballast(self.id)?;
        let touched = self.cx().touched().map_err(into_engine)?;
        let sealed = self.host.seal_state(self.generation())? == crate::host::SealState::Sealed;
        let restore = touched && sealed && self.plan.undo.iter().any(|s| s.kind.restores_data());
        report.notice(Notice::Undo { cause, restore });
        let start = StartId(self.host.new_ulid());
        // While the node is down it lasts with the record of what is exchanged, before which nothing is done. One that runs is stopped before that.
        let lasts_later = restore && matches!(self.host.node()?, NodeState::Gone { .. });
        self.record(
            Event::Undo(Undo {
                cause: cause.to_owned(),
                restore,
                start,
            }),
            !lasts_later,
        )?;
        self.recovering = false;
        Ok(())
    }

    /// Closes the run; a failed or cancelled upgrade is remembered first, so that no crash can make visor try it again.
    pub(super) fn close(&mut self, outcome: Outcome, detail: String) -> Result<(), EngineError> {
        let mut upgrade = None;
        if let Action::Upgrade { name, digest, .. } = &self.plan.action {
            upgrade = Some(name.to_string());
            if matches!(
                outcome,
                Outcome::RolledBack | Outcome::Cancelled | Outcome::GivenUp
            ) {
                self.host.deny(&Denied {
                    upgrade: name.clone(),
                    digest: digest.clone(),
                    reason: detail.clone(),
                    at: self.host.now(),
                    run: self.id,
                })?;
            }
        }
        if self.status.stage == Stage::Preparing {
            let _ = self.host.precopy_end(self.generation());
            self.host.discard(self.generation())?;
        }
        self.record(Event::Closed { outcome, detail }, true)?;
        // An abandoned run is tried again: its approval stands. Requests name their run, so one that stays does nothing.
        let settled = if outcome == Outcome::Abandoned {
            None
        } else {
            upgrade.as_deref()
        };
        self.host.settle(self.id, settled)?;
        Ok(self.host.drop_ballast(self.id)?)
    }
}

/// What is left of a step's error where it can be nothing else.
pub(super) fn into_engine(error: StepError) -> EngineError {
    match error {
        StepError::Host(host) => EngineError::Host(host),
        other => EngineError::Host(HostError::Failed(other.to_string())),
    }
}

/// A record that could not be written ends the step that wanted it, and with it the pass.
pub(super) fn engine_in_step(error: EngineError) -> StepError {
    match error {
        EngineError::Host(host) => StepError::Host(host),
        other => StepError::Host(HostError::from_error(&other)),
    }
}

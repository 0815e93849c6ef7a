//! The stages before and after the critical section: prepare and gates, confirm, after, undo.

use super::run::{Advance, EngineError, Run, engine_in_step, into_engine};
use crate::host::{Host, HostError, NodeState, Precopy, StartEvidence};
use crate::journal::{Event, Outcome};
use crate::model::{Late, OnFailure, StartId, Trigger};
use crate::plan::{Action, ChainFacts, Gate, Phase, Step, StepKind, chain_safe, trigger};
use crate::step::{Notice, Report, StepEnd, StepError, await_clear, run_step};
use std::time::Duration;

impl<H: Host> Run<'_, H> {
    /// Everything that is done while the node runs its old release. `None`: the critical section is entered.
    pub(super) fn prepare(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        self.host.release_node();
        let steps: Vec<Step> = self
            .plan
            .phase(Phase::Prepare)
            .chain(self.plan.phase(Phase::Gate))
            .cloned()
            .collect();
        for step in &steps {
            if self.status.is_done(&step.id) {
                continue;
            }
            let overrides = self.host.overrides()?;
            if overrides.abort == Some(self.id) {
                self.close(
                    Outcome::Cancelled,
                    "cancelled by `visor reconcile --abort` before the node was touched".into(),
                )?;
                return Ok(None);
            }
            match &step.kind {
                StepKind::Precopy { backup } => {
                    if !self.status.begun.contains_key(&step.id) {
                        self.begin(step, report)?;
                    }
                    if let Err(error) = self.host.precopy_start(self.generation(), backup) {
                        return self.give_up(step, error.into(), report);
                    }
                    // A copy that cannot be made is told of now, and not when the trigger opens.
                    if let Precopy::Failed(why) = self.host.precopy(self.generation())? {
                        return self.give_up(step, StepError::Failed(why), report);
                    }
                }
                StepKind::Trigger { trigger: wanted } => {
                    let Action::Upgrade { name, .. } = &self.plan.action else {
                        continue;
                    };
                    let facts = self.host.chain(&self.plan.node.chain);
                    match trigger(wanted, name, &facts, &overrides) {
                        Gate::Closed(why) => {
                            let fears = self.fears(wanted, &facts)?;
                            let all = std::iter::once(why).chain(fears).collect();
                            return Ok(Some(self.wait(all, report)));
                        }
                        Gate::Open(seen) => {
                            let held = [
                                overrides
                                    .hold
                                    .as_ref()
                                    .map(|h| format!("held by {}: {}", h.by, h.reason)),
                                overrides.stop.as_ref().map(|s| {
                                    format!("the node is stopped by {}: {}", s.by, s.reason)
                                }),
                            ];
                            let held: Vec<String> = held.into_iter().flatten().collect();
                            if !held.is_empty() {
                                return Ok(Some(self.wait(held, report)));
                            }
                            if let Some(end) = self.await_precopy(report)? {
                                return Ok(end);
                            }
                            let began = self.begin(step, report)?;
                            self.ended(&step.id, began, StepEnd::note(&seen), true)?;
                            report.notice(Notice::Ended(step, 0, Some(seen)));
                        }
                    }
                }
                // The last gate: evaluated when everything else is ready, and again right before the intent.
                StepKind::ChainSafe { .. } => {}
                _ => {
                    if let Err(error) = self.try_step(step, report)? {
                        return self.give_up(step, error, report);
                    }
                }
            }
        }
        self.enter_critical(report)
    }

    /// Why the copy will not be ready when a height is there.
    fn fears(
        &mut self,
        trigger: &Trigger,
        facts: &ChainFacts,
    ) -> Result<Option<String>, EngineError> {
        let (Some(backup), Trigger::Height(height), Some(&head)) =
            (self.plan.backup(), trigger, facts.head.known())
        else {
            return Ok(None);
        };
        let copy = self.host.precopy(self.generation())?;
        let (late, now) = (backup.late, self.host.now());
        Ok(self.foresight.fears((*height, head), &copy, late, now))
    }

    /// Waits for the first full pre-copy round; `Some` ends `prepare` with its value.
    fn await_precopy(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Option<Advance>>, EngineError> {
        let Some(step) = self
            .plan
            .steps
            .iter()
            .find(|s| matches!(s.kind, StepKind::Precopy { .. }))
            .cloned()
        else {
            return Ok(None);
        };
        let late = self.plan.backup().map_or(Late::Wait, |b| b.late);
        loop {
            match self.host.precopy(self.generation())? {
                Precopy::Ready { .. } => return Ok(None),
                Precopy::Failed(why) => {
                    return self
                        .give_up(&step, StepError::Failed(why), report)
                        .map(Some);
                }
                Precopy::Filling { bytes, .. } if late == Late::StopAnyway => {
                    let copied = bytesize::ByteSize(bytes);
                    report.notice(Notice::Warn(format!(
                        "the upgrade is due and {copied} of the data are copied: the rest is copied while the node is down (`late = \"stop-anyway\"`)"
                    )));
                    self.host.precopy_cut(self.generation())?;
                }
                Precopy::Filling { bytes, .. } if late == Late::SkipUpgrade => {
                    let why = format!(
                        "due when {} of the data were copied, which is not all (`late = \"skip-upgrade\"`)",
                        bytesize::ByteSize(bytes)
                    );
                    report.notice(Notice::Failed(&step, &why));
                    self.close(Outcome::Cancelled, why)?;
                    return Ok(Some(None));
                }
                Precopy::Filling { bytes, .. } => {
                    report.notice(Notice::Progress(
                        &step,
                        format!("{} copied", bytesize::ByteSize(bytes)),
                    ));
                    if self.host.overrides()?.abort == Some(self.id) {
                        return Ok(Some(None));
                    }
                    match self.host.pause(Duration::from_millis(50)) {
                        Ok(()) => {}
                        Err(HostError::Interrupted) => return Ok(Some(Some(Advance::Interrupted))),
                        Err(other) => return Err(other.into()),
                    }
                }
            }
        }
    }

    /// A failure before the node was touched: the run is given up, and nothing is remembered against the upgrade.
    pub(super) fn give_up(
        &mut self,
        step: &Step,
        error: StepError,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        match error {
            StepError::Host(HostError::Interrupted) => Ok(Some(Advance::Interrupted)),
            StepError::Host(other) => Err(other.into()),
            StepError::Stuck(reason) => self.stuck(step, &reason, report).map(|()| None),
            StepError::Failed(_)
            | StepError::Refused(_)
            | StepError::Aborted
            | StepError::Stopped => {
                let error = error.to_string();
                report.notice(Notice::Failed(step, &error));
                self.record(
                    Event::Failed {
                        step: step.id.clone(),
                        error: error.clone(),
                    },
                    true,
                )?;
                self.close(Outcome::Abandoned, format!("{}: {error}", step.name))?;
                Ok(None)
            }
        }
    }

    pub(super) fn wait(&self, why: Vec<String>, report: &mut dyn Report) -> Advance {
        report.notice(Notice::Waiting(&why));
        Advance::Waiting(why)
    }

    /// One step outside the critical section: its begin record, its effect, its end record. The step's own failure is left
    /// to the stage.
    fn try_step(
        &mut self,
        step: &Step,
        report: &mut dyn Report,
    ) -> Result<Result<(), StepError>, EngineError> {
        let began = self.begin(step, report)?;
        let ready = match step.kind {
            StepKind::Health { .. } | StepKind::HealthOld { .. } => self.start_once_more(report),
            _ => Ok(()),
        };
        match ready.and_then(|()| run_step(&self.cx(), step, report)) {
            Ok(end) => {
                let took = self.host.now().saturating_sub(began);
                report.notice(Notice::Ended(step, took, end.note.clone()));
                // One sync once the node runs makes all records of the way back durable.
                let sync = !step.kind.leaves_evidence() || step.kind == StepKind::StartOld;
                self.ended(&step.id, began, end, sync)?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Journals that a step is about to have its effect; returns the time.
    fn begin(&mut self, step: &Step, report: &mut dyn Report) -> Result<u64, EngineError> {
        report.notice(Notice::Began(step));
        let attempt = self.status.begun.get(&step.id).map_or(1, |n| n + 1);
        let now = self.host.now();
        self.record(
            Event::Began {
                step: step.id.clone(),
                attempt,
            },
            !step.kind.leaves_evidence(),
        )?;
        Ok(now)
    }

    /// The last chain gate, with the pre-copy ended; true when it is open.
    pub(super) fn chain_gate(&self) -> (Gate, Option<u64>) {
        let facts = self.host.chain(&self.plan.node.chain);
        let gate = self.plan.steps.iter().find_map(|s| match &s.kind {
            StepKind::ChainSafe { chain } => Some(chain_safe(chain, &facts)),
            _ => None,
        });
        (
            gate.unwrap_or(Gate::Open(String::new())),
            facts.head.known().copied(),
        )
    }

    /// Health of the new release, then the commit.
    pub(super) fn confirm(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        self.host.claim_node();
        if self.is_kept_down()? {
            return self.stop_for_operator(report).map(Some);
        }
        for step in self.plan.phase(Phase::Confirm).cloned().collect::<Vec<_>>() {
            if self.status.is_done(&step.id) {
                continue;
            }
            match self.try_step(&step, report)? {
                Ok(()) => {}
                Err(StepError::Host(HostError::Interrupted)) => {
                    return Ok(Some(Advance::Interrupted));
                }
                Err(StepError::Host(other)) => return Err(other.into()),
                Err(StepError::Stuck(reason)) => {
                    self.stuck(&step, &reason, report)?;
                    return Ok(None);
                }
                Err(StepError::Stopped) => return self.stop_for_operator(report).map(Some),
                Err(error) => {
                    let cause = format!("{}: {error}", step.name);
                    report.notice(Notice::Failed(&step, &error.to_string()));
                    self.record(
                        Event::Failed {
                            step: step.id.clone(),
                            error: error.to_string(),
                        },
                        true,
                    )?;
                    let aborted = matches!(error, StepError::Aborted);
                    return self.fail(&step, &cause, aborted, report).map(|()| None);
                }
            }
        }
        Ok(None)
    }

    /// The operator wants the node down in the middle of a run: its death is ours, and the run waits.
    pub(super) fn stop_for_operator(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Advance, EngineError> {
        if !self.status.paused {
            self.record(
                Event::Paused {
                    why: "visor stop".into(),
                },
                true,
            )?;
        }
        let stopped = match self.host.stop(&self.plan.node.stop) {
            Err(HostError::Interrupted) => return Ok(Advance::Interrupted),
            other => other?.is_some(),
        };
        let why = if stopped {
            "the node is stopped by an operator; `visor start` lets the run go on"
        } else {
            "the node was told to stop and does not end"
        };
        Ok(self.wait(vec![why.to_owned()], report))
    }

    /// True while an operator keeps the node down.
    fn is_kept_down(&self) -> Result<bool, EngineError> {
        Ok(self.host.overrides()?.stop.is_some())
    }

    /// What follows a failure once the node may have been touched: back, or held for a person.
    pub(super) fn fail(
        &mut self,
        step: &Step,
        cause: &str,
        aborted: bool,
        report: &mut dyn Report,
    ) -> Result<(), EngineError> {
        let hold = matches!(
            self.plan.action,
            Action::Upgrade {
                on_failure: OnFailure::Hold,
                ..
            }
        );
        // An untouched node goes back to its old release whatever the policy: there is nothing to hold on to.
        if hold && !aborted && self.cx().touched().map_err(into_engine)? {
            let reason =
                format!("{cause}; on-failure = \"hold\": the new release is left as it is");
            return self.stuck(step, &reason, report);
        }
        self.begin_undo(cause, report)
    }

    /// After a power loss, or after the operator stopped the node in mid-run, its death says nothing about the release:
    /// it gets one more start.
    fn start_once_more(&mut self, report: &mut dyn Report) -> Result<(), StepError> {
        let Some(start) = self.status.start else {
            return Ok(());
        };
        // A shim that outlived its visor may be about to write the record.
        let clear = await_clear(self.host)?;
        let why = match self.host.start_evidence(start)? {
            StartEvidence::Dead {
                this_boot: false, ..
            } => "the machine was restarted",
            StartEvidence::Dead { .. } if self.status.paused => {
                "an operator stopped the node, or asks for another try"
            }
            StartEvidence::None => "the start was cut off",
            _ => return Ok(()),
        };
        if let NodeState::Running {
            pid, start: other, ..
        } = clear
        {
            return Err(StepError::Stuck(format!(
                "pid {pid} of another start ({other}) is alive"
            )));
        }
        report.notice(Notice::Warn(format!(
            "{why}: the node is started once more"
        )));
        let next = StartId(self.host.new_ulid());
        self.record(
            Event::Restart {
                start: next,
                why: why.to_owned(),
            },
            true,
        )
        .map_err(engine_in_step)?;
        Ok(self.host.start(next, &self.plan.node.launch)?)
    }

    /// After the commit nothing is rolled back: failures are told and the run ends well.
    pub(super) fn after(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        self.host.release_node();
        for step in self.plan.phase(Phase::After).cloned().collect::<Vec<_>>() {
            if self.status.is_done(&step.id) {
                continue;
            }
            if let Some(end) = self.tolerant(&step, report)? {
                return Ok(Some(end));
            }
        }
        let detail = match self.status.warnings.as_slice() {
            [] => format!("{} committed", self.plan.action.describe()),
            some => format!(
                "{} committed; {}",
                self.plan.action.describe(),
                some.join("; ")
            ),
        };
        self.close(Outcome::Committed, detail)?;
        Ok(None)
    }

    /// A step whose failure changes nothing.
    fn tolerant(
        &mut self,
        step: &Step,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        match self.try_step(step, report)? {
            Ok(()) => {}
            Err(StepError::Host(HostError::Interrupted)) => return Ok(Some(Advance::Interrupted)),
            Err(StepError::Host(other)) => return Err(other.into()),
            Err(error) => {
                report.notice(Notice::Failed(step, &error.to_string()));
                self.record(
                    Event::Failed {
                        step: step.id.clone(),
                        error: error.to_string(),
                    },
                    true,
                )?;
            }
        }
        Ok(None)
    }

    /// The way back. Any failure here is *stuck*, with the evidence.
    pub(super) fn undo(&mut self, report: &mut dyn Report) -> Result<Option<Advance>, EngineError> {
        self.host.claim_node();
        if self.is_kept_down()? {
            return self.stop_for_operator(report).map(Some);
        }
        let undo = self
            .status
            .undo
            .clone()
            .expect("the stage Undoing has its record");
        for step in self.plan.undo.clone() {
            if self.status.is_done(&step.id) || step.kind.restores_data() && !undo.restore {
                continue;
            }
            if matches!(step.kind, StepKind::Hook(_)) {
                if let Some(end) = self.tolerant(&step, report)? {
                    return Ok(Some(end));
                }
                continue;
            }
            if step.kind.restores_data() && self.status.restore.is_none() {
                match self.host.inodes(self.generation())? {
                    (Some(live), Some(generation)) => {
                        self.record(Event::Restore { live, generation }, true)?
                    }
                    found => {
                        let reason = format!("a directory of the exchange is missing: {found:?}");
                        self.stuck(&step, &reason, report)?;
                        return Ok(None);
                    }
                }
            }
            match self.try_step(&step, report)? {
                Ok(()) => {}
                Err(StepError::Host(HostError::Interrupted)) => {
                    return Ok(Some(Advance::Interrupted));
                }
                Err(StepError::Host(other)) => return Err(other.into()),
                // Nobody is needed for that: the next pass goes on here.
                Err(StepError::Refused(why)) => {
                    let text = format!("{why}; the run is open, and the next pass goes on with it");
                    return Err(HostError::Refused(text).into());
                }
                Err(StepError::Stopped) => return self.stop_for_operator(report).map(Some),
                Err(error) => {
                    let reason = format!("{error}; the upgrade failed before: {}", undo.cause);
                    self.stuck(&step, &reason, report)?;
                    return Ok(None);
                }
            }
        }
        if undo.restore {
            self.host.settle_aside(self.generation())?;
        }
        let data = if undo.restore {
            "data as they were at the seal"
        } else {
            "data not put back: nothing had written to them"
        };
        let data = if self.plan.backup().is_none() {
            "no backup was asked for, so data are as they are"
        } else {
            data
        };
        self.close(Outcome::RolledBack, format!("{} ({data})", undo.cause))?;
        Ok(None)
    }
}

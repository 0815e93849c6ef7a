//! The critical section: from the single intent to the started node. The outage is in here.
//!
//! One synced record names the steps, the generation's run, the start to end and the start to come. Each step leaves an
//! artefact that its probe finds, so none needs a record of its own before the node runs again. After a crash the
//! evidence decides, row by row:
//!
//! | evidence | action |
//! |---|---|
//! | old start alive | TERM (again), wait, stop policy |
//! | lock free, no SEAL | final pass from the synced baseline |
//! | SEAL, nothing touched since | check names and stat again; other data: unseal, pass again |
//! | attempt record of a `pre-upgrade` hook without end | kill the survivor; again, or *stuck* if `once` |
//! | `current` is new, no start record, lock free | start |
//! | lock held, no living record | wait, bounded; then adopt, or *stuck* |
//! | start record of the new start, alive | write the end records, go to health |
//! | the same, dead | end records; health fails and undoes; after a power loss one more start first |

use super::run::{Advance, EngineError, Run};
use crate::host::{Host, HostError, NodeState, Precopy, StartEvidence};
use crate::journal::{Event, Intent};
use crate::model::StartId;
use crate::plan::{Gate, Phase, Step, StepKind};
use crate::step::{Notice, Report, StepEnd, StepError, await_clear, run_step};
use std::time::Duration;

impl<H: Host> Run<'_, H> {
    /// Ends the pre-copy, looks at the chain a last time, and writes the intent.
    pub(super) fn enter_critical(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        let precopy = self
            .plan
            .steps
            .iter()
            .find(|s| matches!(s.kind, StepKind::Precopy { .. }))
            .cloned();
        let gate_step = self
            .plan
            .steps
            .iter()
            .find(|s| matches!(s.kind, StepKind::ChainSafe { .. }))
            .cloned();
        if let (Gate::Closed(why), _) = self.chain_gate() {
            return Ok(Some(self.wait(vec![why], report)));
        }
        if let Some(held) = self.is_held()? {
            return Ok(Some(self.wait(vec![held], report)));
        }
        if let Some(step) = &precopy {
            report.notice(Notice::Progress(step, "last round".into()));
            if let Err(error) = self.host.precopy_end(self.generation()) {
                return self.give_up(&step.clone(), error.into(), report);
            }
        }
        self.host.claim_node();
        // Once the node is claimed nobody interrupts for its sake; what was said before still counts.
        if matches!(self.host.pause(Duration::ZERO), Err(HostError::Interrupted)) {
            self.host.release_node();
            return Ok(Some(Advance::Interrupted));
        }
        // Said while the last round went on, it still counts.
        if let Some(held) = self.is_held()? {
            self.host.release_node();
            return Ok(Some(self.wait(vec![held], report)));
        }
        let (gate, old_head) = self.chain_gate();
        let seen = match gate {
            Gate::Open(seen) => seen,
            Gate::Closed(why) => {
                self.host.release_node();
                return Ok(Some(self.wait(vec![why], report)));
            }
        };
        let old_start = match await_clear(self.host) {
            Ok(NodeState::Running { start, .. }) => Some(start),
            Ok(_) => None,
            Err(StepError::Host(HostError::Interrupted)) => {
                self.host.release_node();
                return Ok(Some(Advance::Interrupted));
            }
            Err(StepError::Host(other)) => return Err(other.into()),
            Err(other) => {
                self.host.release_node();
                return Ok(Some(self.wait(vec![other.to_string()], report)));
            }
        };
        if let Some(step) = &precopy {
            let note = match self.host.precopy(self.generation()) {
                Ok(Precopy::Ready { rounds, bytes }) => {
                    format!(
                        "{rounds} rounds, {} while the node ran",
                        bytesize::ByteSize(bytes)
                    )
                }
                _ => String::new(),
            };
            report.notice(Notice::Ended(step, 0, Some(note)));
        }
        if let Some(step) = &gate_step {
            report.notice(Notice::Ended(step, 0, Some(seen.clone())));
        }
        let steps = self
            .plan
            .phase(Phase::Critical)
            .map(|s| s.id.clone())
            .collect();
        let new_start = StartId(self.host.new_ulid());
        self.record(
            Event::Intent(Intent {
                steps,
                old_start,
                new_start,
                old_head,
                seen,
            }),
            true,
        )?;
        self.recovering = false;
        Ok(None)
    }

    /// Why an operator's override keeps the upgrade from beginning, if one does.
    fn is_held(&self) -> Result<Option<String>, EngineError> {
        let overrides = self.host.overrides()?;
        let held = overrides.hold.is_some() || overrides.stop.is_some();
        let why = "an operator holds upgrades or keeps the node stopped; `visor release-hold`, `visor start`";
        Ok(held.then(|| why.to_owned()))
    }

    /// Runs or completes the critical section. Leaves with the stage changed: confirming, undoing or stuck.
    pub(super) fn critical(
        &mut self,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        self.host.claim_node();
        if self.recovering && self.host.overrides()?.stop.is_some() {
            return self.stop_for_operator(report).map(Some);
        }
        let intent = self
            .status
            .intent
            .clone()
            .expect("the stage Critical has its record");
        let started = self.recovering
            && match self.settled_start(intent.new_start) {
                Ok(found) => found,
                Err(error) => return self.critical_error(&intent.steps, error, report),
            };
        let steps: Vec<Step> = self.plan.phase(Phase::Critical).cloned().collect();
        if self.recovering && !started && self.host.overrides()?.abort == Some(self.id) {
            self.begin_undo("aborted by an operator", report)?;
            return Ok(None);
        }
        let mut ends: Vec<(Step, u64, u64, StepEnd)> = Vec::new();
        for step in steps.into_iter().filter(|s| !self.status.is_done(&s.id)) {
            let began = self.host.now();
            if started {
                ends.push((
                    step,
                    began,
                    began,
                    StepEnd::note("found done after a crash"),
                ));
                continue;
            }
            match run_step(&self.cx(), &step, report) {
                Ok(end) => ends.push((step, began, self.host.now(), end)),
                Err(error) => {
                    self.write_ends(ends, report)?;
                    return self.critical_error(std::slice::from_ref(&step.id), error, report);
                }
            }
        }
        self.write_ends(ends, report)?;
        self.recovering = false;
        Ok(None)
    }

    /// After a crash: whether the new start left a record. A held lock is given time to become one.
    fn settled_start(&self, new_start: StartId) -> Result<bool, StepError> {
        if !self
            .plan
            .phase(Phase::Critical)
            .any(|s| s.kind == StepKind::Start)
        {
            return Ok(false);
        }
        if self.host.start_evidence(new_start)? == StartEvidence::None {
            await_clear(self.host)?;
        }
        Ok(self.host.start_evidence(new_start)? != StartEvidence::None)
    }

    /// The end records, synced together once the node runs.
    fn write_ends(
        &mut self,
        ends: Vec<(Step, u64, u64, StepEnd)>,
        report: &mut dyn Report,
    ) -> Result<(), EngineError> {
        let n = ends.len();
        for (i, (step, began, ended, mut end)) in ends.into_iter().enumerate() {
            report.notice(Notice::Ended(
                &step,
                ended.saturating_sub(began),
                end.note.clone(),
            ));
            end.facts.insert("ended".into(), ended);
            self.ended(&step.id, began, end, i + 1 == n)?;
        }
        Ok(())
    }

    fn critical_error(
        &mut self,
        steps: &[crate::plan::StepId],
        error: StepError,
        report: &mut dyn Report,
    ) -> Result<Option<Advance>, EngineError> {
        let step = steps
            .first()
            .and_then(|id| self.plan.step(id))
            .cloned()
            .expect("the critical section has steps");
        match error {
            StepError::Host(HostError::Interrupted) => return Ok(Some(Advance::Interrupted)),
            StepError::Host(other) => return Err(other.into()),
            StepError::Stuck(reason) => self.stuck(&step, &reason, report)?,
            StepError::Failed(_)
            | StepError::Refused(_)
            | StepError::Aborted
            | StepError::Stopped => {
                let text = error.to_string();
                report.notice(Notice::Failed(&step, &text));
                self.record(
                    Event::Failed {
                        step: step.id.clone(),
                        error: text.clone(),
                    },
                    true,
                )?;
                self.fail(&step, &format!("{}: {text}", step.name), false, report)?;
            }
        }
        Ok(None)
    }
}

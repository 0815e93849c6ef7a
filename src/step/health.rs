//! Health of a started release: it lives, it answers, its head moves past where the old one stopped.

use super::report::{Notice, Report};
use super::run::{Cx, StepEnd, StepError};
use crate::host::{Host, HostError, StartEvidence};
use crate::model::{ChainSpec, HealthSpec, StartId, human_ms};
use crate::plan::{Fact, Overrides, Step};
use std::time::Duration;

/// Waits until the process of `start` is healthy, or says what is missing.
pub fn await_health<H: Host>(
    cx: &Cx<'_, H>,
    step: &Step,
    health: &HealthSpec,
    start: StartId,
    old_head: Option<u64>,
    report: &mut dyn Report,
) -> Result<StepEnd, StepError> {
    let began = cx.host.ticks();
    let within = u64::try_from(health.within.as_millis()).unwrap_or(u64::MAX);
    let alive_for = u64::try_from(health.alive.as_millis()).unwrap_or(u64::MAX);
    let evm = matches!(cx.plan.node.chain, ChainSpec::Evm { .. });
    let mut end = StepEnd::default();
    let mut first: Option<u64> = None;
    let mut missing;
    loop {
        let lived = cx.host.ticks().saturating_sub(began);
        // What visor itself cannot read just now says nothing of the release.
        let trouble = match cx.host.start_evidence(start) {
            Ok(StartEvidence::Alive) => None,
            // We told it to end, and were told otherwise before it did.
            Ok(StartEvidence::Dead { .. }) if cx.status.paused => return Err(StepError::Stopped),
            Ok(StartEvidence::Dead { exit, .. }) => {
                let exit = exit.unwrap_or_else(|| "exit status unknown".into());
                return Err(StepError::Failed(format!(
                    "the process ended after {}: {exit}",
                    human_ms(lived)
                )));
            }
            Ok(StartEvidence::None) => {
                return Err(StepError::Failed("the process left no start record".into()));
            }
            Err(HostError::Failed(why)) => Some(why),
            Err(other) => return Err(other.into()),
        };
        let overrides = match cx.host.overrides() {
            Err(HostError::Failed(_)) => Overrides::default(),
            other => other?,
        };
        if overrides.abort == Some(cx.run) && cx.status.undo.is_none() {
            return Err(StepError::Aborted);
        }
        if overrides.stop.is_some() {
            return Err(StepError::Stopped);
        }
        missing = if evm {
            vec![]
        } else {
            vec![format!("to live for {}", human_ms(alive_for))]
        };
        if evm {
            match cx.host.chain(&cx.plan.node.chain).head {
                Fact::Known(head) => {
                    let base = *first.get_or_insert_with(|| {
                        end.facts.insert("first-answer".into(), cx.host.now());
                        head
                    });
                    end.facts.insert("head".into(), head);
                    let want = base
                        .saturating_add(health.blocks)
                        .max(old_head.unwrap_or(0));
                    if head < want {
                        missing.push(format!("the head to rise to {want}: it is {head}"));
                    }
                }
                Fact::Unknown(why) => missing.push(format!("an answer: {why}")),
            }
        }
        missing.extend(trouble);
        let wanting = if evm {
            !missing.is_empty()
        } else {
            missing.len() > 1
        };
        if lived >= alive_for && !wanting {
            end.note = Some(match end.facts.get("head") {
                Some(head) => format!("head {head}"),
                None => "alive".into(),
            });
            return Ok(end);
        }
        if lived >= within {
            return Err(StepError::Failed(format!(
                "not healthy within {}: it wanted {}",
                human_ms(within),
                missing.join(" and ")
            )));
        }
        report.notice(Notice::Progress(step, missing.join("; ")));
        // Close to the start, so that the first answer is timed well; later, so that a slow node is not pestered.
        let nap = if first.is_none() && lived < 10_000 {
            20
        } else {
            200
        };
        cx.host.pause(Duration::from_millis(nap))?;
    }
}

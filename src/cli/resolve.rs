//! `visor resolve`: a person's word about a stuck step.

use super::args::{Global, ResolveAnswer};
use super::context::{Context, person};
use super::error::{CliError, Exit};
use super::out;
use super::reconcile::one_pass;
use crate::journal::Stage;
use crate::model::Answer;
use crate::observe::run_summaries;
use crate::plan::{Resolution, StepKind};
use std::time::Duration;

pub(super) fn resolve(
    global: &Global,
    answer: ResolveAnswer,
    reason: &str,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let host = cx.host();
    let runs = run_summaries(&host).map_err(crate::observe::ObserveError::from)?;
    let stuck = runs
        .iter()
        .rfind(|r| r.is_open())
        .and_then(|r| match &r.status.stage {
            Stage::Stuck(at) => Some((r, at)),
            _ => None,
        });
    let Some((run, at)) = stuck else {
        return Err(CliError::usage(
            "no run is stuck, so there is nothing to resolve",
            "See `visor status`.",
        ));
    };
    let answer = match answer {
        ResolveAnswer::Done => Answer::Done,
        ResolveAnswer::NotDone => Answer::NotDone,
        ResolveAnswer::GiveUp => Answer::GiveUp,
        ResolveAnswer::RollBack => Answer::RollBack,
    };
    if answer == Answer::RollBack && !matches!(*at.stage, Stage::Critical | Stage::Confirming) {
        return Err(CliError::usage(
            format!(
                "run {} is {}: it cannot be rolled back from there",
                run.run,
                at.stage.word()
            ),
            "Say `not-done` to try the step again, or `done` once you have seen to it yourself.",
        ));
    }
    let carries = run
        .plan
        .step(&at.step)
        .is_some_and(|s| s.kind == StepKind::CarryKeep);
    if answer == Answer::Done && carries {
        return Err(CliError::usage(
            "carrying signer state over cannot be taken as done: visor compares every file itself",
            "Put the missing file into the live data directory and say `not-done`.",
        ));
    }
    let word = Resolution {
        run: run.run,
        seq: run.status.n_records,
        answer,
        by: person(),
        reason: reason.to_owned(),
    };
    let (id, seq) = (word.run, word.seq);
    cx.override_(&format!("resolve run {id}: {answer:?}"), |now| {
        now.resolution = Some(word)
    })?;
    match cx.try_lock("resolve")? {
        Ok(_lock) => one_pass(cx),
        Err(_) => {
            out::line(
                "visor: told the visor that works on this node; waiting until it has taken it up",
            );
            for _ in 0..100 {
                let runs = run_summaries(&host).map_err(crate::observe::ObserveError::from)?;
                if runs.iter().any(|r| r.run == id && r.status.n_records > seq) {
                    out::line("visor: taken up; `visor status` shows how it goes on");
                    return Ok(Exit::Done);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            out::line("visor: not taken up within 10 s; it is kept, and `visor status` shows it");
            Ok(Exit::Blocked)
        }
    }
}

//! `visor resolve`: a person's word about a stuck step.

use super::args::{Global, ResolveAnswer};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use super::reach::Reach;
use super::reconcile::one_pass;
use crate::control::Request;
use crate::model::Answer;
use std::time::Duration;

pub(super) fn resolve(
    global: &Global,
    answer: ResolveAnswer,
    reason: &str,
) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let reach = Reach::new(&cx)?;
    let answer = match answer {
        ResolveAnswer::Done => Answer::Done,
        ResolveAnswer::NotDone => Answer::NotDone,
        ResolveAnswer::GiveUp => Answer::GiveUp,
        ResolveAnswer::RollBack => Answer::RollBack,
    };
    let reason = reason.to_owned();
    let noted = reach.ask(&Request::Resolve { answer, reason })?;
    if reach.visor().is_none()
        && let Ok(lock) = cx.try_lock("resolve")?
    {
        drop(reach);
        let exit = one_pass(cx);
        drop(lock);
        return exit;
    }
    out::line("visor: told the visor that works on this node; waiting until it has taken it up");
    let id = noted.run.map(|run| run.to_string());
    for _ in 0..100 {
        let status = reach.status()?;
        let open = status.run.filter(|r| Some(&r.run) == id.as_ref());
        if open.is_none_or(|r| r.records > noted.records) {
            out::line("visor: taken up; `visor status` shows how it goes on");
            return Ok(Exit::Done);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    out::line("visor: not taken up within 10 s; it is kept, and `visor status` shows it");
    Ok(Exit::Blocked)
}

//! `visor reconcile` and `visor run`.

use super::args::{Global, ReconcileOptions};
use super::context::{Context, ambient_of_run, ambient_with_signals};
use super::error::{CliError, Exit};
use super::out;
use super::reach::Reach;
use super::report::Lines;
use super::systemd::{Announced, Systemd};
use crate::agent::{Live, Pass, PassEnd, Patience, Supervised, supervise};
use crate::check::{duration, platform};
use crate::control::{LastRun, Request, Server, Status};
use crate::host::{
    Ambient, Baton, Chains as _, HostError, RealHost, Requests as _, Say, wall_clock,
};
use crate::journal::Outcome;
use crate::model::human_ms;
use crate::observe::observe;
use crate::plan::{Gate, Plan, StepKind, chain_safe, diff as compare, diff_text, trigger};
use crate::process::run_as_first;
use crate::release::is_staged;
use crate::step::{Report, row};
use crate::store::{LockError, StateLock};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long `run` waits for another command to pass.
const PASSING: Duration = Duration::from_secs(10);

pub(super) fn reconcile(global: &Global, options: &ReconcileOptions) -> Result<Exit, CliError> {
    let mut cx = Context::open(global)?;
    if options.dry_run {
        return dry_run(&cx);
    }
    if options.abort {
        return abort(cx);
    }
    let patience = match options.wait.as_deref() {
        None => Patience::OnePass,
        Some("forever") => Patience::Until(None),
        Some(text) => {
            let time = duration(text).ok_or_else(|| {
                CliError::usage(
                    format!("`--wait={text}` is not a duration"),
                    "Write for example --wait=10m, or --wait alone.",
                )
            })?;
            Patience::Until(Some(
                wall_clock() + u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2),
            ))
        }
    };
    if options.plan.is_none() {
        let reach = Reach::new(&cx)?;
        if reach.visor().is_some() {
            return through(&reach, patience);
        }
    }
    let saved = options
        .plan
        .as_deref()
        .map(|path| super::saved::read(&cx, path))
        .transpose()?;
    let _lock = cx.lock("reconcile")?;
    let ambient = ambient_with_signals("reconcile")?;
    let host = RealHost::new(&cx.node().spec, ambient, Baton::default());
    if let Some(saved) = &saved {
        let observed = observe(cx.node(), &host)?;
        let d = compare(cx.node(), &observed, &platform());
        let moved = saved.moved(&d, &observed);
        if !moved.is_empty() {
            super::saved::tell_stale(&moved);
            return Ok(Exit::Stale);
        }
    }
    let mut report = Lines::new();
    let end = Pass {
        host: &host,
        wish: &mut cx.wish,
        patience,
        supervised: false,
        stuck: Arc::default(),
        report: &mut report,
        complaint: String::new(),
        only: saved.map(|s| s.plan.map(|p| p.digest)),
    }
    .run()?;
    drop(report);
    if end == PassEnd::Done {
        let observed = observe(cx.node(), &host)?;
        out::data(&diff_text(&compare(cx.node(), &observed, &platform())));
    }
    Ok(tell(&end))
}

/// Says how a pass ended; its exit code.
pub(super) fn tell(end: &PassEnd) -> Exit {
    match end {
        PassEnd::Done => Exit::Done,
        PassEnd::Cancelled(detail) => {
            out::line(&format!("visor: {detail}"));
            Exit::Done
        }
        PassEnd::Blocked(why) => {
            out::line(&format!("visor: blocked\n  {}", why.join("\n  ")));
            Exit::Blocked
        }
        PassEnd::Abandoned(detail) => {
            out::line(&format!(
                "visor: given up before the node was touched; the next pass tries again\n  {detail}"
            ));
            Exit::Blocked
        }
        PassEnd::RolledBack(detail) => {
            out::line(&format!(
                "visor: failed and rolled back\n  {detail}\n  It is not tried again until it changes or `visor upgrade retry`."
            ));
            Exit::RolledBack
        }
        PassEnd::GivenUp(detail) => {
            out::line(&format!("visor: {detail}"));
            Exit::Stuck
        }
        PassEnd::Stuck { run, step, reason } => tell_stuck(run, step, reason),
        PassEnd::Interrupted => {
            out::line("visor: interrupted; `visor reconcile` goes on where it was");
            Exit::Interrupted
        }
    }
}

fn tell_stuck(run: impl std::fmt::Display, step: &str, reason: &str) -> Exit {
    out::line(&format!(
        "visor: run {run} is stuck at {step}\n  {reason}\n  See `visor status`; then say what is true with `visor resolve done|not-done|roll-back|give-up`."
    ));
    Exit::Stuck
}

/// The gates and probes of the next plan, and nothing else.
fn dry_run(cx: &Context) -> Result<Exit, CliError> {
    let host = cx.host();
    let observed = observe(cx.node(), &host)?;
    let d = compare(cx.node(), &observed, &platform());
    out::data(&diff_text(&d));
    let Some(plan) = &d.next else {
        return Ok(super::plan::exit_of(&d));
    };
    out::data(&format!("\nsteps of {}\n", plan.action.describe()));
    for step in &plan.steps {
        let probe = probe(&host, plan, &step.kind)?;
        out::data(&format!(
            "  {:<28} {:<12} {probe}\n",
            step.name,
            row(&step.kind).class.word()
        ));
    }
    Ok(super::plan::exit_of(&d))
}

fn probe(host: &RealHost, plan: &Plan, kind: &StepKind) -> Result<String, CliError> {
    let gate = |gate: Gate| match gate {
        Gate::Open(seen) => format!("open: {seen}"),
        Gate::Closed(why) => format!("closed: {why}"),
    };
    Ok(match kind {
        StepKind::Fetch { artifact, release } | StepKind::Stage { artifact, release } => {
            let done = is_staged(&host.layout, artifact, release, &plan.node.launch.binary)?;
            if done {
                "done already".into()
            } else {
                "would run".into()
            }
        }
        StepKind::Trigger { trigger: wanted } => match &plan.action {
            crate::plan::Action::Upgrade { name, .. } => gate(trigger(
                wanted,
                name,
                &host.chain(&plan.node.chain),
                &host.overrides()?,
            )),
            crate::plan::Action::Install { .. } => String::new(),
        },
        StepKind::ChainSafe { chain } => gate(chain_safe(chain, &host.chain(chain))),
        _ => "would run".into(),
    })
}

/// Asks the open run to turn back: through the visor that works on it, or here.
fn abort(cx: Context) -> Result<Exit, CliError> {
    let reach = Reach::new(&cx)?;
    let run = reach.ask(&Request::Abort {})?.run;
    let run = run.map(|run| run.to_string()).unwrap_or_default();
    let mut told = false;
    let mut tell_once = |who: String| {
        if !std::mem::replace(&mut told, true) {
            out::line(&format!(
                "visor: asked {who} to turn run {run} back; waiting"
            ));
        }
    };
    loop {
        match reach.visor() {
            Some(visor) => tell_once(format!("`visor run` (pid {})", visor.pid)),
            None => match cx.try_lock("reconcile --abort")? {
                Ok(lock) => {
                    drop(reach);
                    let exit = one_pass(cx);
                    drop(lock);
                    return exit;
                }
                Err(owner) => tell_once(owner.map_or_else(
                    || "another visor".into(),
                    |o| format!("`visor {}` (pid {})", o.command, o.pid),
                )),
            },
        }
        let status = reach.status()?;
        let is_open = status.run.is_some_and(|open| open.run == run);
        let is_last = |last: &LastRun| last.run == run;
        if !is_open && !status.last_run.as_ref().is_some_and(is_last) {
            out::line(&format!(
                "visor: run {run} is over, and another came since; `visor history` shows how it ended"
            ));
            return Ok(Exit::Blocked);
        }
        if let Some(last) = status.last_run.filter(is_last) {
            let detail = last.detail;
            return Ok(tell(&match last.outcome {
                Outcome::RolledBack => PassEnd::RolledBack(detail),
                Outcome::Cancelled | Outcome::Abandoned => PassEnd::Cancelled(detail),
                Outcome::GivenUp => PassEnd::GivenUp(detail),
                Outcome::Committed => {
                    return Err(CliError::usage(
                        format!("run {run} was committed before the request reached it"),
                        "Write an upgrade to another release instead.",
                    ));
                }
            }));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Asks the visor that keeps the node to do all that can be done now, and watches it. Told to end, it only looks no longer.
fn through(reach: &Reach<'_>, patience: Patience) -> Result<Exit, CliError> {
    let ended = ambient_with_signals("reconcile")?.interrupt;
    let before = reach.status()?;
    let begun = before.now.as_ref().map_or(0, |n| n.begun);
    reach.ask(&Request::Reconcile {})?;
    if let Some(visor) = reach.visor() {
        out::line(&format!(
            "visor: the visor of pid {} works on it",
            visor.pid
        ));
    }
    let mut doing = String::new();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let status = reach.status()?;
        let pid = |s: &Status| s.visor.as_ref().map(|o| o.pid);
        if reach.visor().is_none() || pid(&status) != pid(&before) {
            out::line("visor: it is no longer there; `visor reconcile` goes on where it was");
            return Ok(Exit::Interrupted);
        }
        let now = status.now.clone().unwrap_or_default();
        let step = now.doing.map(|d| d.what).unwrap_or_default();
        if !step.is_empty() && step != doing {
            out::line(&format!("  {step}"));
            doing = step;
        }
        let last = |s: &Status| s.last_run.as_ref().map(|r| r.run.clone());
        if let Some(closed) = status
            .last_run
            .as_ref()
            .filter(|_| last(&status) != last(&before))
        {
            let detail = closed.detail.clone();
            match closed.outcome {
                Outcome::Committed => {}
                Outcome::RolledBack => return Ok(tell(&PassEnd::RolledBack(detail))),
                Outcome::Abandoned => return Ok(tell(&PassEnd::Abandoned(detail))),
                Outcome::Cancelled => return Ok(tell(&PassEnd::Cancelled(detail))),
                Outcome::GivenUp => return Ok(tell(&PassEnd::GivenUp(detail))),
            }
        }
        if ended.load(Ordering::Relaxed) {
            out::line("visor: no longer watched; `visor run` goes on");
            return Ok(Exit::Interrupted);
        }
        if let Some(run) = status.run.as_ref()
            && let (Some(at), Some(reason)) = (&run.stuck_at, &run.reason)
        {
            return Ok(tell_stuck(&run.run, at, reason));
        }
        // One that was under way when it was asked for does not count.
        if now.looks <= begun {
            continue;
        }
        if status.states.iter().any(|s| s.state.is_work()) {
            continue;
        }
        let waits: Vec<String> = now.waits.into_iter().map(|w| w.what).collect();
        let is_over = match patience {
            Patience::Until(None) | Patience::Forever => false,
            Patience::Until(Some(until)) => wall_clock() >= until,
            Patience::OnePass => true,
        };
        if waits.is_empty() {
            out::data(&diff_text(&status.diff));
            return Ok(Exit::Done);
        }
        if is_over {
            let due = status.run.is_some()
                || !status.diff.blocked.is_empty()
                || !status.diff.overrides.is_empty();
            if due || patience != Patience::OnePass {
                return Ok(tell(&PassEnd::Blocked(waits)));
            }
            out::data(&diff_text(&status.diff));
            return Ok(Exit::Done);
        }
    }
}

/// One pass by a command that holds the lock, for a run that is open.
pub(super) fn one_pass(mut cx: Context) -> Result<Exit, CliError> {
    let host = RealHost::new(
        &cx.node().spec,
        ambient_with_signals("reconcile")?,
        Baton::default(),
    );
    let mut report = Lines::new();
    let end = Pass {
        host: &host,
        wish: &mut cx.wish,
        patience: Patience::OnePass,
        supervised: false,
        stuck: Arc::default(),
        report: &mut report,
        complaint: String::new(),
        only: None,
    }
    .run()?;
    drop(report);
    Ok(tell(&end))
}

/// A command that passes does not keep `run` from its work; another `run` does.
fn lock_of_run(cx: &Context) -> Result<StateLock, CliError> {
    let began = std::time::Instant::now();
    loop {
        match cx.try_lock("run")? {
            Ok(lock) => return Ok(lock),
            Err(owner)
                if owner.as_ref().is_some_and(|o| o.command == "run")
                    || began.elapsed() > PASSING =>
            {
                return Err(LockError::Held(owner).into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// `visor run` below a parent that reaps: in a container there is no other.
pub(super) fn run_as_container() -> Result<ExitCode, CliError> {
    let refuse = || {
        out::line(
            "visor: USR1 is refused: in this container the node would end with visor; stop the container instead",
        );
    };
    run_as_first(&refuse)
        .map(ExitCode::from)
        .map_err(|e| CliError::Machine(format!("the first process: {e}")))
}

/// The node is kept whether or not the control socket can be had.
fn listen(cx: &Context, ambient: &Ambient, live: &Arc<Live>) -> Option<Server> {
    let group = cx.node().control_group.as_deref();
    for group in [group, None] {
        match Server::start(&cx.wish, group, ambient, live) {
            Ok(server) => return Some(server),
            Err(error) => out::line(&format!(
                "visor: {}; who may do so still writes to visor's records",
                HostError::from_error(&error)
            )),
        }
        if group.is_none() {
            break;
        }
    }
    None
}

pub(super) fn run(global: &Global) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let _lock = lock_of_run(&cx)?;
    let systemd = Systemd::new();
    let live = Arc::new(Live::default());
    let mut ambient = Ambient {
        signs: systemd.signs(),
        ..ambient_of_run()?
    };
    let (say, told) = (ambient.say.clone(), Arc::clone(&live));
    ambient.say = Say(Arc::new(move |text| {
        told.said(text);
        (say.0)(text);
    }));
    let _answers = listen(&cx, &ambient, &live);
    let began = wall_clock();
    out::line(&format!(
        "visor: run of node {} below {}",
        cx.node().spec.name,
        cx.layout.root.display()
    ));
    let report = || -> Box<dyn Report + Send> {
        Box::new(Announced {
            lines: Lines::new(),
            systemd: Arc::clone(&systemd),
            live: Arc::clone(&live),
        })
    };
    let end = supervise(&cx.wish, &ambient, &report, &live)?;
    out::line(&format!(
        "visor: ran for {}",
        human_ms(wall_clock() - began)
    ));
    match end {
        Supervised::Stopped => Ok(Exit::Done),
        Supervised::Left => {
            out::line("visor: the node is left as it is; the next `visor run` takes it over");
            Ok(Exit::Done)
        }
        Supervised::NotStopped => {
            out::line(
                "visor: the node does not end within its grace, and lives on; `visor status` shows it",
            );
            Ok(Exit::Stuck)
        }
    }
}
